"""Avro's types as values, and which values a type has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


@dataclass(frozen=True, slots=True, eq=False)
class Primitive:
    """A primitive type; ``decimal`` is precision and scale where its bytes are a decimal."""

    kind: str
    decimal: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Collection:
    """An array (``items``) or a map (``values``)."""

    kind: str
    inner: Type
    inner_name: str


@dataclass(frozen=True, slots=True, eq=False)
class Union:
    """A union's branches, in order."""

    branches: tuple[Type, ...]
    kind: str = "union"


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """What the named types share: the full name, and the full names that they were known by."""

    kind: str
    name: str
    aliases: frozenset[str]

    @property
    def short_name(self) -> str:
        """Return the name without its namespace."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True, slots=True, eq=False)
class Enum(Named):
    """An enumeration."""

    symbols: tuple[str, ...]
    default: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Fixed(Named):
    """Bytes of a fixed size."""

    size: int
    decimal: tuple[int, int] | None


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A record's field."""

    name: str
    aliases: tuple[str, ...]
    type: Type
    has_default: bool
    default: object


@dataclass(frozen=True, slots=True, eq=False)
class Record(Named):
    """A record. Its fields are filled in after it is made, since they may refer to it."""

    fields: list[Field]


Type = Primitive | Collection | Union | Enum | Fixed | Record


def fits(kind: Type, value: object) -> bool:
    """Tell whether a default is a value of the type; of a union, any branch will do."""
    match kind:
        case Union():
            return any(fits(branch, value) for branch in kind.branches)
        case Collection():
            values: Iterator[object] | None = _values(kind.kind, value)
            return values is not None and all(fits(kind.inner, inner) for inner in values)
        case Record():
            return isinstance(value, dict) and all(
                fits(field.type, value[field.name]) if field.name in value else field.has_default
                for field in kind.fields
            )
        case Enum():
            return value in kind.symbols
        case Fixed():
            return _is_bytes(value) and len(str(value)) == kind.size
        case Primitive():
            return _PRIMITIVE_FITS[kind.kind](value)


def _values(kind: str, value: object) -> Iterator[object] | None:
    if kind == "array":
        return iter(value) if isinstance(value, list) else None
    return iter(value.values()) if isinstance(value, dict) else None


def _is_bytes(value: object) -> bool:
    return isinstance(value, str) and all(ord(character) < 256 for character in value)


def _is_integer(value: object, bits: int) -> bool:
    limit = 1 << (bits - 1)
    return isinstance(value, int) and not isinstance(value, bool) and -limit <= value < limit


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_PRIMITIVE_FITS: dict[str, Callable[[object], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "int": lambda value: _is_integer(value, 32),
    "long": lambda value: _is_integer(value, 64),
    "float": _is_number,
    "double": _is_number,
    "bytes": _is_bytes,
    "string": lambda value: isinstance(value, str),
}

"""Avro schemas, parsed strictly: what every language's library can read, and nothing else.

Rules: Avro 1.12 specification, "Schema Declaration". Names, defaults and unions are checked as the Java library does;
custom properties (``sensitivity``, ``hongyan.type``…) are allowed anywhere and mean nothing here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from fastavro import parse_schema
from fastavro.schema import SchemaParseException, UnknownType

from services.registry.avro_types import (
    PRIMITIVES,
    Collection,
    Enum,
    Field,
    Fixed,
    Named,
    Primitive,
    Record,
    Type,
    Union,
    fits,
)

MAX_DEPTH = 64
"""Deepest nesting of JSON values in a schema: it bounds every recursion over one."""
MAX_CHARACTERS = 256 * 1024
"""Longest canonical text: it bounds the record on the log, and the work that a schema makes."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_FULL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*", re.ASCII)


class InvalidSchemaError(Exception):
    """The text is no Avro schema."""


class SchemaTooLargeError(InvalidSchemaError):
    """The schema is larger than the registry keeps."""


def parse(text: str) -> Type:
    """Parse a schema's JSON text (or a bare primitive's name); raises InvalidSchemaError that names the place."""
    return _parse(_loaded(text))


def canonical(text: str) -> str:
    """Return the schema's one text: keys sorted, no white space, everything kept. Raises InvalidSchemaError.

    ``doc`` and custom properties are part of it, as in Confluent's comparison: another ``doc`` is another schema.
    """
    schema = _loaded(text)
    _parse(schema)
    return _dumped(schema)


def _loaded(text: str) -> Any:  # noqa: ANN401  (a schema is any JSON)
    try:
        schema = text.strip() if text.strip() in PRIMITIVES else json.loads(text, parse_constant=_no_constant)
        size = len(_dumped(schema))
    except RecursionError:
        raise InvalidSchemaError(f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise InvalidSchemaError(f"not JSON: {error}") from error
    if size > MAX_CHARACTERS:
        raise SchemaTooLargeError(f"the schema has {size} characters; at most {MAX_CHARACTERS} are kept")
    level = [schema]
    for _ in range(MAX_DEPTH):
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return schema
    raise InvalidSchemaError(f"nested deeper than {MAX_DEPTH} levels")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _dumped(schema: object) -> str:
    text = json.dumps(schema, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    text.encode()  # a lone surrogate is no text: UnicodeEncodeError is a ValueError
    return text


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _parse(schema: object) -> Type:
    if isinstance(schema, dict) and any(key.startswith("__fastavro") for key in schema):
        raise InvalidSchemaError("a library's own mark (__fastavro…) is no property")
    parser = _Parser()
    parsed = parser.type(schema, "", "")
    parser.check_defaults()
    try:
        # Our own codec must be able to use it, too.
        parse_schema(schema, _write_hint=False, _force=True)  # type: ignore[arg-type]
    except (SchemaParseException, UnknownType, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidSchemaError(f"{type(error).__name__}: {error}") from error
    return parsed


class _Parser:
    def __init__(self) -> None:
        self._names: dict[str, Record | Enum | Fixed] = {}
        self._defaults: list[tuple[Field, str]] = []

    def check_defaults(self) -> None:
        """Check the defaults, when every type is complete."""
        for field, path in self._defaults:
            if not fits(field.type, field.default):
                raise InvalidSchemaError(f"{path}/default: {json.dumps(field.default)} is no value of the field's type")

    def type(self, schema: object, namespace: str, path: str) -> Type:
        """Parse a schema inside a namespace."""
        if isinstance(schema, str):
            return self._reference(schema, namespace, path)
        if isinstance(schema, list):
            return self._union(schema, namespace, path)
        if not isinstance(schema, dict):
            raise InvalidSchemaError(f"{path or '/'}: a type's name, an object or a list is needed, not {schema!r}")
        kind = schema.get("type")
        if kind in PRIMITIVES:
            return Primitive(kind, _decimal(schema) if kind == "bytes" else None)
        parse_one = self._kinds().get(kind) if isinstance(kind, str) else None
        if parse_one is None:
            raise InvalidSchemaError(f"{path}/type: {kind!r} is no type")
        return parse_one(schema, namespace, path)

    def _kinds(self) -> dict[str, Callable[[dict[str, Any], str, str], Type]]:
        return {
            "record": self._record,
            "error": self._record,
            "enum": self._enum,
            "fixed": self._fixed,
            "array": lambda schema, space, path: self._collection("array", "items", schema, space, path),
            "map": lambda schema, space, path: self._collection("map", "values", schema, space, path),
        }

    def _reference(self, name: str, namespace: str, path: str) -> Type:
        if name in PRIMITIVES:
            return Primitive(name)
        found = self._names.get(_qualified(name, namespace))
        if found is None:
            raise InvalidSchemaError(f"{path or '/'}: {name!r} is neither a type nor the name of one defined before")
        return found

    def _union(self, schema: list[Any], namespace: str, path: str) -> Union:
        branches = tuple(self.type(branch, namespace, f"{path}/{n}") for n, branch in enumerate(schema))
        labels = [b.name if isinstance(b, Named) else b.kind for b in branches]
        if not labels or "union" in labels or len(set(labels)) < len(labels):
            found = ", ".join(labels) or "nothing"
            raise InvalidSchemaError(f"{path or '/'}: a union holds no union, and no type twice; found {found}")
        return Union(branches)

    def _collection(self, kind: str, inner: str, schema: dict[str, Any], namespace: str, path: str) -> Collection:
        if inner not in schema:
            raise InvalidSchemaError(f"{path}: an {kind} needs {inner}")
        return Collection(kind, self.type(schema[inner], namespace, f"{path}/{inner}"), inner)

    def _record(self, schema: dict[str, Any], namespace: str, path: str) -> Record:
        name, aliases = self._name(schema, namespace, path)
        record = Record("record", name, aliases, [])
        self._names[name] = record
        inner = name.rpartition(".")[0]
        for number, field in enumerate(_list(schema, "fields", path)):
            record.fields.append(self._field(field, inner, f"{path}/fields/{number}"))
        names = [field.name for field in record.fields]
        if len(set(names)) < len(names):
            raise InvalidSchemaError(f"{path}/fields: a field's name comes twice: {', '.join(names)}")
        return record

    def _field(self, schema: object, namespace: str, path: str) -> Field:
        if not isinstance(schema, dict) or not _is_name(schema.get("name")) or "type" not in schema:
            raise InvalidSchemaError(f"{path}: a field is an object with a name and a type")
        aliases = _list(schema, "aliases", path, optional=True)
        if not all(_is_name(alias) for alias in aliases):
            raise InvalidSchemaError(f"{path}/aliases: names are needed")
        kind = self.type(schema["type"], namespace, f"{path}/type")
        field = Field(schema["name"], tuple(aliases), kind, "default" in schema, schema.get("default"))
        if field.has_default:
            self._defaults.append((field, path))
        return field

    def _enum(self, schema: dict[str, Any], namespace: str, path: str) -> Enum:
        name, aliases = self._name(schema, namespace, path)
        symbols, default = _list(schema, "symbols", path), schema.get("default")
        if not all(_is_name(symbol) for symbol in symbols) or len(set(symbols)) < len(symbols):
            raise InvalidSchemaError(f"{path}/symbols: names are needed, none of them twice")
        if default is not None and default not in symbols:
            raise InvalidSchemaError(f"{path}/default: {default!r} is not among the symbols")
        self._names[name] = enum = Enum("enum", name, aliases, tuple(symbols), default)
        return enum

    def _fixed(self, schema: dict[str, Any], namespace: str, path: str) -> Fixed:
        name, aliases = self._name(schema, namespace, path)
        size = schema.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise InvalidSchemaError(f"{path}/size: a number of bytes is needed")
        self._names[name] = fixed = Fixed("fixed", name, aliases, size, _decimal(schema))
        return fixed

    def _name(self, schema: dict[str, Any], namespace: str, path: str) -> tuple[str, frozenset[str]]:
        given, space = schema.get("name"), schema.get("namespace", namespace)
        if not isinstance(given, str) or not _FULL_NAME.fullmatch(given):
            raise InvalidSchemaError(f"{path}/name: {given!r} is no name")
        if not isinstance(space, str) or (space and not _FULL_NAME.fullmatch(space)):
            raise InvalidSchemaError(f"{path}/namespace: {space!r} is no namespace")
        name = _qualified(given, space)
        if name in self._names or name in PRIMITIVES:
            raise InvalidSchemaError(f"{path}/name: {name} is defined already")
        aliases = _list(schema, "aliases", path, optional=True)
        if not all(isinstance(alias, str) and _FULL_NAME.fullmatch(alias) for alias in aliases):
            raise InvalidSchemaError(f"{path}/aliases: names are needed")
        return name, frozenset(_qualified(alias, name.rpartition(".")[0]) for alias in aliases)


def _list(schema: dict[str, Any], key: str, path: str, *, optional: bool = False) -> list[Any]:
    found = schema.get(key, [] if optional else None)
    if not isinstance(found, list):
        raise InvalidSchemaError(f"{path}/{key}: a list is needed")
    return found


def _is_name(name: object) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _qualified(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _decimal(schema: dict[str, Any]) -> tuple[int, int] | None:
    precision, scale = schema.get("precision"), schema.get("scale", 0)
    if schema.get("logicalType") != "decimal" or not isinstance(precision, int) or not isinstance(scale, int):
        return None  # a logical type that isn't well-formed is none, says the specification
    return precision, scale

"""Avro compatibility: can a reader's schema read what a writer's schema wrote?

Rules: Avro 1.12 specification, "Schema Resolution", with the cases of the Java library's ``SchemaCompatibility``.
Records that refer to themselves are compatible unless something in them is not: the greatest fixed point, reached by
comparing anew, with what was learned, until nothing new is learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.registry.avro_types import Collection, Enum, Field, Fixed, Named, Primitive, Record, Type, Union

LEVELS = ("NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE")
MAX_STEPS = 200_000
MAX_DEPTH = 80
"""A comparison that needs more than this is refused: every instance must come to the same verdict, and come to it."""

_PROMOTIONS = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}


@dataclass(frozen=True, slots=True)
class Incompatibility:
    """Why one schema can't read another: the kind (Java's names), the place as a JSON pointer into the reader."""

    kind: str
    path: str
    detail: str

    def __str__(self) -> str:
        return f"{{errorType:'{self.kind}', description:'at {self.path or '/'}: {self.detail}'}}"


def incompatibilities(level: str, new: Type, earlier: Sequence[tuple[int, Type]]) -> list[str]:
    """Return why ``new`` may not follow the earlier versions (number and schema, oldest first); empty when it may."""
    if level == "NONE":
        return []
    messages: list[str] = []
    for number, old in earlier if level.endswith("_TRANSITIVE") else earlier[-1:]:
        found: list[str] = []
        if level.startswith(("BACKWARD", "FULL")):
            found += [f"the new schema can't read version {number}: {p}" for p in reading_problems(new, old)]
        if level.startswith(("FORWARD", "FULL")):
            found += [f"version {number} can't read the new schema: {p}" for p in reading_problems(old, new)]
        messages += [*found, f"{{oldSchemaVersion: {number}}}", f"{{compatibility: '{level}'}}"] if found else []
    return messages


def reading_problems(reader: Type, writer: Type) -> list[Incompatibility]:
    """Return why data written with ``writer`` can't be read with ``reader``; empty when it can."""
    comparison = _Comparison()
    try:
        while True:
            known = len(comparison.failed)
            problems = comparison.run(reader, writer)
            if len(comparison.failed) == known:
                return list(dict.fromkeys(problems))
    except _TooComplexError:
        return [Incompatibility("TOO_COMPLEX", "", "the two schemas are too intricate to be compared")]


class _TooComplexError(Exception):
    pass


class _Comparison:
    def __init__(self) -> None:
        self.failed: set[tuple[Record, Record]] = set()
        self._compared: dict[tuple[Record, Record], list[Incompatibility] | None] = {}
        self._steps = 0
        self._depth = 0

    def run(self, reader: Type, writer: Type) -> list[Incompatibility]:
        """Compare once, trusting the records under way unless they have failed before."""
        self._compared.clear()
        return self._compare(reader, writer, "")

    def _compare(self, reader: Type, writer: Type, path: str) -> list[Incompatibility]:
        self._steps += 1
        if self._steps > MAX_STEPS or self._depth > MAX_DEPTH:
            raise _TooComplexError
        self._depth += 1
        try:
            if isinstance(writer, Union):
                return [p for branch in writer.branches for p in self._compare(reader, branch, path)]
            if isinstance(reader, Union):
                return self._into_union(reader, writer, path)
            return self._plain(reader, writer, path)
        finally:
            self._depth -= 1

    def _into_union(self, reader: Union, writer: Type, path: str) -> list[Incompatibility]:
        for number, branch in enumerate(reader.branches):
            if not self._compare(branch, writer, f"{path}/{number}"):
                return []
        return [Incompatibility("MISSING_UNION_BRANCH", path, f"the reader's union has no branch for {_label(writer)}")]

    def _plain(self, reader: Type, writer: Type, path: str) -> list[Incompatibility]:
        match reader, writer:
            case Record(), Record():
                return self._records(reader, writer, path)
            case Collection(), Collection() if reader.kind == writer.kind:
                return self._compare(reader.inner, writer.inner, f"{path}/{reader.inner_name}")
            case Enum(), Enum():
                return [*_name_problems(reader, writer, path), *_symbol_problems(reader, writer, path)]
            case Fixed(), Fixed():
                return [*_name_problems(reader, writer, path), *_size_problems(reader, writer, path)]
            case Primitive(), Primitive() if reader.kind == writer.kind:
                return _decimal_problems(reader, writer, path)
            case _ if reader.kind in _PROMOTIONS.get(writer.kind, ()):
                return []
        return [Incompatibility("TYPE_MISMATCH", path, f"{_label(writer)} can't be read as {_label(reader)}")]

    def _records(self, reader: Record, writer: Record, path: str) -> list[Incompatibility]:
        pair = (reader, writer)
        if pair in self._compared:
            known = self._compared[pair]
            return known if known is not None else self._under_way(pair, path)
        self._compared[pair] = None
        problems = _name_problems(reader, writer, path)
        written = {field.name: field for field in writer.fields}
        for number, field in enumerate(reader.fields):
            problems += self._field(field, written, f"{path}/fields/{number}")
        self._compared[pair] = problems
        if problems:
            self.failed.add(pair)
        return problems

    def _under_way(self, pair: tuple[Record, Record], path: str) -> list[Incompatibility]:
        if pair not in self.failed:
            return []
        return [Incompatibility("TYPE_MISMATCH", path, f"{pair[1].name} can't be read as {pair[0].name}, see there")]

    def _field(self, field: Field, written: dict[str, Field], path: str) -> list[Incompatibility]:
        found = next((written[name] for name in (field.name, *field.aliases) if name in written), None)
        if found is not None:
            return self._compare(field.type, found.type, f"{path}/type")
        if field.has_default:
            return []
        detail = f"the field {field.name} has no default, and what was written lacks it"
        return [Incompatibility("READER_FIELD_MISSING_DEFAULT_VALUE", path, detail)]


def _name_problems(reader: Named, writer: Named, path: str) -> list[Incompatibility]:
    if reader.short_name == writer.short_name or writer.name in reader.aliases:
        return []
    return [Incompatibility("NAME_MISMATCH", f"{path}/name", f"expected {reader.name}, found {writer.name}")]


def _symbol_problems(reader: Enum, writer: Enum, path: str) -> list[Incompatibility]:
    missing = [symbol for symbol in writer.symbols if symbol not in reader.symbols]
    if not missing or reader.default is not None:
        return []
    detail = f"the reader lacks {', '.join(missing)} and has no default"
    return [Incompatibility("MISSING_ENUM_SYMBOLS", f"{path}/symbols", detail)]


def _size_problems(reader: Fixed, writer: Fixed, path: str) -> list[Incompatibility]:
    if reader.size == writer.size:
        return _decimal_problems(reader, writer, path)
    return [Incompatibility("FIXED_SIZE_MISMATCH", f"{path}/size", f"expected {reader.size}, found {writer.size}")]


def _decimal_problems(reader: Primitive | Fixed, writer: Primitive | Fixed, path: str) -> list[Incompatibility]:
    """Two decimals match if their precisions and scales do (the specification; Java's checker leaves it out)."""
    if reader.decimal is None or writer.decimal is None or reader.decimal == writer.decimal:
        return []
    detail = "expected decimal({}, {}), found decimal({}, {})".format(*reader.decimal, *writer.decimal)
    return [Incompatibility("TYPE_MISMATCH", path, detail)]


def _label(kind: Type) -> str:
    return kind.name if isinstance(kind, Named) else kind.kind

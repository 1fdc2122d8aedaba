"""Avro compatibility: can a reader's schema read what a writer's schema wrote?

Rules: Avro 1.12 specification, "Schema Resolution", in the order and with the cases of the Java library's
``SchemaCompatibility``. Both schemas come parsed as plain JSON values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Any
_PRIMITIVE = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
_PROMOTIONS = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}
LEVELS = ("NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE")


def incompatibilities(level: str, new: Schema, earlier: list[Schema]) -> list[str]:
    """Return why ``new`` may not follow the earlier versions (oldest first) at this level; empty when it may."""
    if level == "NONE" or not earlier:
        return []
    against = earlier if level.endswith("_TRANSITIVE") else earlier[-1:]
    problems: list[str] = []
    for old in against:
        if level.startswith(("BACKWARD", "FULL")):
            problems += reading_problems(reader=new, writer=old)
        if level.startswith(("FORWARD", "FULL")):
            problems += reading_problems(reader=old, writer=new)
    return problems


def reading_problems(reader: Schema, writer: Schema) -> list[str]:
    """Return why data written with ``writer`` can't be read with ``reader``, each with the path to the place."""
    return _Comparison(_names(reader), _names(writer)).compare(reader, writer, "/")


class _Comparison:
    def __init__(self, readers: Mapping[str, Schema], writers: Mapping[str, Schema]) -> None:
        self._readers = readers
        self._writers = writers
        self._underway: set[tuple[str, str]] = set()

    def compare(self, reader: Schema, writer: Schema, path: str) -> list[str]:
        reader, writer = _resolve(reader, self._readers), _resolve(writer, self._writers)
        if isinstance(writer, list):
            return [p for n, branch in enumerate(writer) for p in self.compare(reader, branch, f"{path}{n}/")]
        if isinstance(reader, list):
            return self._into_union(reader, writer, path)
        return self._plain(reader, writer, path)

    def _into_union(self, reader: list[Schema], writer: Schema, path: str) -> list[str]:
        if any(not self._tried(branch, writer) for branch in reader):
            return []
        return [f"{path}: MISSING_UNION_BRANCH, the reader's union has no branch for {_label(writer)}"]

    def _tried(self, branch: Schema, writer: Schema) -> list[str]:
        underway = set(self._underway)
        problems = self.compare(branch, writer, "")
        self._underway = underway
        return problems

    def _plain(self, reader: Schema, writer: Schema, path: str) -> list[str]:
        kind, written = _kind(reader), _kind(writer)
        if kind != written:
            return [] if kind in _PROMOTIONS.get(written, ()) else [_mismatch(reader, writer, path)]
        match kind:
            case "array":
                return self.compare(reader["items"], writer["items"], f"{path}items/")
            case "map":
                return self.compare(reader["values"], writer["values"], f"{path}values/")
            case "fixed":
                return self._fixed(reader, writer, path)
            case "enum":
                return self._enum(reader, writer, path)
            case "record":
                return self._record(reader, writer, path)
            case _:
                return []

    def _fixed(self, reader: Schema, writer: Schema, path: str) -> list[str]:
        problems = _name_problems(reader, writer, path)
        if reader["size"] != writer["size"]:
            problems.append(f"{path}size: FIXED_SIZE_MISMATCH, expected {reader['size']}, found {writer['size']}")
        return problems

    def _enum(self, reader: Schema, writer: Schema, path: str) -> list[str]:
        problems = _name_problems(reader, writer, path)
        missing = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
        if missing and "default" not in reader:
            problems.append(f"{path}symbols: MISSING_ENUM_SYMBOLS, the reader lacks {', '.join(missing)}")
        return problems

    def _record(self, reader: Schema, writer: Schema, path: str) -> list[str]:
        pair = (_full_name(reader), _full_name(writer))
        if pair in self._underway:
            return []
        self._underway.add(pair)
        problems = _name_problems(reader, writer, path)
        written = {field["name"]: field for field in writer["fields"]}
        for number, field in enumerate(reader["fields"]):
            here = f"{path}fields/{number}/"
            names = [field["name"], *field.get("aliases", ())]
            found = next((written[name] for name in names if name in written), None)
            if found is not None:
                problems += self.compare(field["type"], found["type"], f"{here}type/")
            elif "default" not in field:
                problems.append(f"{here}: READER_FIELD_MISSING_DEFAULT_VALUE, {field['name']} has no default")
        return problems


def _name_problems(reader: Schema, writer: Schema, path: str) -> list[str]:
    written = _full_name(writer)
    known = {_full_name(reader), *(_qualified(alias, reader.get("namespace")) for alias in reader.get("aliases", ()))}
    if written in known or written.rpartition(".")[2] == _full_name(reader).rpartition(".")[2]:
        return []
    return [f"{path}name: NAME_MISMATCH, expected {_full_name(reader)}, found {written}"]


def _mismatch(reader: Schema, writer: Schema, path: str) -> str:
    return f"{path}: TYPE_MISMATCH, a reader of {_label(reader)} can't read {_label(writer)}"


def _label(schema: Schema) -> str:
    return _full_name(schema) if isinstance(schema, dict) and "name" in schema else _kind(schema)


def _kind(schema: Schema) -> str:
    if isinstance(schema, list):
        return "union"
    return str(schema["type"]) if isinstance(schema, dict) else str(schema)


def _resolve(schema: Schema, names: Mapping[str, Schema]) -> Schema:
    while isinstance(schema, dict) and isinstance(schema.get("type"), dict | list):
        schema = schema["type"]
    if isinstance(schema, str) and schema not in _PRIMITIVE:
        return names.get(schema, schema)
    return schema


def _qualified(name: str, namespace: str | None) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _full_name(schema: Schema) -> str:
    return _qualified(schema.get("name", ""), schema.get("namespace"))


def _names(schema: Schema, namespace: str | None = None) -> dict[str, Schema]:
    """Return the named types of a schema under their full and, for references within a namespace, short names."""
    found: dict[str, Schema] = {}
    if isinstance(schema, list):
        for branch in schema:
            found |= _names(branch, namespace)
    elif isinstance(schema, dict):
        here = schema.get("namespace", namespace)
        if schema.get("type") in {"record", "enum", "fixed", "error"}:
            found |= {_qualified(schema["name"], here): schema, schema["name"]: schema}
        for inner in (schema.get("items"), schema.get("values"), *(f["type"] for f in schema.get("fields", ()))):
            found |= _names(inner, here) if isinstance(inner, dict | list) else {}
        if isinstance(schema.get("type"), dict | list):
            found |= _names(schema["type"], here)
    return found

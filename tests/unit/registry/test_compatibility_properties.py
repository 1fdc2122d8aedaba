"""The checker against data and against Avro's own checker, on schemas that evolve at random."""

from __future__ import annotations

import copy
import io
import json
from typing import Any

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse as parse_with_avro
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from services.registry.avro import InvalidSchemaError, parse
from services.registry.avro_types import PRIMITIVES
from services.registry.compatibility import reading_problems

Schema = Any
SYMBOLS = ["A", "B", "C", "D"]
primitives = st.sampled_from(sorted(PRIMITIVES))


@st.composite
def schemas(draw: st.DrawFn, depth: int = 3, names: list[int] | None = None) -> Schema:
    """Draw a schema; names are unique within it, records may refer to themselves."""
    names = [0] if names is None else names
    kinds = ["primitive", "enum", "fixed"] + (["record", "record", "array", "map", "union"] if depth else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "primitive":
        return draw(primitives)
    if kind in {"array", "map"}:
        return {"type": kind, ("items" if kind == "array" else "values"): draw(schemas(depth - 1, names))}
    if kind == "union":
        return unique([draw(schemas(depth - 1, names)) for _ in range(draw(st.integers(1, 3)))])
    names[0] += 1
    named = {"type": kind, "name": f"{kind.title()}{names[0]}"}
    if kind == "enum":
        return {**named, "symbols": draw(st.lists(st.sampled_from(SYMBOLS), min_size=1, unique=True))}
    if kind == "fixed":
        return {**named, "size": draw(st.integers(0, 3))}
    fields = [{"name": f"f{n}", "type": draw(schemas(depth - 1, names))} for n in range(draw(st.integers(0, 3)))]
    if draw(st.booleans()):
        fields.append({"name": "self", "type": ["null", named["name"]]})
    return {**named, "fields": fields}


def label(schema: Schema) -> str:
    """Return what may come only once in a union."""
    if isinstance(schema, dict):
        return str(schema.get("name", schema["type"]))
    return "union" if isinstance(schema, list) else str(schema)


def unique(branches: list[Schema]) -> list[Schema]:
    """Return a union without the branches that no union may have."""
    flat = [inner for branch in branches for inner in (branch if isinstance(branch, list) else [branch])]
    return list({label(branch): branch for branch in flat}.values())


@st.composite
def evolved(draw: st.DrawFn, schema: Schema) -> Schema:
    """Draw what may become of a schema in the next version."""
    schema = copy.deepcopy(schema)
    if draw(st.integers(0, 7)) == 0:
        return unique(["null", *(schema if isinstance(schema, list) else [schema])])
    if isinstance(schema, list):
        branches = [draw(evolved(branch)) for branch in schema]
        return unique(branches[: max(1, len(branches) - draw(st.integers(0, 1)))])
    if isinstance(schema, str):
        return draw(primitives) if schema in PRIMITIVES and draw(st.booleans()) else schema
    for inner in ("items", "values"):
        if inner in schema:
            schema[inner] = draw(evolved(schema[inner]))
    if "size" in schema:
        schema["size"] += draw(st.sampled_from([0, 0, 1]))
    if "symbols" in schema:
        schema["symbols"] = draw(st.lists(st.sampled_from(SYMBOLS), min_size=1, unique=True))
        if draw(st.booleans()):
            schema["default"] = schema["symbols"][0]
    if "fields" in schema:
        schema["fields"] = draw(evolved_fields(schema["fields"]))
    return draw(renamed(schema)) if "name" in schema else schema


@st.composite
def evolved_fields(draw: st.DrawFn, fields: list[Schema]) -> list[Schema]:
    """Draw fields changed, dropped, renamed with or without an alias, added with or without a default, and shuffled."""
    kept = []
    for field in fields:
        change = draw(st.sampled_from(["keep", "keep", "keep", "drop", "rename", "alias"]))
        new = {**field, "type": draw(evolved(field["type"]))}
        if change in {"rename", "alias"}:
            new["name"] = f"{field['name']}_new"
        if change == "alias":
            new["aliases"] = [field["name"]]
        if change != "drop":
            kept.append(new)
    added = draw(st.sampled_from([None, None, {"name": "added", "type": "int", "default": 0}]))
    more = draw(st.sampled_from([None, None, None, {"name": "required", "type": "string"}]))
    return draw(st.permutations([field for field in [*kept, added, more] if field]))


@st.composite
def renamed(draw: st.DrawFn, schema: Schema) -> Schema:
    """Draw a named type under another name, with or without the old one as its alias, or as it was."""
    change = draw(st.sampled_from(["keep", "keep", "keep", "keep", "rename", "alias"]))
    if change == "keep":
        return schema
    old = schema["name"]
    new = json.loads(json.dumps(schema).replace(f'"{old}"', f'"{old}New"'))
    return {**new, "aliases": [old]} if change == "alias" else new


@st.composite
def values(draw: st.DrawFn, schema: Schema, known: dict[str, Schema] | None = None, depth: int = 4) -> Any:
    """Draw a value that this schema writes."""
    known = {} if known is None else known
    if isinstance(schema, list):
        branch = draw(st.sampled_from(schema if depth else [b for b in schema if b == "null"] or schema))
        value = draw(values(branch, known, depth - 1))
        return (label(branch), value) if label(branch) not in {*PRIMITIVES, "array", "map"} else value
    if isinstance(schema, str):
        return draw(PRIMITIVE_VALUES[schema]) if schema in PRIMITIVES else draw(values(known[schema], known, depth))
    match schema["type"]:
        case "array":
            return draw(st.lists(values(schema["items"], known, depth - 1), max_size=2))
        case "map":
            return draw(st.dictionaries(st.text("ab", max_size=1), values(schema["values"], known, depth - 1)))
        case "enum":
            return draw(st.sampled_from(schema["symbols"]))
        case "fixed":
            return b"x" * schema["size"]
    known[schema["name"]] = schema
    return {field["name"]: draw(values(field["type"], known, depth - 1)) for field in schema["fields"]}


PRIMITIVE_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "bytes": st.binary(max_size=3).map(lambda raw: bytes(b & 0x7F for b in raw)),
    "string": st.text(max_size=3),
}


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Schema, Schema]:
    """Draw a writer's schema and a reader's that came out of it."""
    writer = draw(schemas())
    reader = draw(evolved(writer))
    try:
        parse(json.dumps(reader)), parse(json.dumps(writer))
    except InvalidSchemaError:
        assume(False)
    return reader, writer


@settings(max_examples=300, deadline=None, derandomize=True)
@given(pairs(), st.data())
def test_what_is_called_compatible_can_be_read(pair: tuple[Schema, Schema], data: st.DataObject) -> None:
    """Whatever the writer's schema writes, fastavro reads with a reader's schema that the checker lets pass."""
    reader, writer = pair
    compatible = not reading_problems(parse(json.dumps(reader)), parse(json.dumps(writer)))
    event(f"compatible: {compatible}")
    assume(compatible)
    written = io.BytesIO()
    drawn = data.draw(values(writer))
    try:
        schemaless_writer(written, parse_schema(writer), drawn)
    except ValueError:
        # fastavro's writer takes no branch's name inside an array of a union; what is not written proves nothing.
        assume(False)
    written.seek(0)
    schemaless_reader(written, parse_schema(writer), parse_schema(reader))
    assert not written.read()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(pairs())
def test_the_verdict_is_that_of_avros_own_checker(pair: tuple[Schema, Schema]) -> None:
    """On the same pair, the Avro project's checker for Python says the same."""
    reader, writer = (parse_with_avro(json.dumps(schema)) for schema in pair)
    theirs = ReaderWriterCompatibilityChecker().get_compatibility(reader, writer).compatibility
    problems = reading_problems(*(parse(json.dumps(schema)) for schema in pair))
    event(f"compatible: {not problems}")
    assert (not problems) is (theirs is SchemaCompatibilityType.compatible), problems

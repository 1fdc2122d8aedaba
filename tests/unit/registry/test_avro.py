"""The strict parser: what it takes, what it refuses, and the one text of a schema."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from schemas.contracts import load_contracts
from services.registry.avro import MAX_CHARACTERS, InvalidSchemaError, SchemaTooLargeError, canonical, parse
from services.registry.avro_types import Record, Union


def record(*fields: dict[str, Any], **properties: Any) -> str:
    """Return the text of a record with these fields."""
    return json.dumps({"type": "record", "name": "R", "fields": fields, **properties})


@pytest.mark.parametrize("kind", sorted(load_contracts().types))
def test_every_contract_of_ours_is_taken(kind: str) -> None:
    """A schema that we publish parses, and its canonical text says the same."""
    schema = load_contracts().types[kind].schema
    assert json.loads(canonical(json.dumps(schema))) == schema


def test_order_of_keys_and_white_space_make_no_difference() -> None:
    """Two ways to write one schema have one canonical text."""
    one = '{"type": "fixed", "name": "F", "size": 4}'
    other = '{\n "size":4,"name":"F",\n "type":"fixed"}'
    assert canonical(one) == canonical(other) == '{"name":"F","size":4,"type":"fixed"}'


@pytest.mark.parametrize("change", [{"doc": "另一种说明"}, {"sensitivity": "personal"}])
def test_doc_and_custom_properties_make_another_schema(change: dict[str, str]) -> None:
    """What people and the catalogue read in a schema is part of it."""
    assert canonical(record()) != canonical(record(**change))


def test_bare_and_quoted_primitive_are_the_same() -> None:
    """Clients send either form of a primitive type."""
    assert canonical("string") == canonical('"string"') == '"string"'


def test_a_name_is_looked_up_in_the_enclosing_namespace() -> None:
    """A reference without a dot is of the record's namespace, and an alias too."""
    inner = {"name": "a", "type": {"type": "enum", "name": "E", "symbols": ["X"], "aliases": ["Old"]}}
    parsed = parse(record(inner, {"name": "b", "type": "n.s.E"}, {"name": "c", "type": "E"}, namespace="n.s"))
    assert isinstance(parsed, Record)
    first, second, third = (field.type for field in parsed.fields)
    assert first is second is third
    assert getattr(first, "aliases") == {"n.s.Old"}  # noqa: B009


def test_a_record_may_refer_to_itself() -> None:
    """A linked list is an Avro schema."""
    parsed = parse(record({"name": "next", "type": ["null", "R"], "default": None}))
    assert isinstance(parsed, Record)
    assert isinstance(parsed.fields[0].type, Union)
    assert parsed.fields[0].type.branches[1] is parsed


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("nonsense", "not JSON"),
        ("{}", "/type"),
        ("12", "a type's name"),
        ('"Unknown"', "neither a type nor the name"),
        ('{"type":"record","name":"R"}', "/fields"),
        ('{"type":"record","fields":[]}', "/name"),
        ('{"type":"record","name":"a-b","fields":[]}', "/name"),
        ('{"type":"record","name":"R","namespace":"1","fields":[]}', "/namespace"),
        ('{"type":"record","name":"R","aliases":[1],"fields":[]}', "/aliases"),
        ('{"type":"array"}', "needs items"),
        ('{"type":"map","values":"V"}', "/values"),
        ('{"type":"fixed","name":"F","size":"4"}', "/size"),
        ('{"type":"enum","name":"E","symbols":["A","A"]}', "/symbols"),
        ('{"type":"enum","name":"E","symbols":["A"],"default":"B"}', "/default"),
        ('["int","int"]', "no type twice"),
        ('["null",["int"]]', "no union"),
        ("[]", "nothing"),
        (record({"name": "a", "type": "int"}, {"name": "a", "type": "int"}), "comes twice"),
        (record({"name": "a", "type": "nope"}), "/fields/0/type"),
        (record({"name": "a"}), "/fields/0"),
        (record({"name": "a", "type": "int", "aliases": ["1"]}), "/fields/0/aliases"),
        (record({"name": "a", "type": {"type": "record", "name": "R", "fields": []}}), "defined already"),
        ('{"__fastavro_parsed":true,"type":"record","name":"R","fields":[]}', "__fastavro"),
        ('{"type":"fixed","name":"F","size":1e999}', "not JSON"),
        ('"\\ud800"', "not JSON"),
        ("[" * 100_000, "nested deeper"),
        ('{"type":"array","items":' * 70 + '"int"' + "}" * 70, "nested deeper"),
    ],
)
def test_what_is_no_schema_is_refused_with_its_place(text: str, place: str) -> None:
    """The message names the place, so that the author finds it."""
    with pytest.raises(InvalidSchemaError, match=re.escape(place)):
        canonical(text)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("null", None, 0),
        ("boolean", True, 1),
        ("int", 2**31 - 1, 2**31),
        ("int", 0, True),
        ("long", -(2**63), 2**63),
        ("float", 1.5, "1.5"),
        ("string", "é", 1),
        ("bytes", "\u00ff", "\u0100"),
        (["null", "string"], "second branch", 1),
        ({"type": "array", "items": "int"}, [1], ["1"]),
        ({"type": "map", "values": "int"}, {"a": 1}, {"a": "1"}),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "A", "B"),
        ({"type": "fixed", "name": "F", "size": 2}, "ab", "abc"),
        ({"type": "record", "name": "I", "fields": [{"name": "x", "type": "int"}]}, {"x": 1}, {}),
    ],
)
def test_a_default_must_be_a_value_of_its_type(kind: object, good: object, bad: object) -> None:
    """A default that no reader could use is refused when the schema comes in, not when it is needed."""
    parse(record({"name": "a", "type": kind, "default": good}))
    with pytest.raises(InvalidSchemaError, match=r"/fields/0/default|Default value"):
        parse(record({"name": "a", "type": kind, "default": bad}))


def test_a_schema_beyond_the_limit_is_refused_as_too_large() -> None:
    """The record on the log stays small enough for any broker."""
    with pytest.raises(SchemaTooLargeError):
        canonical(record(doc="x" * MAX_CHARACTERS))

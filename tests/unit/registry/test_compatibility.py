"""The rules of schema resolution, case by case (the table of the specification and of Java's own tests)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.registry.avro import parse
from services.registry.compatibility import LEVELS, incompatibilities, reading_problems

INT_LIST, LONG_LIST = {"type": "array", "items": "int"}, {"type": "array", "items": "long"}
INT_MAP, LONG_MAP = {"type": "map", "values": "int"}, {"type": "map", "values": "long"}


def named(kind: str, name: str = "N", **properties: Any) -> dict[str, Any]:
    """Return a named type."""
    return {"type": kind, "name": name, **properties}


def enum(*symbols: str, name: str = "N", **properties: Any) -> dict[str, Any]:
    """Return an enumeration."""
    return named("enum", name, symbols=symbols, **properties)


def record(*fields: dict[str, Any], name: str = "N", **properties: Any) -> dict[str, Any]:
    """Return a record."""
    return named("record", name, fields=fields, **properties)


def field(name: str, kind: object = "int", **properties: Any) -> dict[str, Any]:
    """Return a field."""
    return {"name": name, "type": kind, **properties}


def problems(reader: object, writer: object) -> list[tuple[str, str]]:
    """Return the kinds and places of what is in the way."""
    found = reading_problems(parse(json.dumps(reader)), parse(json.dumps(writer)))
    return [(problem.kind, problem.path) for problem in found]


@pytest.mark.parametrize(
    ("reader", "writer"),
    [
        ("boolean", "boolean"),
        ("long", "int"),
        ("float", "int"),
        ("float", "long"),
        ("double", "int"),
        ("double", "long"),
        ("double", "float"),
        ("bytes", "string"),
        ("string", "bytes"),
        (LONG_LIST, INT_LIST),
        (LONG_MAP, INT_MAP),
        (enum("A", "B"), enum("A")),
        (enum("A", default="A"), enum("A", "B")),
        (named("fixed", size=4), named("fixed", size=4)),
        (["null", "int"], "int"),
        (["null", "long"], "int"),
        (["null", "int"], ["int"]),
        ("int", ["int"]),
        ("double", ["int", "float"]),
        (["string", "long"], ["bytes", "int"]),
        (record(), record(field("a"))),
        (record(field("a", default=0)), record()),
        (record(field("a", "long")), record(field("a"))),
        (record(field("b", aliases=["a"])), record(field("a"))),
        (record(name="New", aliases=["N"]), record()),
        (record(name="New", namespace="n", aliases=["N"]), record(namespace="n")),
        (record(namespace="one"), record(namespace="other")),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
            {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        ),
        ({"type": "long", "logicalType": "timestamp-millis"}, "long"),
    ],
)
def test_reads(reader: object, writer: object) -> None:
    """What the specification lets a reader read is compatible."""
    assert problems(reader, writer) == []


@pytest.mark.parametrize(
    ("reader", "writer", "kind", "place"),
    [
        ("null", "int", "TYPE_MISMATCH", ""),
        ("boolean", "int", "TYPE_MISMATCH", ""),
        ("int", "long", "TYPE_MISMATCH", ""),
        ("long", "float", "TYPE_MISMATCH", ""),
        ("float", "double", "TYPE_MISMATCH", ""),
        ("string", "int", "TYPE_MISMATCH", ""),
        (INT_LIST, LONG_LIST, "TYPE_MISMATCH", "/items"),
        (INT_MAP, LONG_MAP, "TYPE_MISMATCH", "/values"),
        (INT_LIST, INT_MAP, "TYPE_MISMATCH", ""),
        (enum("A"), "string", "TYPE_MISMATCH", ""),
        (enum("A"), enum("A", "B"), "MISSING_ENUM_SYMBOLS", "/symbols"),
        (enum("A", name="M"), enum("A"), "NAME_MISMATCH", "/name"),
        (named("fixed", size=4), named("fixed", size=8), "FIXED_SIZE_MISMATCH", "/size"),
        (named("fixed", "M", size=4), named("fixed", size=4), "NAME_MISMATCH", "/name"),
        ("int", ["int", "null"], "TYPE_MISMATCH", ""),
        (["null", "int"], "string", "MISSING_UNION_BRANCH", ""),
        (["int"], ["int", "string"], "MISSING_UNION_BRANCH", ""),
        (record(name="M"), record(), "NAME_MISMATCH", "/name"),
        (record(name="New", namespace="n", aliases=["N"]), record(namespace="m"), "NAME_MISMATCH", "/name"),
        (record(field("a")), record(), "READER_FIELD_MISSING_DEFAULT_VALUE", "/fields/0"),
        (record(field("z", default=1), field("a")), record(field("a", "long")), "TYPE_MISMATCH", "/fields/1/type"),
        (
            record(field("a", enum("A", name="E", default="A"))),
            record(),
            "READER_FIELD_MISSING_DEFAULT_VALUE",
            "/fields/0",
        ),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
            {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 4},
            "TYPE_MISMATCH",
            "",
        ),
    ],
)
def test_does_not_read(reader: object, writer: object, kind: str, place: str) -> None:
    """What can't be read is refused, with the kind and a pointer to the place."""
    assert problems(reader, writer) == [(kind, place)]


def tree(kind: object, inner: str = "N") -> dict[str, Any]:
    """Return a record that holds records of its own kind."""
    return record(field("value", kind), field("next", ["null", inner]))


def test_a_recursive_record_reads_itself() -> None:
    """Recursion ends, and is compatible unless something in it is not."""
    assert problems(tree("long"), tree("int")) == []


def test_a_fault_inside_a_recursive_record_is_found_wherever_it_is_reached() -> None:
    """A record trusted while under way is not trusted any more once it has failed."""
    assert ("TYPE_MISMATCH", "/fields/0/type") in problems(tree("int"), tree("string"))


def test_a_union_does_not_hide_a_fault_behind_a_record_under_way() -> None:
    """A branch taken for readable because its record was under way is judged anew when that record has failed."""
    reader = record(field("next", ["null", "N"]), field("value", "int"))
    writer = record(field("next", ["null", "N"]), field("value", "string"))
    assert ("MISSING_UNION_BRANCH", "/fields/0/type") in problems(reader, writer)


def test_types_of_one_short_name_in_two_namespaces_are_told_apart() -> None:
    """A reference means the type of its own namespace, not another of the same short name."""
    inner = [
        field("a", {**enum("X", name="E"), "namespace": "one"}),
        field("b", {**enum("X", "Y", name="E"), "namespace": "two"}),
    ]
    assert problems(record(*inner, field("c", "two.E")), record(*inner, field("c", "two.E"))) == []
    assert problems(record(*inner, field("c", "one.E")), record(*inner, field("c", "two.E"))) == [
        ("MISSING_ENUM_SYMBOLS", "/fields/2/type/symbols")
    ]


def test_a_pair_too_intricate_to_compare_is_refused_and_does_not_hang() -> None:
    """The fold must come to a verdict, or no instance would ever read on."""
    many = [record(field("x", "string"), name=f"R{n}") for n in range(700)]
    others = [record(field("x", "int"), name=f"S{n}") for n in range(700)]
    assert problems(others, many) == [("TOO_COMPLEX", "")]


def test_a_chain_of_references_deeper_than_any_nesting_is_refused_and_does_not_overflow() -> None:
    """References reach deeper than the text is nested; a verdict comes all the same."""
    links = [field(f"f{n}", record(field("x", f"R{n - 1}" if n else "int"), name=f"R{n}")) for n in range(300)]
    defined = record(*({**link, "name": f"old_{link['name']}"} for link in links), field("last", "R299"))
    with_defaults = [{**link, "type": ["null", link["type"]], "default": None} for link in links]
    assert problems(record(*links), record(*links)) == []
    assert problems(record(*with_defaults, field("last", "R299")), defined) == [("TOO_COMPLEX", "")]


OLD = record(field("a"))
ADDED_WITHOUT = record(field("a"), field("b", "string"))
ADDED_WITH = record(field("a"), field("b", "string", default=""))
REMOVED = record()


@pytest.mark.parametrize(
    ("level", "new", "allowed"),
    [
        ("NONE", record(name="Other"), True),
        ("BACKWARD", ADDED_WITHOUT, False),
        ("BACKWARD", ADDED_WITH, True),
        ("BACKWARD", REMOVED, True),
        ("FORWARD", ADDED_WITHOUT, True),
        ("FORWARD", REMOVED, False),
        ("FULL", ADDED_WITHOUT, False),
        ("FULL", ADDED_WITH, True),
        ("FULL", REMOVED, False),
    ],
)
def test_levels(level: str, new: object, allowed: bool) -> None:
    """BACKWARD reads the old, FORWARD is read by the old, FULL is both, NONE is neither."""
    messages = incompatibilities(level, parse(json.dumps(new)), [(1, parse(json.dumps(OLD)))])
    assert (not messages) is allowed


@pytest.mark.parametrize("level", [level for level in LEVELS if level != "NONE"])
def test_only_transitive_levels_look_beyond_the_last_version(level: str) -> None:
    """The type change against version 1 matters to the transitive levels alone."""
    versions = [(1, parse(json.dumps(record(field("a", "string"))))), (2, parse(json.dumps(record(field("b")))))]
    new = parse(json.dumps(record(field("a", "int", default=0), field("b"))))
    messages = incompatibilities(level, new, versions)
    assert bool(messages) is level.endswith("_TRANSITIVE")
    assert ("{oldSchemaVersion: 1}" in messages) is level.endswith("_TRANSITIVE")


def test_the_message_names_kind_place_and_version() -> None:
    """Whoever is refused knows what to change."""
    messages = incompatibilities("BACKWARD", parse(json.dumps(ADDED_WITHOUT)), [(3, parse(json.dumps(OLD)))])
    assert messages == [
        "the new schema can't read version 3: {errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', "
        "description:'at /fields/1: the field b has no default, and what was written lacks it'}",
        "{oldSchemaVersion: 3}",
        "{compatibility: 'BACKWARD'}",
    ]


def test_the_first_version_may_be_anything() -> None:
    """Nothing is there to be compatible with."""
    assert incompatibilities("FULL_TRANSITIVE", parse('"int"'), []) == []

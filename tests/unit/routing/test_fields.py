"""Field policies: what is left of an event, read by Apache Avro's own reader, over schemas that evolve."""

from __future__ import annotations

import copy
import io
import json
from itertools import pairwise
from typing import Any

import avro.io
import avro.schema
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from fastavro import parse_schema, schemaless_writer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.codec import FRAME_BYTES, UndecodableValue
from schemas.contracts import SENSITIVITIES, Schema, load_contracts, walk_fields
from schemas.registry_client import SchemaRefused
from services.routing.fields import FieldPolicy, derive, field_problems, masked_text, policy_of, union_id
from services.routing.redaction import REFUSED_S, PolicyFailedError, Redactor, derived_subject, with_dataschema
from tests.events import ARREARS, ISSUED
from tests.fakes.schemas import MemorySchemas

NESTED: Schema = {
    "type": "record",
    "name": "Inspected",
    "namespace": "cn.gov.sc.test",
    "hongyan.type": "cn.gov.sc.test.inspected",
    "fields": [
        {"name": "number", "type": "string", "sensitivity": "public"},
        {"name": "found_on", "type": {"type": "int", "logicalType": "date"}, "sensitivity": "internal"},
        {
            "name": "inspector",
            "sensitivity": "internal",
            "type": {
                "type": "record",
                "name": "Inspector",
                "fields": [
                    {"name": "name", "type": "string", "sensitivity": "personal"},
                    {"name": "badge", "type": "int", "sensitivity": "internal"},
                ],
            },
        },
        {"name": "deputy", "type": ["null", "Inspector"], "default": None, "sensitivity": "internal"},
        {
            "name": "findings",
            "sensitivity": "public",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Finding",
                    "fields": [
                        {"name": "text", "type": "string", "sensitivity": "public"},
                        {"name": "witness", "type": ["null", "string"], "default": None, "sensitivity": "personal"},
                        {"name": "fine", "type": ["null", "long"], "default": None, "sensitivity": "sensitive"},
                    ],
                },
            },
        },
        {"name": "tags", "type": {"type": "map", "values": "string"}, "sensitivity": "internal"},
        {"name": "scores", "type": {"type": "array", "items": "int"}, "sensitivity": "internal"},
        {"name": "grade", "type": {"type": "enum", "name": "Grade", "symbols": ["A", "B"]}, "sensitivity": "internal"},
    ],
}
DATA = {
    "number": "检-1",
    "found_on": 20000,
    "inspector": {"name": "张三丰", "badge": 7},
    "deputy": {"name": "李四", "badge": 8},
    "findings": [{"text": "漏水", "witness": "王五", "fine": 500}, {"text": "无", "witness": None, "fine": None}],
    "tags": {"a": "x"},
    "scores": [1, 2],
    "grade": "B",
}
PLAIN: Schema = {**NESTED, "fields": [f for f in NESTED["fields"] if f["name"] in {"number", "found_on", "scores"}]}


class StrictSchemas(MemorySchemas):
    """A registry that refuses what Apache Avro's own checker says can't read what the subject held before."""

    def __init__(self) -> None:
        super().__init__()
        self.subjects: dict[str, list[Schema]] = {}

    def id_of(self, subject: str, schema: Schema) -> int:
        """Return its id; raises SchemaRefused."""
        held = self.subjects.setdefault(subject, [])
        if schema not in held:
            if held and not reads(schema, held[-1]):
                raise SchemaRefused(f"{subject}: not compatible")
            held.append(schema)
        return super().id_of(subject, schema)


def reads(reader: Schema, writer: Schema) -> bool:
    """Tell by Apache Avro's checker whether one schema reads what was written in another."""
    parsed = [avro.schema.parse(json.dumps(one)) for one in (reader, writer)]
    found = ReaderWriterCompatibilityChecker().get_compatibility(*parsed)
    return bool(found.compatibility is SchemaCompatibilityType.compatible)


def framed(schema_id: int, schema: Schema, data: dict[str, Any]) -> bytes:
    """Return data in the wire format, written by fastavro."""
    body = io.BytesIO()
    schemaless_writer(body, parse_schema(copy.deepcopy(schema)), data)
    return b"\x00" + schema_id.to_bytes(4, "big") + body.getvalue()


def read_by_avro(value: bytes, writer: Schema, reader: Schema | None = None) -> Any:
    """Return what Apache Avro's reader makes of a value; dates as they are encoded."""
    parsed = [avro.schema.parse(json.dumps(_plain(one))) for one in (writer, reader or writer)]
    return avro.io.DatumReader(*parsed).read(avro.io.BinaryDecoder(io.BytesIO(value[FRAME_BYTES:])))


def _plain(kind: Any) -> Any:
    if isinstance(kind, dict):
        return {name: _plain(value) for name, value in kind.items() if name != "logicalType"}
    return [_plain(one) for one in kind] if isinstance(kind, list) else kind


def redacted(fields: dict[str, Any], schema: Schema = NESTED, data: dict[str, Any] = DATA) -> Any:
    """Return an event under a policy, as Apache Avro reads it."""
    schemas = MemorySchemas()
    policy = FieldPolicy.of(fields)
    value = framed(schemas.id_of("full", schema), schema, data)
    out, schema_id = Redactor(schemas, lambda _: policy).redact(value, policy.id)
    assert schema_id is not None
    assert int.from_bytes(out[1:5], "big") == schema_id
    return read_by_avro(out, schemas.schema_by_id(schema_id))


def test_levels_drop_what_is_not_granted_however_deep() -> None:
    """Nested records and the records of a list lose their own fields; a type by name follows its definition."""
    assert redacted({"levels": ["public", "internal"]}) == {
        **DATA,
        "inspector": {"badge": 7},
        "deputy": {"badge": 8},
        "findings": [{"text": "漏水"}, {"text": "无"}],
    }
    assert redacted({"levels": ["public"]}) == {"number": "检-1", "findings": [{"text": "漏水"}, {"text": "无"}]}


def test_single_fields_are_granted_masked_and_dropped_by_path() -> None:
    """Of a record that is not granted as a whole, the one field that is; a masked number or code becomes null."""
    policy = {
        "levels": ["public"],
        "grant": ["inspector.badge"],
        "mask": ["findings.witness", "findings.fine", "found_on", "grade", "tags", "scores"],
        "drop": ["number"],
    }
    assert redacted(policy) == {
        "found_on": None,
        "inspector": {"badge": 7},
        "findings": [{"text": "漏水", "witness": "王*", "fine": None}, {"text": "无", "witness": None, "fine": None}],
        "tags": None,
        "scores": [],
        "grade": None,
    }


def test_a_type_whose_definition_was_dropped_is_defined_where_it_is_next_used() -> None:
    """The deputy refers to the inspector's type by name, and the inspector is gone."""
    assert redacted({"levels": ["internal", "personal"], "drop": ["inspector"]})["deputy"] == DATA["deputy"]
    masked = redacted({"levels": ["public"], "mask": ["inspector", "deputy"]})
    assert (masked["inspector"], masked["deputy"]) == ({"name": "张**", "badge": None}, None)


def test_what_is_wholly_granted_stays_byte_for_byte() -> None:
    """And no derived schema comes to be."""
    schemas = MemorySchemas()
    value = framed(schemas.id_of("full", NESTED), NESTED, DATA)
    for fields in ({"levels": list(SENSITIVITIES)}, {"levels": [], "grant": [f["name"] for f in NESTED["fields"]]}):
        policy = FieldPolicy.of(fields)
        assert Redactor(schemas, lambda _, policy=policy: policy).redact(value, policy.id) == (value, None)  # type: ignore[misc]
    assert Redactor(schemas, FieldPolicy.of).redact(value, "") == (value, None)
    assert len(schemas.schemas) == 1


def test_an_event_of_which_nothing_is_granted_is_still_an_event() -> None:
    """It says so."""
    assert redacted({"levels": []}) == {"withheld": True}


def test_a_type_that_is_used_again_has_its_own_fields_there() -> None:
    """A policy goes by paths: the deputy's fields are not the inspector's, though both are of one type."""
    masked = {"levels": ["public"], "grant": ["deputy"], "mask": ["inspector.name"]}
    found = redacted(masked)
    assert found["inspector"] == {"name": "张**"}
    assert found["deputy"] == {"name": "李四", "badge": 8}
    shown = {"levels": ["public", "internal"], "grant": ["inspector.name"]}
    found = redacted(shown)
    assert found["inspector"] == {"name": "张三丰", "badge": 7}
    assert found["deputy"] == {"badge": 8}


def test_a_policy_that_the_registry_refuses_is_told_from_a_broken_value_and_asked_of_again_later() -> None:
    """Not at every event: once in a while."""

    class Refusing(MemorySchemas):
        asked, refuses = 0, True

        def id_of(self, subject: str, schema: Schema) -> int:
            if not self.refuses or subject == "full":
                return super().id_of(subject, schema)
            self.asked += 1
            raise SchemaRefused(subject)

    schemas, now = Refusing(), [0.0]
    policy = FieldPolicy.of({"levels": ["public"]})
    value = framed(schemas.id_of("full", NESTED), NESTED, DATA)
    redactor = Redactor(schemas, lambda _: policy, lambda: now[0])
    for _ in range(3):
        with pytest.raises(PolicyFailedError, match="refused"):
            redactor.redact(value, policy.id)
    assert schemas.asked == 2  # as it is derived, and cautiously
    schemas.refuses = False
    now[0] = REFUSED_S + 1
    assert redactor.redact(value, policy.id)[1] is not None


def test_a_broken_value_is_told_from_a_good_one() -> None:
    """Bytes that are no record of their schema are never passed on."""
    schemas = MemorySchemas()
    value = framed(schemas.id_of("full", NESTED), NESTED, DATA)
    policy = FieldPolicy.of({"levels": ["public"]})
    redactor = Redactor(schemas, lambda _: policy)
    for broken in (value[:-3], value + b"x", value[:5] + b"\xff" * 20):
        with pytest.raises(UndecodableValue):
            redactor.redact(broken, policy.id)


@pytest.mark.parametrize(("text", "masked"), [("", ""), ("张", "*"), ("张三", "张*"), ("13800000000", "1*****")])
def test_a_masked_text_keeps_its_first_character(text: str, masked: str) -> None:
    """And of a long one not even its length."""
    assert masked_text(text) == masked


def test_the_header_names_the_derived_schema() -> None:
    """The rest of the headers stays."""
    headers = [("ce_id", b"7"), ("ce_dataschema", b"http://registry:8081/schemas/ids/12")]
    assert with_dataschema(headers, 345) == [
        ("ce_id", b"7"),
        ("ce_dataschema", b"http://registry:8081/schemas/ids/345"),
    ]


LEVELS = st.lists(st.sampled_from(SENSITIVITIES), unique=True)


@st.composite
def policies(draw: st.DrawFn, schema: Schema = NESTED) -> dict[str, list[str]]:
    """Draw a policy over a schema's fields."""
    paths = st.lists(st.sampled_from([path for path, _ in walk_fields(schema)]), max_size=3, unique=True)
    return {"levels": draw(LEVELS), **{name: draw(paths) for name in ("grant", "mask", "drop")}}


def evolutions(schema: Schema) -> list[Schema]:
    """Return later versions of a schema, each compatible with the one before, and one after another."""
    added = copy.deepcopy(schema)
    added["fields"].append({"name": "note", "type": "string", "default": "", "sensitivity": "public"})
    wider = copy.deepcopy(added)
    inspector = next(f for f in wider["fields"] if f["name"] == "inspector")["type"]
    next(f for f in inspector["fields"] if f["name"] == "badge")["type"] = "long"
    levels = copy.deepcopy(wider)
    for field in levels["fields"]:
        field["sensitivity"] = {"public": "personal", "internal": "public"}.get(field["sensitivity"], "public")
    fewer = copy.deepcopy(levels)
    fewer["fields"] = [f for f in fewer["fields"] if f["name"] not in {"found_on", "note"}]
    return [schema, added, wider, levels, fewer]


def told_alike(own: Any, newest: Any) -> bool:
    """Tell whether two readings say the same wherever both say something, however deep; null says nothing."""
    if own is None or newest is None:
        return True
    if isinstance(own, dict) and isinstance(newest, dict):
        return all(told_alike(own[name], newest[name]) for name in own.keys() & newest.keys())
    if isinstance(own, list) and isinstance(newest, list):
        return len(own) == len(newest) and all(map(told_alike, own, newest))
    return bool(own == newest)


@settings(max_examples=60, deadline=None)
@given(st.one_of(policies(NESTED), policies(NESTED).map(lambda p: p | {"grant": [], "levels": ["public"]})))
@example({"levels": ["public"], "grant": ["number", "deputy"], "mask": [], "drop": []})
def test_readers_of_the_derived_schema_keep_working_when_the_full_one_evolves(fields: dict[str, Any]) -> None:
    """Fields are added, widened and removed, and their levels change: the newest reads all that was written before.

    In the example a record's type comes to be defined at a field that shows less of it: what the newest schema shows of
    the old event is less, and none of it is another value.
    """
    schemas, policy = StrictSchemas(), FieldPolicy.of(fields)
    redactor = Redactor(schemas, lambda _: policy)
    written = []
    for schema in evolutions(NESTED):
        value = framed(schemas.id_of("full", schema), schema, DATA | {"note": "n"})
        out, schema_id = redactor.redact(value, policy.id)
        written.append((out, schemas.schema_by_id(schema_id) if schema_id else schema, schema_id))
    versions = schemas.subjects.get(derived_subject(NESTED, policy.id), [])
    for out, schema, schema_id in written:
        own = read_by_avro(out, schema)
        if schema_id is not None and versions:
            newest = read_by_avro(out, schema, versions[-1])
            assert told_alike(own, newest), (own, newest)
    assert all(reads(later, earlier) for earlier, later in pairwise(versions))


@settings(max_examples=60, deadline=None)
@given(st.lists(policies(PLAIN), min_size=1, max_size=3))
def test_two_grants_of_one_agency_show_the_most_that_either_shows(granted: list[dict[str, Any]]) -> None:
    """Shown beats masked, masked beats dropped; the union's name does not hang on the order."""
    documents = {FieldPolicy.of(fields).id: fields for fields in granted}
    identity = union_id(list(documents))
    assert identity == union_id(sorted(documents, reverse=True))
    union = policy_of(identity, documents)
    order = ["show", "mask", "drop"]
    singles = [FieldPolicy.of(fields) for fields in granted]
    for path, field in walk_fields(PLAIN):
        outcomes = [policy.outcome(path, field["sensitivity"]) for policy in singles]
        assert union.outcome(path, field["sensitivity"]) == min(outcomes, key=order.index)
    assert union_id([identity, ""]) == ""


def test_a_policy_that_is_not_known_gives_least() -> None:
    """It can't be lost; were it lost, nothing but public fields would go out."""
    outcomes = policy_of("lost", {}).listing(NESTED)
    assert {outcomes["number"], outcomes["findings.text"]} == {"show"}
    assert {outcomes["inspector"], outcomes["findings.witness"]} == {"drop"}


def test_every_type_has_its_policies() -> None:
    """Derived for all of them, whatever levels are granted, with no field beyond."""
    for contract in load_contracts().types.values():
        for count in range(len(SENSITIVITIES)):
            levels = list(SENSITIVITIES[:count])
            derived = derive(contract.schema, FieldPolicy.of({"levels": levels}))
            if derived is not None:
                shown = {path for path, field in walk_fields(derived.schema) if field["name"] != "withheld"}
                assert shown <= {p for p, s in contract.sensitivities().items() if s in levels}


def test_what_a_policy_names_must_be_there() -> None:
    """A field that a type of the grant lacks can't be granted or masked, and one that all lack not dropped."""
    types = load_contracts().types
    schemas = {name: types[name].schema for name in (ISSUED, ARREARS)}
    fields = {"levels": ["public"], "grant": ["contact_name", "mobile"], "drop": ["contact_name", "mobile"]}
    found = field_problems(fields, schemas)
    assert [p.pointer for p in found] == ["/fields/grant/0", "/fields/grant/1", "/fields/drop/1"]
    assert ARREARS in found[0].detail
    assert ISSUED not in found[0].detail

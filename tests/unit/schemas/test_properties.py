"""Codec, validation and evolution, for whatever data a department may send, beside Apache Avro's own reader."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime
from typing import Any

import avro.io
import avro.schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.codec import FRAME_BYTES, Codec
from schemas.contracts import EventContract, Schema, load_contracts
from schemas.validation import InvalidData, ValidationRules, Validator
from tests.fakes.schemas import MemorySchemas

TYPES = load_contracts().types
NOW = datetime(2030, 1, 1, tzinfo=UTC)
VALIDATORS = {name: Validator(contract, ValidationRules()) for name, contract in TYPES.items()}
PARSED = {name: avro.schema.parse(json.dumps(contract.schema)) for name, contract in TYPES.items()}
TEXT = st.text(min_size=1, max_size=12)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def of_field(field: Schema) -> st.SearchStrategy[Any]:
    """Return what a department may write into a field: mostly good, now and then at its limits."""
    kind = field["type"]
    if isinstance(kind, list):
        return st.none() | of_field({**field, "type": next(branch for branch in kind if branch != "null")})
    if "symbols" in field:
        return st.sampled_from(field["symbols"])
    if isinstance(kind, dict):
        return of_composite(field, kind)
    codes = {"uscc": st.just("11510000TE5T00016B"), "division": st.sampled_from(["510000", "510105"])}
    texts = {"certificate-no": TEXT, "registration-no": TEXT, "sm3": st.just("0" * 64)}
    numbers = {"int": st.integers(0, 2**31 - 1), "long": st.integers(0, 2**63 - 1), "boolean": st.booleans()}
    return (codes | texts).get(field.get("format", ""), numbers.get(kind, TEXT))


def of_composite(field: Schema, kind: Schema) -> st.SearchStrategy[Any]:
    """Return lists, records, dates and times."""
    if kind["type"] == "array":
        return st.lists(of_field({"type": kind["items"]}), min_size=field.get("min_items", 0), max_size=3)
    if kind["type"] == "record":
        return of_record(kind)
    if kind["logicalType"] == "date":
        return st.dates(date(1970, 1, 1), date(2029, 1, 1)).map(date.isoformat)
    times = st.datetimes(datetime(1970, 1, 2), datetime(2029, 1, 1))
    return times.map(lambda time: time.isoformat(timespec="milliseconds")) | times.map(
        lambda time: time.replace(tzinfo=UTC).isoformat(timespec="milliseconds")
    )


def of_record(record: Schema) -> st.SearchStrategy[dict[str, Any]]:
    """Return records with every field that a publisher may write."""
    written = {field["name"]: of_field(field) for field in record["fields"] if "derived" not in field}
    return st.fixed_dictionaries(written)


events = st.sampled_from(sorted(TYPES)).flatmap(
    lambda name: st.tuples(st.just(TYPES[name]), of_record(TYPES[name].schema))
)


def encoded(contract: EventContract, data: dict[str, Any]) -> tuple[Codec, bytes]:
    """Encode valid data."""
    codec = Codec(MemorySchemas())
    return codec, codec.encode(contract.subject, contract.schema, data)


def read_by_apache(writer: avro.schema.Schema, reader: avro.schema.Schema, value: bytes) -> dict[str, Any]:
    """Decode a framed value with Apache's reader, in a schema of the reader's."""
    body = avro.io.BinaryDecoder(io.BytesIO(value[FRAME_BYTES:]))
    found: dict[str, Any] = avro.io.DatumReader(writer, reader).read(body)  # type: ignore[assignment]
    return found


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events)
def test_valid_data_comes_back_as_it_was_by_our_reader_and_by_apaches(event: tuple[EventContract, Any]) -> None:
    """What validation lets through survives the wire; what it does not is refused by field."""
    contract, sent = event
    try:
        data = VALIDATORS[contract.type].validate(sent, NOW).data
    except InvalidData as refused:
        assert all(problem.pointer.split("/")[1] in sent for problem in refused.problems)
        return
    codec, value = encoded(contract, data)
    assert codec.decode(value).data == data
    theirs = read_by_apache(PARSED[contract.type], PARSED[contract.type], value)
    assert theirs == data


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(TYPES)), st.dictionaries(st.text(max_size=12), JUNK, max_size=4), st.data())
def test_junk_is_refused_and_never_breaks_validation(name: str, junk: dict[str, Any], draw: st.DataObject) -> None:
    """A sample with fields replaced by anything at all is valid or refused, and nothing else."""
    replaced = draw.draw(st.lists(st.sampled_from(sorted(TYPES[name].sample)), max_size=3))
    data = {**TYPES[name].sample, **junk, **{field: draw.draw(JUNK) for field in replaced}}
    try:
        valid = VALIDATORS[name].validate(data, NOW).data
    except InvalidData as refused:
        assert refused.problems
        return
    codec, value = encoded(TYPES[name], valid)
    assert codec.decode(value).data == valid


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(TYPES)), st.sampled_from(["string", "long", "boolean"]))
def test_a_schema_that_grew_is_read_by_readers_of_the_old_one_and_the_other_way_round(name: str, kind: str) -> None:
    """A field that is added with a default costs neither the old readers nor the new ones anything."""
    contract = TYPES[name]
    default = {"string": "", "long": 0, "boolean": False}[kind]
    grown: Schema = {
        **contract.schema,
        "fields": [*contract.schema["fields"], {"name": "added_later", "type": kind, "default": default}],
    }
    old, new = PARSED[name], avro.schema.parse(json.dumps(grown))
    data = VALIDATORS[name].validate(contract.sample, NOW).data
    _, by_old = encoded(contract, data)
    assert read_by_apache(old, new, by_old)["added_later"] == default
    by_new = Codec(MemorySchemas()).encode("grown", grown, data | {"added_later": default})
    assert read_by_apache(new, old, by_new) == data

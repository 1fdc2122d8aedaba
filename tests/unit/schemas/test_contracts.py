"""The contracts: samples, validation, formats by the domain's vectors, and the codec."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import Codec, UndecodableValue, to_jsonable
from schemas.contracts import ROOT, ContractError, load_contracts
from schemas.envelope import Envelope
from schemas.formats import (
    certificate_no_parts,
    check_registration_no,
    is_uscc,
    normalise_certificate_no,
    normalise_code,
)
from schemas.times import month_bounds, parse_time
from schemas.validation import InvalidData, ValidationRules, Validator
from tests.fakes.schemas import MemorySchemas

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "vectors.json").read_text(encoding="utf-8"))
NOW = datetime(2026, 6, 1, tzinfo=UTC)
TYPES = load_contracts().types
ISSUED = TYPES["cn.gov.sc.health.medical-ad-certificate.issued"]


def valid(data: dict[str, Any], **rules: Any) -> tuple[dict[str, Any], list[str]]:
    """Validate a certificate."""
    found = Validator(ISSUED, ValidationRules(**rules)).validate(data, NOW)
    return found.data, found.quality


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_every_sample_is_valid_and_survives_the_codec(kind: str) -> None:
    """The sample is valid, and what is encoded is what is decoded."""
    contract = TYPES[kind]
    data = Validator(contract, ValidationRules()).validate(contract.sample, NOW).data
    codec = Codec(MemorySchemas())
    decoded = codec.decode(codec.encode(contract.subject, contract.schema, data))
    assert decoded.record_name == contract.subject
    assert decoded.data == data
    assert json.loads(json.dumps(to_jsonable(decoded.data)))


@pytest.mark.parametrize("value", ["Infinity", "-inf", "nan", float("inf")])
def test_what_is_no_number_is_refused_where_one_is_needed(value: Any) -> None:
    """JSON has no room for it: every receiver would read nothing at all."""
    fields = [field | ({"type": "double"} if field["name"] == "duration_seconds" else {}) for field in ISSUED.fields()]
    contract = replace(ISSUED, schema={**ISSUED.schema, "fields": fields})
    with pytest.raises(InvalidData) as caught:
        Validator(contract, ValidationRules()).validate({**ISSUED.sample, "duration_seconds": value}, NOW)
    assert [problem.pointer for problem in caught.value.problems] == ["/duration_seconds"]


def test_every_bad_field_is_named_at_once() -> None:
    """Missing, unknown, out of range and wrong fields, each by its pointer."""
    data = dict(ISSUED.sample) | {"beds": -1, "surplus": 1, "media_types": ["电报"], "reviewer_division": "990000"}
    del data["institution_name"]
    with pytest.raises(InvalidData) as caught:
        valid(data)
    assert {problem.pointer for problem in caught.value.problems} == {
        "/beds",
        "/surplus",
        "/media_types/0",
        "/reviewer_division",
        "/institution_name",
    }


def test_date_ranges_are_checked() -> None:
    """A certificate that ends before it begins is refused at that field."""
    with pytest.raises(InvalidData) as caught:
        valid(dict(ISSUED.sample) | {"valid_to": "2025-01-01"})
    assert [problem.pointer for problem in caught.value.problems] == ["/valid_to"]


INVENTORY = TYPES["cn.gov.sc.inventory.decided"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"total": 4}, "/total"),
        ({"keep": 2, "merge": 0}, "/keep"),
        ({"systems": INVENTORY.sample["systems"][:2]}, "/systems"),
        ({"systems": [dict(s, merge_into=None) for s in INVENTORY.sample["systems"]]}, "/systems"),
        ({"systems": [dict(s, decision="perhaps") for s in INVENTORY.sample["systems"]]}, "/systems/0/decision"),
        ({"systems": [dict(s, score_support=101) for s in INVENTORY.sample["systems"]]}, "/systems/0/score_support"),
    ],
)
def test_the_three_lists_must_add_up(change: dict[str, Any], pointer: str) -> None:
    """The sums of domain section 10.1 hold on ingest, in the totals and over the systems that are listed."""
    with pytest.raises(InvalidData) as caught:
        Validator(INVENTORY, ValidationRules()).validate(dict(INVENTORY.sample) | change, NOW)
    assert pointer in {problem.pointer for problem in caught.value.problems}


@pytest.mark.parametrize(("total", "keep", "merge", "retire"), [(78, 76, 1, 1), (311, 223, 30, 58)])
def test_the_published_lists_are_accepted(total: int, keep: int, merge: int, retire: int) -> None:
    """78 = 76 + 1 + 1 and 311 = 223 + 30 + 58, without their systems."""
    data = dict(INVENTORY.sample) | {"total": total, "keep": keep, "merge": merge, "retire": retire, "systems": []}
    assert Validator(INVENTORY, ValidationRules()).validate(data, NOW).data["total"] == total


def test_a_wrong_check_character_is_marked_or_refused_by_rule() -> None:
    """The default marks; refusing is a setting (domain rule 3.1)."""
    data = dict(ISSUED.sample) | {"institution_uscc": "91350100M000100Y4A"}
    assert valid(data)[1] == ["institution_uscc:check-character"]
    with pytest.raises(InvalidData):
        valid(data, reject_bad_uscc=True)


@pytest.mark.parametrize("case", VECTORS["uscc"]["valid"] + VECTORS["uscc"]["invalid"], ids=lambda c: c["code"] or "-")
def test_unified_social_credit_codes_by_vectors(case: dict[str, Any]) -> None:
    """Valid ones pass; invalid ones fail, unless normalising mends them."""
    expected = case.get("valid_after_normalisation", "reason" not in case)
    assert is_uscc(normalise_code(case["code"])) is expected


@pytest.mark.parametrize("case", VECTORS["certificate_number"]["cases"], ids=lambda c: c["input"])
def test_certificate_numbers_by_vectors(case: dict[str, Any]) -> None:
    """Normalised as the vectors say; an unusual form is known as one."""
    normalised = normalise_certificate_no(case["input"])
    assert normalised == case["normalised"]
    assert (certificate_no_parts(normalised) is not None) is case["matches"]


@pytest.mark.parametrize("case", VECTORS["institution_registration_number"]["cases"][:-1], ids=lambda c: c["number"])
def test_registration_numbers_by_vectors(case: dict[str, Any]) -> None:
    """Another form is a mark, never a refusal."""
    assert (check_registration_no(case["number"])[1] is None) is case["matches"]


def test_times_without_an_offset_are_read_as_shanghai_wall_time() -> None:
    """Zone data and not a fixed offset: 1988 had summer time."""
    assert parse_time("2025-12-01T08:00:00") == (datetime(2025, 12, 1, tzinfo=UTC), True)
    assert parse_time("2025-12-01T08:00:00+08:00")[1] is False
    assert parse_time("1988-07-01T09:00:00")[0] == datetime(1988, 7, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="ISO 8601"):
        parse_time("昨天")


def test_a_month_is_closed_and_open_in_shanghai() -> None:
    """December 2025 is [2025-11-30T16:00Z, 2025-12-31T16:00Z)."""
    assert month_bounds(2025, 12) == (datetime(2025, 11, 30, 16, tzinfo=UTC), datetime(2025, 12, 31, 16, tzinfo=UTC))


@pytest.mark.parametrize("value", [None, b"", b"\x00\x00", b"\x01\x00\x00\x00\x01x", b"\x00\x00\x00\x00\x01\xff"])
def test_what_is_no_event_is_undecodable(value: bytes | None) -> None:
    """Every malformed value gives the one error."""
    schemas = MemorySchemas()
    schemas.id_of(ISSUED.subject, ISSUED.schema)
    with pytest.raises(UndecodableValue):
        Codec(schemas).decode(value)


def test_an_envelope_survives_the_record_headers() -> None:
    """Named attributes and extensions come back as they were."""
    envelope = Envelope("1", "urn:x", "t", "k", "2025-12-01T00:00:00Z", follows="0", extensions={"purpose": "监管"})
    assert Envelope.from_headers(envelope.to_headers()) == envelope
    with pytest.raises(ValueError, match="id, source, type, subject, time"):
        Envelope.from_headers([])


RECORD = {"type": "record", "name": "A", "fields": [{"name": "n", "type": "int", "doc": "d", "sensitivity": "public"}]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda schema: schema["fields"][0].pop("doc"), "has no doc"),
        (lambda schema: schema["fields"][0].update(sensitivity="secret"), "has no sensitivity"),
        (lambda schema: schema.update({"hongyan.type": "cn.gov.sc.health.other"}), "but the folder says"),
        (lambda schema: schema["fields"][0].update(format="telepathy"), "unknown format"),
        (lambda schema: schema["fields"][0].update(type=["null", RECORD, {**RECORD, "name": "B"}]), "several records"),
        (lambda schema: schema["fields"][0].update(type={"type": "map", "values": [RECORD, "B"]}), "several records"),
    ],
)
def test_a_folder_that_is_not_in_order_is_named_with_the_reason(tmp_path: Path, change: Any, said: str) -> None:
    """A mistake in a contract stops the start, and says where."""
    folder = tmp_path / "health" / "medical-ad-review.rejected"
    shutil.copytree(ROOT / "health" / "medical-ad-review.rejected", folder)
    schema = json.loads((folder / "schema.avsc").read_text(encoding="utf-8"))
    change(schema)
    (folder / "schema.avsc").write_text(json.dumps(schema), encoding="utf-8")
    with pytest.raises(ContractError, match=f"medical-ad-review.rejected.*{said}"):
        load_contracts(tmp_path)


@pytest.mark.parametrize(
    ("warnings", "refused"),
    [
        ({}, set()),
        ({"check-character": "reject"}, {"/institution_uscc"}),
        ({"unusual-form": "reject"}, {"/certificate_no"}),
        ({ISSUED.type: "reject"}, {"/institution_uscc", "/certificate_no"}),
        ({ISSUED.type: "reject", f"{ISSUED.type}:unusual-form": "flag"}, {"/institution_uscc"}),
        ({"check-character": "reject", ISSUED.type: "flag"}, set()),
        ({"cn.gov.sc.other": "reject"}, set()),
    ],
)
def test_the_most_exact_rule_says_whether_an_odd_value_is_flagged_or_refused(
    warnings: dict[str, str], refused: set[str]
) -> None:
    """By mark, by type, by both; what is not refused carries its mark."""
    odd = dict(ISSUED.sample) | {"institution_uscc": "91350100M000100Y4A", "certificate_no": "第一号"}
    try:
        marks = valid(odd, warnings=warnings)[1]
    except InvalidData as error:
        assert {problem.pointer for problem in error.problems} == refused
    else:
        assert (marks, refused) == (["certificate_no:unusual-form", "institution_uscc:check-character"], set())


def test_the_catalogue_says_what_is_usual_and_a_setting_overrules_it() -> None:
    """A type whose entry refuses bad codes does so, until the installation says otherwise."""
    strict = replace(ISSUED, catalogue=ISSUED.catalogue.model_copy(update={"warnings": {"check-character": "reject"}}))
    assert ValidationRules().refused_marks(strict) == {"check-character"}
    assert ValidationRules(warnings={"check-character": "flag"}).refused_marks(strict) == set()

"""From rows to events: every way to give a value, and what a mapping file is refused for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import yaml

from producers.poller.mapper import Mapper, event_id
from producers.poller.mapping import FollowUp, TableMapping, load_mapping
from producers.poller.values import earlier, not_after, pack, plain, unpack
from schemas.contracts import load_contracts
from services.runtime.errors import InvalidError
from tests.databases import Department
from tests.events import CORRECTED
from tests.poller import DELETED, mapping

SHANGHAI = ZoneInfo("Asia/Shanghai")
NOW = datetime(2025, 12, 31, 16, 30, tzinfo=UTC)
NOWHERE = Department("sqlite", "sqlite://", lambda: None)
ROW: Mapping[str, Any] = {
    "id": 1,
    "number": "（川）医广〔2025〕第0000001号",
    "hospital": " 合成医院 ",
    "class_code": "A100",
    "beds": 20,
    "media": "网络、户外",
    "issued_at": "2025-12-02T10:15:00",
    "changed_at": "2025-12-02T10:15:00",
}


def made(**changes: Any) -> TableMapping:
    """Return the mapping of the certificates with some of its parts changed."""
    return TableMapping.model_validate(mapping(NOWHERE, **changes))


def data_of(fields: dict[str, Any], row: Mapping[str, Any] = ROW, **changes: Any) -> Mapping[str, Any]:
    """Return what some fields become, beside those that the certificates have."""
    found = made(**changes)
    found = found.model_copy(update={"fields": TableMapping.model_validate(mapping(NOWHERE, fields=fields)).fields})
    return Mapper(found, load_contracts()).row(row).data


@pytest.mark.parametrize(
    ("spec", "value", "wanted"),
    [
        ("c", " 文字 ", "文字"),
        ("c", 5, "5"),
        ("c", "", None),
        ("c", None, None),
        ({"column": "C"}, "x", "x"),
        ({"column": "c", "default": "无"}, " ", "无"),
        ({"column": "c", "codes": {"1": "甲", "*": "其他"}}, 1, "甲"),
        ({"column": "c", "codes": {"1": "甲", "*": "其他"}}, 7, "其他"),
        ({"const": "固定"}, "x", "固定"),
    ],
)
def test_text_comes_from_a_column_a_code_a_default_or_a_constant(spec: Any, value: Any, wanted: Any) -> None:
    """An empty value is a field that is not given."""
    assert data_of({"address": spec}, {"c": value}).get("address") == wanted


@pytest.mark.parametrize(
    ("value", "spec", "wanted"),
    [
        ("2025-12-02T10:15:00", {}, "2025-12-02T10:15:00+08:00"),
        ("2025-12-02T10:15:00+00:00", {}, "2025-12-02T10:15:00+00:00"),
        ("1986-07-01T10:00:00", {}, "1986-07-01T10:00:00+09:00"),
        ("20251202101500", {"format": "%Y%m%d%H%M%S"}, "2025-12-02T10:15:00+08:00"),
    ],
)
def test_times_without_a_zone_are_in_the_mappings(value: str, spec: dict[str, str], wanted: str) -> None:
    """By zone data and not by a fixed offset: 1986 had summer time."""
    given = {**mapping(NOWHERE), "type": "cn.gov.sc.window.case.accepted"}
    found = TableMapping.model_validate({**given, "fields": {"occurred_at": {"column": "t", **spec}}})
    assert Mapper(found, load_contracts()).row({"t": value}).data["occurred_at"] == wanted


def test_a_date_is_the_day_in_the_mappings_zone() -> None:
    """Half past midnight in Shanghai is still the day before in UTC."""
    assert data_of({"issued_on": "t"}, {"t": "2025-12-31T16:30:00+00:00"})["issued_on"] == "2026-01-01"
    assert data_of({"issued_on": "t"}, {"t": "2025-12-31T16:30:00"})["issued_on"] == "2025-12-31"


def test_lists_come_from_text_arrays_or_json() -> None:
    """Codes are translated item by item."""
    codes = {"1": "网络", "2": "户外"}
    assert data_of({"media_types": {"column": "m", "split": ",", "codes": codes}}, {"m": "1, 2,"})["media_types"] == [
        "网络",
        "户外",
    ]
    assert data_of({"media_types": "m"}, {"m": ["报纸"]})["media_types"] == ["报纸"]
    assert data_of({"media_types": {"column": "m", "json": True}}, {"m": '["报纸"]'})["media_types"] == ["报纸"]


def test_what_cannot_be_read_is_named_by_field_column_and_value() -> None:
    """All of it at once."""
    mapper = Mapper(made(), load_contracts())
    with pytest.raises(InvalidError) as caught:
        mapper.row({**ROW, "class_code": "Z9"})
    (problem,) = caught.value.problems
    assert problem.pointer == "/data/institution_class"
    assert all(part in problem.detail for part in ("class_code", "Z9", "A100"))
    assert mapper.column_of(problem.pointer) == "class_code"


def test_a_follow_up_takes_what_it_does_not_name_from_the_row() -> None:
    """And drops what its type does not have; one of a row that is gone works on the event before."""
    found = made(deleted={**DELETED, "fields": {**DELETED["fields"], "reason": {"field": "address"}}}, compare_s=1)
    mapper = Mapper(found, load_contracts())
    base = mapper.row(ROW)
    assert isinstance(found.changed, FollowUp)
    changed = mapper.follow_up(found.changed, base.data, ROW, NOW)
    assert changed.type == CORRECTED
    assert changed.data == {**base.data, "corrected_on": "2026-01-01"}
    assert found.deleted is not None
    gone = mapper.follow_up(found.deleted, base.data, {}, NOW)
    assert gone.data["certificate_no"] == base.data["certificate_no"]
    assert gone.data["reason"] == base.data["address"]
    assert "beds" not in gone.data


def test_an_id_is_the_same_for_the_same_state_and_another_for_any_other() -> None:
    """Content, key and number of the row's events count; the cursor does not."""
    mapper = Mapper(made(), load_contracts())
    first = mapper.row(ROW).digest()
    assert mapper.row({**ROW, "changed_at": "2026-01-01T00:00:00"}).digest() == first
    assert mapper.row({**ROW, "beds": 21}).digest() != first
    ids = {event_id("t", "s", key, digest, n) for key in "ab" for digest in (first, "x") for n in (0, 1)}
    assert len(ids) == 8
    assert event_id("t", "s", "a", first, 0) in ids


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"type": "cn.gov.sc.no.such"}, "/type"),
        ({"fields": {"certificate_no": "n", "nonsense": "x"}}, "/fields/nonsense"),
        ({"fields": {"certificate_no": "n"}}, "/fields/institution_name"),
        ({"codes": {}}, "/fields/institution_class"),
        ({"changed": {"type": "cn.gov.sc.no.such"}}, "/changed/type"),
        ({"changed": {"type": CORRECTED}}, "/changed/fields/corrected_on"),
        ({"deleted": DELETED}, "/compare_s"),
        ({"deleted": {**DELETED, "fields": {"reason": "column"}}, "compare_s": 1}, "/deleted/fields/reason"),
        ({"attributes": {"time": {"now": "time"}}}, "/attributes/time"),
        ({"attributes": {"time": {"column": "a", "const": "b"}}}, "/attributes/time"),
        ({"codes": {"classes": {True: "是"}}}, "/codes/classes"),
        ({"time_zone": "Asia/Chengdu"}, "/time_zone"),
        ({"key": []}, "/key"),
        ({"surplus": 1}, "/surplus"),
    ],
)
def test_a_mapping_that_can_not_work_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    """Before anything is read."""
    file = tmp_path / "mapping.yaml"
    file.write_text(yaml.safe_dump(mapping(NOWHERE, **changes), allow_unicode=True), encoding="utf-8")
    with pytest.raises(InvalidError) as caught:
        load_mapping(file, load_contracts())
    assert named in {problem.pointer for problem in caught.value.problems}


def test_a_file_that_is_no_yaml_or_not_there_is_refused(tmp_path: Path) -> None:
    """With its name."""
    (tmp_path / "bad.yaml").write_text("{", encoding="utf-8")
    for name in ("bad.yaml", "missing.yaml"):
        with pytest.raises(InvalidError, match=name):
            load_mapping(tmp_path / name, load_contracts())


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (Decimal("5.00"), 5),
        (Decimal("5.50"), "5.50"),
        (Decimal(2**64 - 1), 2**64 - 1),
        (Decimal("1E+20"), "100000000000000000000"),
        (Decimal("99999999999999999999.00"), "99999999999999999999"),
        (Decimal("Infinity"), "Infinity"),
        (Decimal("NaN"), "NaN"),
        (float("-inf"), "-inf"),
        (-(2**70), str(-(2**70))),
        (b"\x01", 1),
        ("合".encode(), "合"),
        (bytes(range(200, 212)), bytes(range(200, 212)).hex()),
        (UUID(int=7), str(UUID(int=7))),
        (date(2025, 12, 2), "2025-12-02"),
        ((1, {"a": Decimal(2)}), [1, {"a": 2}]),
        (timedelta(hours=1), "1:00:00"),
    ],
)
def test_values_of_drivers_become_json(value: Any, wanted: Any) -> None:
    """Whatever the database's type."""
    assert plain(value) == wanted


AWARE = datetime(2025, 12, 2, 10, tzinfo=timezone(timedelta(hours=8)))


@pytest.mark.parametrize(
    "value", [7, "a", 1.5, AWARE, AWARE.replace(tzinfo=None), date(2025, 1, 2), Decimal("1.2"), UUID(int=3), b"\xff"]
)
def test_keys_and_cursors_come_back_as_they_were(value: Any) -> None:
    """Type and all: they are bound into queries again."""
    found = unpack(pack(value))
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("cursor", "overlap", "text_format", "wanted"),
    [
        (datetime(2025, 12, 2, 10), 600, None, datetime(2025, 12, 2, 9, 50)),
        (date(2025, 12, 2), 600, None, date(2025, 12, 1)),
        (date(2025, 12, 2), 0, None, date(2025, 12, 2)),
        (1000, 10, None, 990),
        (Decimal(1000), 10, None, Decimal(990)),
        ("20251202100000", 600, "%Y%m%d%H%M%S", "20251202095000"),
        ("v17", 600, None, "v17"),
        (b"\x01\x05", 10, None, b"\x00\xfb"),
        (b"\x00\x05", 10, None, b"\x00\x00"),
        (datetime(1, 1, 1, 0, 5), 600, None, datetime(1, 1, 1, 0, 5)),
        (date(1, 1, 1), 600, None, date(1, 1, 1)),
    ],
)
def test_the_overlap_is_in_the_cursors_own_units(cursor: Any, overlap: float, text_format: Any, wanted: Any) -> None:
    """Seconds of times, whole days of dates, units of numbers."""
    assert earlier(cursor, overlap, text_format) == wanted


@pytest.mark.parametrize(
    ("cursor", "text_format", "wanted"),
    [
        (datetime(2099, 1, 1), None, datetime(2026, 1, 1, 0, 30)),
        (datetime(2099, 1, 1, tzinfo=UTC), None, NOW),
        (datetime(2025, 1, 1), None, datetime(2025, 1, 1)),
        (date(2099, 1, 1), None, date(2026, 1, 1)),
        ("20990101", "%Y%m%d", "20260101"),
        (10**12, None, 10**12),
    ],
)
def test_no_watermark_runs_ahead_of_the_clock(cursor: Any, text_format: Any, wanted: Any) -> None:
    """In the zone of the clock that wrote it."""
    assert not_after(cursor, NOW, SHANGHAI, text_format) == wanted

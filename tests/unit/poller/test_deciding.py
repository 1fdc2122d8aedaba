"""What becomes of a page of rows, given what is known of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce
from typing import Any

import pytest

from producers.department.database import OutOfRange
from producers.poller.deciding import Decided, Decider, Known, key_text
from producers.poller.mapper import Mapper
from producers.poller.table import Row, TableMismatchError
from producers.poller.values import UnusableTypeError, plain
from producers.publishing import Publishing
from schemas.contracts import load_contracts
from schemas.topics import Topics
from schemas.tracing import new_trace
from services.runtime.clock import SystemClock
from services.runtime.settings import GatewaySettings
from tests.events import ISSUED, REVOKED
from tests.fakes.schemas import MemorySchemas
from tests.poller import DELETED, mapping
from tests.unit.poller.test_mapping import NOWHERE, ROW, made

NOW = datetime(2025, 12, 31, tzinfo=UTC)
NOTHING = Known({}, {})
NESTED: list[Any] = reduce(lambda inner, _: [inner], range(300), [])


def decider(**changes: Any) -> Decider:
    """Return what decides by the certificates' mapping with some of its parts changed."""
    mapping, contracts = made(**changes), load_contracts()
    publishing = Publishing(contracts, MemorySchemas(), "http://r", Topics(), GatewaySettings(), SystemClock())
    return Decider(mapping, Mapper(mapping, contracts), publishing)


def row(number: int, **changes: Any) -> Row:
    """Return a row."""
    return Row((number,), NOW, {**ROW, **changes})


def types(decided: Decided) -> list[str]:
    """Return the types of the events."""
    return [event.envelope.type for event in decided.events]


def test_a_row_is_told_of_once_for_each_of_its_states() -> None:
    """The second look at the same state finds nothing to do."""
    first = decider().page([row(1), row(2)], NOTHING, NOW)
    assert types(first) == [ISSUED, ISSUED]
    again = decider().page([row(1), row(2)], Known(first.changes.states, {}), NOW)
    assert (again.events, bool(again.changes), dict(again.outcomes)) == ([], False, {"unchanged": 2})


def test_two_rows_of_one_key_stop_it() -> None:
    """They would be told of as changes of each other for ever."""
    with pytest.raises(TableMismatchError, match="not unique"):
        decider().page([row(1), row(1, beds=21)], NOTHING, NOW)


def test_a_row_too_large_for_kafka_is_rejected_and_kept_short() -> None:
    """Neither the event nor the record of its rejection may hold the others up."""
    huge = decider().page([row(1, hospital="长" * 500_000)], NOTHING, NOW)
    record = huge.changes.rejects["1"]
    assert record is not None
    assert "larger than" in record["problems"][0]["problem"]
    assert len(record["row"]["hospital"]) < 1100
    assert huge.events == []


@pytest.mark.parametrize(
    ("odd", "pointer"),
    [
        ({"beds": plain(Decimal("1E+25"))}, "/data/beds"),
        ({"beds": plain(Decimal("Infinity"))}, "/data/beds"),
        ({"beds": float("nan")}, "/data/beds"),
        ({"hospital": plain(Decimal("1E+25")), "class_code": "Z9"}, "/data/institution_class"),
        ({"issued_at": "9999-12-31T23:59:59+00:00"}, "/data/issued_on"),
        ({"issued_at": "infinity"}, "/data/issued_on"),
    ],
)
def test_an_odd_row_is_rejected_and_the_next_one_is_told_of(odd: dict[str, Any], pointer: str) -> None:
    """Whatever a department's table holds: a number beyond 64 bits, or a time that no other zone has."""
    decided = decider().page([row(1, **odd), row(2)], NOTHING, NOW)
    record = decided.changes.rejects["1"]
    assert record is not None
    assert pointer in {problem["field"] for problem in record["problems"]}
    assert types(decided) == [ISSUED]


def test_lists_without_end_are_rejected() -> None:
    """A database holds JSON that is nested deeper than JSON is written here."""
    fields = {**mapping(NOWHERE)["fields"], "media_types": "media"}
    decided = decider(fields=fields).page([row(1, media=[NESTED])], NOTHING, NOW)
    record = decided.changes.rejects["1"]
    assert record is not None
    assert [problem["field"] for problem in record["problems"]] == ["/data"]


def test_a_number_of_many_digits_is_the_text_that_it_stands_for() -> None:
    """In a field that is text; only what counts must fit into 64 bits."""
    (event,) = decider().page([row(1, hospital=plain(Decimal(10**24)))], NOTHING, NOW).events
    assert str(10**24).encode() in event.value


@pytest.mark.parametrize(
    ("cursor", "cursor_format"),
    [(OutOfRange("infinity"), None), ("未知", "%Y%m%d%H%M%S"), ("2025-12-02", "%Y%m%d%H%M%S")],
)
def test_a_row_whose_cursor_is_no_time_is_rejected(cursor: str, cursor_format: str | None) -> None:
    """Were it taken as how far the table has come, no later row would be found."""
    asked = decider(cursor={"column": "changed_at", "format": cursor_format})
    decided = asked.page([Row((1,), cursor, ROW)], NOTHING, NOW)
    record = decided.changes.rejects["1"]
    assert record is not None
    (problem,) = record["problems"]
    assert problem["field"] == "/changed_at"
    assert cursor in problem["problem"]


def test_a_cursor_of_text_needs_a_format_or_no_overlap_at_all() -> None:
    """Else it would have none in silence, and a row that commits late would be lost."""
    rows = [Row((1,), "2025-12-02 10:15:00", ROW)]
    with pytest.raises(TableMismatchError, match=r"cursor\.format.*overlap: 0"):
        decider(cursor={"column": "changed_at"}).page(rows, NOTHING, NOW)
    for cursor in ({"format": "%Y-%m-%d %H:%M:%S"}, {"overlap": 0}):
        decided = decider(cursor={"column": "changed_at", **cursor}).page(rows, NOTHING, NOW)
        assert types(decided) == [ISSUED]


def test_a_key_that_can_not_be_kept_is_told_as_what_the_mapping_must_mend() -> None:
    """And is tried again, rather than end the process."""
    with pytest.raises(UnusableTypeError, match="timedelta"):
        decider().page([Row((timedelta(1),), NOW, {**ROW, "class_code": "Z9"})], NOTHING, NOW)


def test_the_same_rejection_is_written_once() -> None:
    """Every look finds it again, and the journal must not grow by it."""
    first = decider().page([row(1, class_code="Z9")], NOTHING, NOW)
    rejects = {key: record for key, record in first.changes.rejects.items() if record is not None}
    later = datetime(2026, 1, 1, tzinfo=UTC)
    assert not decider().page([row(1, class_code="Z9")], Known({}, rejects), later).changes
    assert decider().page([row(1, class_code="Z8")], Known({}, rejects), later).changes.rejects.keys() == {"1"}
    assert decider().page([row(1)], Known({}, rejects), later).changes.rejects == {"1": None}


def test_deletions_asked_for_later_work_for_the_rows_that_are_seen_once_more() -> None:
    """A row that was gone before is rejected by name, since nothing of it was kept."""
    told = decider().page([row(1), row(2)], NOTHING, NOW).changes.states
    asked = decider(deleted=DELETED, compare_s=1)
    seen = asked.page([row(1)], Known(told, {}), NOW)
    assert (seen.events, seen.changes.states.keys()) == ([], {"1"})
    gone = asked.gone({"1": seen.changes.states["1"], "2": told["2"]}, NOTHING, NOW)
    assert types(gone) == [REVOKED]
    assert gone.changes.states["1"]["gone"] is True
    assert gone.changes.rejects.keys() == {"2"}
    back = asked.page([row(1)], Known(gone.changes.states, {}), NOW)
    assert types(back) == [ISSUED]
    assert back.events[0].envelope.id != told["1"]["id"]


def test_a_key_of_several_columns_is_one_text() -> None:
    """Which no other combination gives."""
    keys = {key_text(Row(values, NOW, {})) for values in (("a", "b,c"), ("a,b", "c"), ("a", "b"), ("a",))}
    assert len(keys) == 4


def test_a_row_may_name_its_trace_and_is_not_another_state_for_it() -> None:
    """The event belongs to the trace that a column names; a new value there is no change of the row."""
    context = new_trace(sampled=True)
    ours = decider(attributes={"traceparent": {"column": "trace"}})
    first = ours.page([row(1, trace=context.traceparent)], NOTHING, NOW)
    assert first.events[0].envelope.traceparent == context.traceparent
    other = row(1, trace=new_trace(sampled=True).traceparent)
    assert dict(ours.page([other], Known(first.changes.states, {}), NOW).outcomes) == {"unchanged": 1}

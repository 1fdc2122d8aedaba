"""What becomes of a page of rows, given what is known of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from producers.poller.deciding import Decided, Decider, Known, key_text
from producers.poller.mapper import Mapper
from producers.poller.table import Row, TableMismatchError
from producers.publishing import Publishing
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime.clock import SystemClock
from services.runtime.settings import GatewaySettings
from tests.events import ISSUED, REVOKED
from tests.fakes.schemas import MemorySchemas
from tests.poller import DELETED
from tests.unit.poller.test_mapping import ROW, made

NOW = datetime(2025, 12, 31, tzinfo=UTC)
NOTHING = Known({}, {})


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

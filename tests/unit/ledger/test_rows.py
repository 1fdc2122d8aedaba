"""What of ``ledger.routed`` becomes rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
import pytest

from schemas.contracts import load_contracts
from services.ledger.rows import COLUMNS, Identifiers, route_rows
from tests.events import ARREARS, ISSUED


@dataclass(frozen=True)
class Line:
    """A record of the ledger."""

    value: bytes
    topic: str = "ledger.routed"
    partition: int = 0
    offset: int = 0
    timestamp: int = 1_764_000_000_000
    key: bytes | None = b"s"
    headers: tuple[tuple[str, bytes], ...] = ()


@pytest.mark.parametrize("verdict", ["seam", "backfill"])
def test_the_progress_of_a_backfill_is_no_event(verdict: str) -> None:
    """It stands on the same topic, gives no row, and is no dead letter."""
    entry = {"topic": "t", "partition": 0, "verdict": verdict, "subscription": "s", "progress": {}, "config": 1}
    assert route_rows(Line(orjson.dumps(entry))) == []


def test_what_is_no_entry_is_told_from_it() -> None:
    """The ledger puts it aside."""
    with pytest.raises(KeyError):
        route_rows(Line(b"{}"))


def test_what_became_of_an_event_stands_at_the_events_time() -> None:
    """Whatever time the broker gave the record that says so; the time of routing is told beside it."""
    entry = {"topic": "t", "partition": 1, "offset": 2, "verdict": "routed", "source": "u", "id": "e", "type": "k"}
    entry |= {"agencies": {"a": ["s"], "b": ["s"]}, "follow_up": ["c"], "fields": {"b": "p"}}
    entry |= {"logged": 1_600_000_000_000, "at": "2026-03-01T08:00:00+08:00"}
    rows = [row for row in route_rows(Line(orjson.dumps(entry))) if row.table == "entitlement"]
    told = [dict(zip(COLUMNS[row.table].split(", "), row.values, strict=True)) for row in rows]
    assert {row.logged_at.year for row in rows} == {2020}
    assert {one["routed_at"] for one in told} == {datetime(2026, 3, 1, tzinfo=UTC)}
    assert {one["agency"]: one["whole"] for one in told} == {"a": True, "b": False, "c": True}
    assert [row.counted for row in rows] == [("u", "a", "entitled"), ("u", "b", "entitled"), ("u", "c", "entitled")]


def test_numbers_that_are_personal_or_secret_are_guarded() -> None:
    """An enterprise in arrears is found by its code only by who may know; a certificate by everyone."""
    contracts = load_contracts()
    identifiers = Identifiers(contracts)
    arrears = identifiers.of(ARREARS, contracts.types[ARREARS].sample)
    assert (arrears.open, arrears.guarded) == ([], [contracts.types[ARREARS].sample["unit_uscc"]])
    certificate = identifiers.of(ISSUED, contracts.types[ISSUED].sample)
    assert contracts.types[ISSUED].sample["certificate_no"] in certificate.open
    assert certificate.guarded == []

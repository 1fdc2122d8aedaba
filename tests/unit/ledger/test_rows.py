"""What of ``ledger.routed`` becomes rows."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
import pytest

from services.ledger.rows import route_rows


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

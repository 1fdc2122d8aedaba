"""What flowed in the last minutes, from the ledger: from each publisher to each agency, and one agency's by time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TypeVar

import psycopg
from psycopg.rows import class_row
from psycopg_pool import ConnectionPool

from services.runtime.database import transaction
from services.runtime.errors import UnavailableError

_SQL = Path(__file__).parent / "sql"
LIMIT_MS = 2000

Row = TypeVar("Row")


class FlowsTooManyError(UnavailableError):
    """The events of the last minutes could not be counted in time: the server answers."""


@dataclass(frozen=True, slots=True)
class Flow:
    """How many of a publisher's events went to an agency: routed to it, delivered, parked."""

    source: str
    agency: str
    routed: int
    delivered: int
    parked: int


@dataclass(frozen=True, slots=True)
class Slot:
    """What an agency got in one stretch of time that begins ``at``."""

    at: datetime
    delivered: int
    parked: int


@dataclass(frozen=True, slots=True)
class _Receiver:
    agency: str


class FlowReader:
    """Counts over the indexes of agency and time; all raise DatabaseUnavailableError, and FlowsTooManyError."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def flows(self, agencies: Collection[str], since: datetime) -> Sequence[Flow]:
        """Return what flowed to these agencies since."""
        return self._rows(Flow, "recent_flows", {"agencies": list(agencies), "since": since})

    def slots(self, agency: str, since: datetime, slot_s: int) -> Sequence[Slot]:
        """Return what an agency got since, by stretches of so many seconds."""
        return self._rows(Slot, "recent_slots", {"agency": agency, "since": since, "slot": f"{slot_s} seconds"})

    def receivers(self, source: str, agencies: Collection[str]) -> frozenset[str]:
        """Return who of these agencies has been given an event of a publisher, as far back as the ledger is kept."""
        found = self._rows(_Receiver, "receivers", {"agencies": list(agencies), "source": source})
        return frozenset(one.agency for one in found)

    def _rows(self, kind: type[Row], query: str, values: Mapping[str, object]) -> Sequence[Row]:
        with transaction(self._pool) as connection, connection.cursor(row_factory=class_row(kind)) as cursor:
            cursor.execute(_read("limit_time"), (f"{LIMIT_MS}ms",))
            try:
                return cursor.execute(_read(query), values).fetchall()
            except psycopg.errors.QueryCanceled as error:
                raise FlowsTooManyError("事件太多，限时内没有数完 (too many events to count in time)") from error


@cache
def _read(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()

"""Where the tables of an agency go on: by its database's cursor, those in Kafka, the log and what was decided. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from consumers.pusher.placing import Bounds, astray_why, is_astray
from services.delivery.cursors import passes_over, passing_over, reached
from services.delivery.gap import Gap
from services.runtime.kafka.port import Committed


@dataclass(frozen=True, slots=True)
class Start:
    """The first event that is not in the tables, and the first whose receipt may be missing.

    ``astray``: why nothing is taken before somebody has decided where; ``decided``: somebody has, and the tables' own
    cursor does not count.
    """

    cursor: int
    read_from: int
    astray: str | None = None
    gap: Gap | None = None
    decided: bool = False


def start_of(held: int | None, pushed: Committed, own: Committed, log: Bounds) -> Start:
    """Return where to go on.

    A cursor beyond the log's end is of another log, or was never read to: what comes below it would be taken for what
    is in the tables already, with a receipt that it was delivered.
    """
    if _decided(pushed, own) and log.first <= own.offset <= log.end:
        return Start(own.offset, own.offset, decided=True)
    receipted = reached(pushed, own)
    cursor = max(held or 0, receipted)
    if is_astray(own) or _decided(pushed, own) or cursor > log.end:
        return Start(cursor, cursor, astray_why(cursor, log))
    if cursor < log.first:
        return Start(log.first, log.first, gap=Gap(cursor, log.first))
    return Start(cursor, max(receipted, log.first))


def _decided(pushed: Committed, own: Committed) -> bool:
    """Tell whether somebody has decided where the tables go on, and nobody has taken that up."""
    return passes_over(own.note) == pushed.offset and "answers" in orjson.loads(own.note)


def taken_up(pushed: Committed, offset: int) -> Committed:
    """Return the agency's own cursor once its tables begin here, whatever the pusher's says."""
    return Committed(offset, passing_over(pushed.offset) if pushed.offset > offset else "")

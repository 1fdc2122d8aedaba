"""Where the tables of an agency go on: by its database's cursor, those in Kafka, the log and what was decided. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from consumers.pusher.placing import Bounds, astray_why, is_astray
from services.delivery.cursors import moved_by_tables, passed_over, passing_over, reached, undecided
from services.delivery.gap import Gap
from services.runtime.kafka.port import Committed

BATCH = 500
"""So many events are taken at once: by so much the tables are ahead of the cursor in Kafka, which follows them."""


@dataclass(frozen=True, slots=True)
class Start:
    """The first event that is not in the tables, and the first whose receipt may be missing.

    ``astray``: why nothing is taken before somebody has decided where; ``decided``: somebody has, and the tables' own
    cursor does not count. ``restored``: what the tables once held and have lost, to be written again.
    """

    cursor: int
    read_from: int
    astray: str | None = None
    gap: Gap | None = None
    decided: bool = False
    restored: Gap | None = None


def start_of(held: int | None, pushed: Committed, own: Committed, log: Bounds, *, same: bool | None = True) -> Start:
    """Return where to go on. ``same`` tells whether the tables' cursor is of this very log, None where nobody knows.

    A cursor beyond the log's end is of another log, or was never read to: what comes below it would be taken for what
    is in the tables already, with a receipt that it was delivered. So would what comes below one of another log, also
    where this one is as long by now; and one that is further ahead of Kafka's than one batch may be of another.
    One below where the tables have once been is that of a database restored from a backup: the lower one counts.
    """
    if _decided(pushed, own) and log.first <= own.offset <= log.end:
        return Start(own.offset, own.offset, decided=True)
    receipted = reached(pushed, own)
    cursor = max(held or 0, receipted)
    if undecided(pushed, own) or _decided(pushed, own) or cursor > log.end:
        return Start(cursor, cursor, astray_why(cursor, log))
    if same is False or (same is None and (held or 0) > receipted + BATCH):
        return Start(cursor, cursor, another_why(cursor))
    if held is not None and held < own.offset and moved_by_tables(own.note):
        lost, at = Gap(held, own.offset), max(held, log.first)
        return Start(at, at, gap=Gap(held, log.first) if held < log.first else None, restored=lost)
    if cursor < log.first:
        return Start(log.first, log.first, gap=Gap(cursor, log.first))
    return Start(cursor, max(receipted, log.first))


def another_why(cursor: int) -> str:
    """Return why the tables wait for somebody to decide, and what to do."""
    return (
        f"单位数据库里的游标 {cursor} 不是这个队列日志的（主题已重建过），须由人决定从何处续写：hongyan feed go-on"
        " (the cursor in the agency's database is of another log; somebody must decide where to go on)"
    )


def _decided(pushed: Committed, own: Committed) -> bool:
    """Tell whether somebody has decided where the tables go on, and nobody has taken that up."""
    return passed_over(pushed, own) and "answers" in orjson.loads(own.note)


def taken_up(pushed: Committed, offset: int) -> Committed:
    """Return the agency's own cursor once its tables begin here, whatever the pusher's says."""
    return Committed(offset, passing_over(pushed) if pushed.offset > offset or is_astray(pushed) else "")

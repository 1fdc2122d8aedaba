"""Where a line begins: by the cursors that are committed, what the log has, and what somebody has decided. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import orjson

from consumers.pusher.note import Note, note_of
from services.delivery.cursors import passed_over, passing_over, reached
from services.delivery.gap import Gap
from services.runtime.kafka.port import Committed

NONE = Committed(0)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The first offset that a log keeps, and the one after its last record."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Place:
    """What a line begins with. ``astray``: why it waits until somebody has decided where; ``decided``: somebody has.

    ``waits``: why it waits until the agency's own clients have left.
    """

    cursor: Committed
    astray: str | None = None
    waits: str | None = None
    gap: Gap | None = None
    decided: bool = False


def is_astray(committed: Committed) -> bool:
    """Tell whether the line's last owner noted that its cursor is not on the log."""
    return astray_note(committed) is not None


def astray_note(committed: Committed) -> Note | None:
    """Return the note of whoever found that this cursor is not on the log; an agency's own clients write anything."""
    try:
        note = note_of(committed.note)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return note if note is not None and note.astray else None


def is_decided(own: Committed) -> bool:
    """Tell whether somebody has decided where a feed goes on, and its cursor has not been moved since."""
    try:
        return "answers" in orjson.loads(own.note or b"{}")
    except (ValueError, TypeError):
        return False


def answered(pushed: Committed, own: Committed) -> bool:
    """Tell whether somebody has decided where a line that is astray goes on."""
    note = astray_note(pushed)
    return note is not None and (own.note == answer_to(note.held_since) or passed_over(pushed, own))


def place_of(pushed: Committed, own: Committed, bounds: Bounds | None) -> Place:
    """Return a line's place by the pusher's cursor with its note, the agency's own, and the log where it is known.

    The greater cursor counts. One beyond the log's end is of another log, or was never read to: events that come there
    would be passed over, also once there are so many. So the line is astray until somebody decides, who answers the
    note.
    """
    if is_astray(own) and not is_astray(pushed):
        return Place(Committed(pushed.offset, own.note), astray_why(max(pushed.offset, own.offset), bounds))
    if is_astray(pushed):
        if bounds is not None and answered(pushed, own) and bounds.first <= own.offset <= bounds.end:
            return Place(Committed(own.offset), decided=True)
        return Place(pushed, astray_why(max(pushed.offset, own.offset), bounds))
    at = reached(pushed, own)
    if bounds is None or bounds.first <= at <= bounds.end:
        return Place(pushed if at == pushed.offset else Committed(at))
    if at > bounds.end:
        return Place(pushed, astray_why(at, bounds))
    return Place(Committed(bounds.first, pushed.note), gap=Gap(at, bounds.first))


def untold(pushed: Committed, why: str) -> Place:
    """Return the place of a line that waits since a broker can't tell more; a decision that is due stays due."""
    note = astray_note(pushed)
    return Place(pushed, note.why if note is not None else None, waits=why)


def astray_why(cursor: int, bounds: Bounds | None) -> str:
    """Return why a line waits for somebody to decide, and what to do."""
    has = f"现有 {bounds.first} 至 {bounds.end}" if bounds is not None else "主题不存在"
    return (
        f"游标 {cursor} 不在队列日志之内（{has}），须由人决定从何处续推：hongyan feed go-on"
        " (the cursor is not on the feed's log; somebody must decide where to go on)"
    )


def answer_to(held_since: datetime, passes: Committed | None = None) -> str:
    """Return the note beside a cursor that somebody has decided on: it answers one hold, and none that comes later.

    ``passes`` is the pusher's cursor that does not count beside it, whichever channel takes the decision up.
    """
    answers = held_since.isoformat()
    return orjson.dumps({"answers": answers}).decode() if passes is None else passing_over(passes, answers)

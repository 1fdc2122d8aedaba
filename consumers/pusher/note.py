"""What a line notes beside its cursor, for its next owner and for people: since when and why it is held."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b

import orjson

from services.delivery.cursors import left_note

WHY_CHARS = 500


@dataclass(frozen=True, slots=True)
class Note:
    """A held line: by a person's decision or not; whether its receiver was gone (410); until when it wants no more;
    whether nobody was told yet (``quiet``), since it will soon be over; whether its cursor is not on the log
    (``astray``), which stays known when another channel has the feed (``left``); whether the agency's own clients are
    still there (``waits``).

    The wish to be left alone (Retry-After) is that of whoever stood behind the address that ``sink`` stands for.
    """

    held_since: datetime
    why: str
    decided: bool = False
    gone: bool = False
    rest_until: datetime | None = None
    sink: str | None = None
    quiet: bool = False
    astray: bool = False
    waits: bool = False
    left: bool = False

    def to_text(self) -> str:
        """Return it as JSON."""
        document = {
            "held_since": self.held_since.isoformat(),
            "why": self.why,
            "decided": self.decided,
            "gone": self.gone,
            "rest_until": self.rest_until.isoformat() if self.rest_until else None,
            "sink": self.sink,
            "quiet": self.quiet,
            "astray": self.astray,
            "waits": self.waits,
            "left": self.left,
        }
        return orjson.dumps({name: value for name, value in document.items() if value}).decode()


def note_of(text: str) -> Note | None:
    """Read a note; None where the line flowed, or was let go of."""
    known = orjson.loads(text or "{}")
    if "held_since" not in known:
        return None
    rest = known.get("rest_until")
    return Note(
        datetime.fromisoformat(known["held_since"]),
        known["why"],
        decided=bool(known.get("decided")),
        gone=bool(known.get("gone")) or "HTTP 410" in known["why"],
        rest_until=datetime.fromisoformat(rest) if rest else None,
        sink=known.get("sink"),
        quiet=bool(known.get("quiet")),
        astray=bool(known.get("astray")),
        waits=bool(known.get("waits")),
        left=bool(known.get("left")),
    )


def left(text: str, now: datetime) -> str:
    """Return what is noted when nobody pushes a feed any more: that its cursor is not on the log stays known."""
    known = note_of(text)
    return left_note(now) if known is None or not known.astray else replace(known, left=True).to_text()


def sink_mark(sink: str) -> str:
    """Return what stands for an address: its query may hold what is nobody's business."""
    return blake2b(sink.encode(), digest_size=6).hexdigest()

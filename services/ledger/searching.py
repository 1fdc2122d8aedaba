"""What a search of the ledger asks, what its reader may see, and how it walks back through time: pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import orjson

from schemas.times import shown_time
from services.runtime.errors import FieldProblem, ForbiddenError, InvalidError

FIRST_WINDOW = timedelta(days=1)
GROWTH = 8
_WINDOWS = 4


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose events a reader may see: an agency what was routed to it, a publisher its own sources', an operator all.

    An operator sees no personal data: no event is found by a number that is personal or sensitive in it, and the words
    in which an agency accepted or rejected are left out. Who holds the administration key sees them too. What a
    receiver said of an event that it refused neither sees (see :func:`services.ledger.story.told_to`).
    """

    agency: str | None = None
    sources: frozenset[str] | None = None
    everything: bool = False

    def __post_init__(self) -> None:
        if self.agency is not None and self.sources is not None:
            raise ValueError("one reads as an agency or as a publisher")

    @classmethod
    def operator(cls) -> Scope:
        """Return the scope of who runs the system."""
        return cls()

    @classmethod
    def administrator(cls) -> Scope:
        """Return the scope of who holds the administration key."""
        return cls(everything=True)

    @classmethod
    def of_agency(cls, agency: str) -> Scope:
        """Return the scope of an agency."""
        return cls(agency=agency)

    @classmethod
    def of_publisher(cls, sources: Collection[str]) -> Scope:
        """Return the scope of a publisher, by its sources; none means that it sees nothing."""
        return cls(sources=frozenset(sources))

    @property
    def is_operator(self) -> bool:
        """Tell whether this is one who runs the system and sees no personal data."""
        return self.agency is None and self.sources is None and not self.everything

    @property
    def guarded(self) -> Literal["all", "whole", "none"]:
        """Tell which events the reader finds by guarded numbers: all that it sees, those it got whole, or none."""
        return "none" if self.is_operator else "whole" if self.agency is not None else "all"


OPERATOR = Scope()


@dataclass(frozen=True, slots=True)
class Criteria:
    """What to search by; None leaves a criterion out. ``identifier`` is a certificate number or organisation code.

    ``number`` is the beginning of one that is open to all, or of what stands in it after 第; 第, 号, 字 and brackets
    are left out.
    """

    event: str | None = None
    subject: str | None = None
    identifier: str | None = None
    source: str | None = None
    type: str | None = None
    agency: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    number: str | None = None

    @property
    def named(self) -> bool:
        """Tell whether they name an event or something in it."""
        return any((self.event, self.subject, self.identifier))


class Cursor(NamedTuple):
    """Where a page ends: only what is older than this place, in the order of time and log, is on the next one."""

    at: datetime
    topic: str = ""
    partition: int = 0
    offset: int = 0

    def to_text(self) -> str:
        """Return it as text that may stand in an address."""
        return base64.urlsafe_b64encode(orjson.dumps([self.at.isoformat(), *self[1:]])).decode().rstrip("=")

    @classmethod
    def from_text(cls, text: str) -> Cursor:
        """Read it back; raises InvalidError."""
        try:
            at, topic, partition, offset = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            found = cls(datetime.fromisoformat(at), str(topic), int(partition), int(offset))
        except (binascii.Error, ValueError, TypeError, OverflowError) as error:
            raise InvalidError([_NO_CURSOR]) from error
        if found.at.tzinfo is None or "\0" in found.topic or not _small(found):
            raise InvalidError([_NO_CURSOR])
        return found


_NO_CURSOR = FieldProblem(
    "/before", "不是上一页给出的位置，请从第一页查起 (no cursor of ours; begin at the first page)"
)


def _small(cursor: Cursor) -> bool:
    return 0 <= cursor.partition < 2**31 and 0 <= cursor.offset < 2**63


@dataclass(frozen=True, slots=True)
class Page:
    """Events found, newest first; each with what became of it.

    ``before`` is the cursor of the next page, None when everything was looked at. ``cut`` tells why there may be more:
    the limit was reached (``limit``), or time ran out (``time``) and nothing older than ``searched_since`` was
    looked at.
    """

    events: Sequence[Mapping[str, Any]]
    before: str | None = None
    cut: Literal["limit", "time"] | None = None
    searched_since: datetime | None = None

    @property
    def complete(self) -> bool:
        """Tell whether nothing was cut."""
        return self.cut is None

    @property
    def note(self) -> str | None:
        """Return what was cut, for people; None when nothing was."""
        if self.cut == "limit":
            return f"只列最新 {len(self.events)} 件，更早的见下一页 (the newest only; older ones are on the next page)"
        if self.cut == "time" and self.searched_since is not None:
            return (
                f"范围较大，限时内只查到 {shown_time(self.searched_since.isoformat())} 为止；"
                "可从该处往前续查，或加编号、类型、时间范围 "
                "(only so far back in the time there was; go on from there, or narrow it)"
            )
        return None


class Window(NamedTuple):
    """A stretch of time to look through, from ``low`` on, older than ``high``; None where it has no end."""

    low: datetime | None
    high: Cursor | None


def windows(now: datetime, criteria: Criteria, before: Cursor | None) -> Iterator[Window]:
    """Yield the stretches to look through, newest first and ever longer: what is wanted is mostly new.

    The last reaches back to ``since`` or the beginning.
    """
    high, oldest = before, criteria.since
    if criteria.until is not None and (high is None or criteria.until < high.at):
        high = Cursor(criteria.until)
    edge, length = min(now, high.at) if high else now, FIRST_WINDOW
    for _ in range(_WINDOWS):
        try:
            edge = edge.astimezone(UTC) - length
        except OverflowError:
            break
        if oldest is not None and edge <= oldest:
            break
        yield Window(edge, high)
        high, length = Cursor(edge), length * GROWTH
    # At the very time where the page before ended there may be more.
    if oldest is None or high is None or oldest <= high.at:
        yield Window(oldest, high)


def narrowed(scope: Scope, criteria: Criteria) -> dict[str, Any]:
    """Return the values of a search by whose events and what; raises ForbiddenError for another's, InvalidError."""
    asked = {name: getattr(criteria, name) for name in ("event", "subject", "identifier", "number", "type")}
    texts = asked | {"source": criteria.source, "agency": criteria.agency}
    if wrong := [name for name, text in texts.items() if "\0" in (text or "")]:
        raise InvalidError([FieldProblem(f"/{name}", "含有空字符 (holds the character NUL)") for name in wrong])
    if scope.sources is not None and criteria.source is not None and criteria.source not in scope.sources:
        raise ForbiddenError(f"只能查自己的事件 (your own events only): {', '.join(sorted(scope.sources))}")
    if scope.agency is not None and criteria.agency not in {None, scope.agency}:
        raise ForbiddenError(f"只能查自己的事件 (your own events only): {scope.agency}")
    sources = {criteria.source} if criteria.source is not None else scope.sources
    # One is told apart from several: an index gives its events in the order of time.
    only = next(iter(sources)) if sources is not None and len(sources) == 1 else None
    return asked | {
        "source": only,
        "sources": None if sources is None or only is not None else sorted(sources),
        "agency": scope.agency or criteria.agency,
        "guarded": scope.guarded,
    }

"""The record on ``receipts``, spelled once: what became of one event at one agency, by whichever channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

Outcome = Literal["delivered", "parked", "accepted", "rejected"]
Channel = Literal["webhook", "pull", "kafka", "table"]
REACHED_BY = "hongyan-reason"
"""The feed's header that says why an event stands there: match, forward, follow-up, backfill or replay."""
OUTCOMES: tuple[Outcome, ...] = ("delivered", "parked", "accepted", "rejected")
OWN_WORDS = frozenset({"accepted", "rejected"})
"""What an agency says itself; its reason is the agency's own words."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """One receipt. Times are RFC 3339 text.

    ``delivered`` and ``parked`` are ours: the receiver has it, or it was put aside with a reason; ``words`` are what
    the receiver said of that: they may say again what stood in the event. ``accepted`` and ``rejected`` (with a reason)
    are the agency's own (业务回执), and say that it has the event too; ``statement`` names the signed text that one
    came in. The same receipt may stand on the log twice: agency, cursor, event and outcome say which are the same.
    ``happened_at`` is the event's own time, ``reached_by`` why it stood in the feed (the feed's header
    ``hongyan-reason``), ``streamed`` whether an agency that pulls had an open stream when it acknowledged.
    """

    agency: str
    cursor: int
    event_id: str
    source: str
    type: str
    subject: str | None
    outcome: Outcome
    last_at: str
    attempts: int = 0
    first_at: str | None = None
    published_at: str | None = None
    status: int | None = None
    reason: str | None = None
    words: str | None = None
    digest: str | None = None
    channel: Channel = "webhook"
    statement: str | None = None
    traceparent: str | None = None
    happened_at: str | None = None
    reached_by: str | None = None
    streamed: bool = False

    def to_bytes(self) -> bytes:
        """Return the record's value."""
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Receipt:
        """Read a receipt, leaving out what a newer version adds; raises ValueError or TypeError."""
        found = cls(**{name: document[name] for name in cls.__slots__ if name in document})
        if found.outcome not in OUTCOMES:
            raise ValueError(f"unknown outcome {found.outcome}")
        return found


def with_words(reason: str | None, words: str | None) -> str | None:
    """Return a reason with the receiver's own words, for those who may know what stands in the event."""
    return f"{reason}: {words}" if words else reason


@dataclass(frozen=True, slots=True)
class Statement:
    """A signed text of an agency's, kept as it came beside the receipts that it makes (same topic, same key)."""

    agency: str
    id: str
    timestamp: str
    signature: str
    verified_by: str
    body: str
    at: str
    kind: Literal["statement"] = "statement"

    def to_bytes(self) -> bytes:
        """Return the record's value."""
        return orjson.dumps(self)

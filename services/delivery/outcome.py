"""What a delivery attempt came to: delivered, to be tried again, refused for good, or gone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

RETRIED = frozenset({404, 408, 409, 425, 429})
HINT_HEADER = "webhook-delivery"
ABORT, RETRY = "abort", "retry"
RETRY_AFTER_CAP_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has it (2xx)."""

    status: int


@dataclass(frozen=True, slots=True)
class Later:
    """Not now: the receiver is away, overloaded or wrongly set up. ``not_before_s`` is its own wish (Retry-After)."""

    reason: str
    status: int | None = None
    not_before_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Refused:
    """Never: the receiver refuses this event (another 4xx), or it is no event; ``decided``: a person has stopped it.

    ``words`` are the receiver's own. They may say again what stood in the event: its agency and the publisher see them,
    nobody else does (see :func:`schemas.receipts.with_words`).
    """

    reason: str
    status: int | None = None
    decided: bool = False
    words: str = ""


@dataclass(frozen=True, slots=True)
class Gone:
    """The receiver wants no more events at all (410)."""

    reason: str
    status: int = 410


Outcome = Delivered | Later | Refused | Gone


def outcome_of(
    status: int, retry_after: str | None, now: datetime, hint: str | None = None, *, credentialed: bool = False
) -> Outcome:
    """Return what an HTTP answer means (the table in docs/delivery-guarantee.md).

    ``hint`` is the answer's ``webhook-delivery`` header: ``abort`` gives the event up at once, ``retry`` wants it
    again, whatever the status. ``credentialed``: we showed a token, so that 401 is about it and not about the event.
    """
    if 200 <= status < 300:
        return Delivered(status)
    if status < 200:
        return Later(f"HTTP {status}: 不换协议 (it was asked for no other protocol)", status)
    if status == 410:
        return Gone("HTTP 410")
    if hint is not None and hint.strip().lower() == ABORT:
        return Refused(f"HTTP {status}, webhook-delivery: abort", status)
    asked = hint is not None and hint.strip().lower() == RETRY
    if asked or status in RETRIED or status >= 500 or (status == 401 and credentialed):
        return Later(f"HTTP {status}", status, _seconds(retry_after, now))
    if 300 <= status < 400:
        return Later(f"HTTP {status}: 不跟随重定向 (redirects are not followed)", status, _seconds(retry_after, now))
    return Refused(f"HTTP {status}", status)


def _seconds(retry_after: str | None, now: datetime) -> float:
    """Read Retry-After (RFC 9110 §10.2.3): seconds or a date; what is neither is as if not given."""
    if not retry_after:
        return 0.0
    if retry_after.strip().isdigit():
        return min(float(retry_after), RETRY_AFTER_CAP_S)
    try:
        seconds = (parsedate_to_datetime(retry_after) - now).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), RETRY_AFTER_CAP_S)

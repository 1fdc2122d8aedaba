"""The receipt of an event that an agency pulls."""

from __future__ import annotations

from consumers.feeds.entry import Entry
from schemas.receipts import REACHED_BY, Channel, Outcome, Receipt
from services.delivery.acknowledgement import Signed


def receipt_of(
    agency: str,
    channel: Channel,
    entry: Entry,
    outcome: Outcome,
    reason: str | None,
    at: str,
    signed: Signed | None = None,
    *,
    streamed: bool = False,
) -> Receipt:
    """Return what is recorded of an event; ``at`` is RFC 3339 text."""
    attributes = entry.attributes
    return Receipt(
        agency=agency,
        cursor=entry.cursor,
        event_id=attributes.get("id", ""),
        source=attributes.get("source", ""),
        type=attributes.get("type", ""),
        subject=attributes.get("subject"),
        outcome=outcome,
        last_at=at,
        published_at=attributes.get("recordedtime"),
        traceparent=attributes.get("traceparent"),
        reason=reason,
        channel=channel,
        statement=signed.id if signed else None,
        happened_at=attributes.get("time"),
        reached_by=dict(entry.record.headers).get(REACHED_BY, b"").decode(errors="replace") or None,
        streamed=streamed,
    )

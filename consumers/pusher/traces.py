"""The spans of attempts: one for each event, under the span that it comes from, so that each trace ends at the agency.

The request carries the context of its first event's span. Of several events in one request, the others' spans link to
that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from consumers.pusher.line import Delivery
from schemas.tracing import TraceContext
from services.delivery.outcome import Delivered, Outcome
from services.runtime.tracing import Span, Tracer, now_ns


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request: the headers that it carries, and each event with what it comes from and its own span."""

    headers: Mapping[str, str] = field(default_factory=dict)
    spans: Sequence[tuple[Delivery, TraceContext, TraceContext]] = ()
    began_ns: int = 0


UNTRACED = Attempt()


class Traces:
    """Begins and ends attempts."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def begin(self, deliveries: Sequence[Delivery]) -> Attempt:
        """Return what to send with a request of these events."""
        known = [(one, one.message.trace) for one in deliveries if one.message is not None]
        traced = [(delivery, trace) for delivery, trace in known if trace is not None]
        if not traced:
            return UNTRACED
        if not self._tracer.exports:
            return Attempt(traced[0][1].attributes()) if len(deliveries) == 1 else UNTRACED
        spans = [(delivery, parent, self._tracer.child(parent)) for delivery, parent in traced]
        return Attempt(spans[0][2].attributes(), spans, now_ns())

    def end(self, agency: str, attempt: Attempt, outcome: Outcome) -> None:
        """Record the spans of a request that has ended."""
        if not attempt.spans:
            return
        first, ended = attempt.spans[0][2], now_ns()
        # What a receiver said may name people: the status stands for it.
        failed = None if isinstance(outcome, Delivered) else f"{type(outcome).__name__} {outcome.status or ''}".strip()
        status = {"http.response.status_code": outcome.status} if outcome.status is not None else {}
        for delivery, parent, context in attempt.spans:
            told = _told(agency, delivery) | status
            links = () if context is first else (first,)
            span = Span(f"deliver {agency}", "client", context, parent, attempt.began_ns, ended, told, links, failed)
            self._tracer.record(span)


def _told(agency: str, delivery: Delivery) -> dict[str, str | int]:
    headers = dict(delivery.record.headers)
    return {
        "hongyan.agency": agency,
        "hongyan.cursor": delivery.record.offset,
        "hongyan.attempt": delivery.attempts,
        "http.request.method": "POST",
        "cloudevents.event_id": headers.get("ce_id", b"").decode(errors="replace"),
        "cloudevents.event_type": headers.get("ce_type", b"").decode(errors="replace"),
    }

"""The spans of routed events: begun while a batch is routed, recorded once its transaction has committed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from consumers.router.reading import Incoming
from consumers.router.writing import Routing
from schemas.tracing import hop_of
from services.runtime.kafka.port import Record
from services.runtime.tracing import Span, Tracer, now_ns


class RouteSpans:
    """Begins and records the spans of one router."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self.exports = tracer.exports

    def begin(self, record: Record, event: Incoming) -> Span | None:
        """Return the span of an event, open still; None where none will be recorded."""
        parent = hop_of(record.headers, event.attributes)
        context = self._tracer.begin() if parent is None else self._tracer.child(parent)
        if not context.sampled:
            return None
        told: dict[str, str | int] = {
            "cloudevents.event_id": event.attributes["id"],
            "cloudevents.event_type": event.attributes["type"],
            "messaging.system": "kafka",
            "messaging.destination.name": record.topic,
            "messaging.destination.partition.id": str(record.partition),
            "messaging.kafka.offset": record.offset,
        }
        return Span("route", "consumer", context, parent, now_ns(), 0, told)

    @staticmethod
    def routed(span: Span, routing: Routing) -> Span:
        """Return a span that tells who gets the event."""
        return replace(span, attributes={**span.attributes, "hongyan.agencies": ",".join(sorted(routing.given()))})

    def record(self, spans: Iterable[Span]) -> None:
        """Record the spans of a batch that is committed."""
        ended = now_ns()
        for span in spans:
            self._tracer.record(replace(span, ended_ns=ended))

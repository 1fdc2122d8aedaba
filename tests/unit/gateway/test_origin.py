"""Which trace an event belongs to: its own, its caller's, or a new one; and what a span of its publication tells."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace

from producers.client import Publisher
from producers.publishing import Prepared, Publishing
from schemas.contracts import load_contracts
from schemas.envelope import header_attributes
from schemas.topics import Topics
from schemas.tracing import TraceContext, new_trace, parse
from services.runtime.clock import SystemClock
from services.runtime.settings import GatewaySettings, Settings, TracingSettings
from services.runtime.tracing import Span, Untraced, current, untraced
from tests.events import ISSUED
from tests.fakes.schemas import MemorySchemas

SAMPLE = load_contracts().types[ISSUED].sample
CALLER, OWN = new_trace(sampled=True), new_trace(sampled=True)


class Recording(Untraced):
    """Keeps the spans that it is given."""

    exports = True

    def __init__(self) -> None:
        super().__init__(1.0)
        self.spans: list[Span] = []

    def child(self, parent: TraceContext) -> TraceContext:
        return parent.child()

    def record(self, span: Span) -> None:
        self.spans.append(span)


def prepared(tracer: Untraced, caller: TraceContext | None = None, **attributes: Any) -> tuple[Publishing, Prepared]:
    """Return an event as it goes to Kafka."""
    publishing = Publishing(
        load_contracts(),
        MemorySchemas(),  # type: ignore[arg-type]
        "http://registry",
        Topics(),
        GatewaySettings(),
        SystemClock(),
        tracer,
    )
    named = {"id": "1", "source": "urn:a", "type": ISSUED, **attributes}
    return publishing, publishing.prepare(named, SAMPLE, caller=caller)


def context(event: Prepared) -> TraceContext | None:
    """Return what its headers on Kafka say."""
    named = header_attributes(event.headers)
    return parse(named.get("traceparent"), named.get("tracestate"))


def test_without_an_exporter_the_callers_context_is_passed_on_as_it_is() -> None:
    """No span of ours may stand between that nobody will ever find."""
    assert context(prepared(Untraced(), CALLER)[1]) == CALLER
    assert context(prepared(Untraced(), CALLER, **OWN.attributes())[1]) == OWN


@pytest.mark.parametrize("wrong", ["", "00-1-2-3", "none"])
def test_an_event_without_a_context_begins_a_trace(wrong: str) -> None:
    """Each one its own; a wrong one and its state are gone."""
    found = [context(prepared(Untraced(), traceparent=wrong, tracestate="a=1")[1]) for _ in range(2)]
    assert all(found)
    assert found[0] != found[1]
    assert not any(one.state or one.sampled for one in found if one)


def test_the_span_of_a_publication_is_under_the_caller() -> None:
    """The event carries the span's context: what is done with it later is under that."""
    tracer = Recording()
    publishing, event = prepared(tracer, CALLER)
    publishing.published(event)
    (span,) = tracer.spans
    assert (span.context, span.parent, list(span.links)) == (context(event), CALLER, [])
    assert span.context.trace_id == CALLER.trace_id
    assert span.ended_ns >= span.began_ns


def test_an_event_of_another_trace_than_its_caller_links_to_the_call() -> None:
    """What the event says of itself goes before: a batch may hold those of many."""
    tracer = Recording()
    publishing, event = prepared(tracer, CALLER, **OWN.attributes())
    publishing.published(event)
    assert (tracer.spans[0].parent, list(tracer.spans[0].links)) == (OWN, [CALLER])


def test_a_share_of_new_traces_is_marked_and_a_publishers_choice_holds() -> None:
    """Only where there is a collector; the trace's id decides, so that all processes decide alike."""
    endpoint = "http://127.0.0.1:4318"
    some = untraced(TracingSettings(otlp_endpoint=endpoint, sample_ratio=0.25))
    share = sum(some.begin().sampled for _ in range(4000)) / 4000
    assert 0.2 < share < 0.3
    assert not untraced(TracingSettings(sample_ratio=1.0)).begin().sampled
    unmarked = new_trace(sampled=False)
    assert context(prepared(some, unmarked)[1]) == unmarked


def test_the_clients_events_are_under_the_programs_own_span() -> None:
    """OpenTelemetry's current span, if the program has one."""
    held = trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1))
    assert current() is None
    with trace.use_span(trace.NonRecordingSpan(held)):
        assert current() == TraceContext(f"{0xABC:032x}", f"{0xDEF:016x}", 1)
        publisher = Publisher.__new__(Publisher)
        publisher.source = "urn:a"
        publisher._publishing = prepared(untraced(Settings().tracing))[0]
        assert context(publisher.prepare(ISSUED, SAMPLE)) == current()

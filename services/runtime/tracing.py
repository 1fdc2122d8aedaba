"""Spans of what happens to events, exported with OpenTelemetry where that is installed and asked for.

Contexts travel with events whether anything is exported or not (:mod:`schemas.tracing`). A process that exports gives
each hop a span of its own; one that doesn't passes on the context that it was given. Nothing waits for a collector:
what it does not take in time is dropped, and counted.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal, Protocol

import structlog

from schemas.tracing import TraceContext, new_trace
from services.runtime.errors import HongyanError
from services.runtime.measuring import CollectorRegistry
from services.runtime.metrics import TRACE_SPANS
from services.runtime.settings import TracingSettings

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

QUEUE = 8192
BATCH = 512
EVERY_S = 0.5
EXPORT_S = 5.0
CLOSE_S = 2.0
OTLP_PATH = "/v1/traces"
MISSING = (
    "设了 tracing.otlp_endpoint，但没有装 OpenTelemetry：pip install 'hongyan[otel]' "
    "(an OTLP endpoint is set, and the extra otel is not installed)"
)

Kind = Literal["server", "producer", "consumer", "client"]
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Span:
    """What one process did with one event; times in nanoseconds since the epoch, ``error`` says why it failed."""

    name: str
    kind: Kind
    context: TraceContext
    parent: TraceContext | None
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    links: Sequence[TraceContext] = ()
    error: str | None = None


class Tracer(Protocol):
    """Begins traces, and takes in spans. No call waits for anything."""

    @property
    def exports(self) -> bool:
        """Tell whether spans go anywhere."""
        ...

    def begin(self) -> TraceContext:
        """Return the context of a new trace."""
        ...

    def child(self, parent: TraceContext) -> TraceContext:
        """Return the context of a span under this one; the same where none will be recorded."""
        ...

    def record(self, span: Span) -> None:
        """Take a span in that has ended, or drop it."""
        ...

    def close(self) -> None:
        """Export what there is, for a moment at most."""
        ...


class Untraced:
    """Exports nothing. ``ratio`` of the traces that it begins are marked for those who do."""

    exports = False

    def __init__(self, ratio: float = 0.0) -> None:
        self._ratio = ratio

    def begin(self) -> TraceContext:
        """Return the context of a new trace."""
        return _begin(self._ratio)

    def child(self, parent: TraceContext) -> TraceContext:
        """Return the same: no span of ours is under it."""
        return parent

    def record(self, span: Span) -> None:
        """Nothing becomes of it."""

    def close(self) -> None:
        """Nothing is open."""


class OtlpTracer:
    """Sends spans to an OTLP collector from a thread of its own, in batches, out of a bounded queue."""

    exports = True

    def __init__(self, endpoint: str, ratio: float, process: str, registry: CollectorRegistry) -> None:
        self._ratio = ratio
        self._exporter = _exporter(endpoint)
        self._resource = _resource(process)
        self._counted = TRACE_SPANS.on(registry)
        for outcome in ("exported", "failed", "dropped"):
            self._counted.labels(outcome)
        self._queue: deque[Span] = deque()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._told = False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def begin(self) -> TraceContext:
        """Return the context of a new trace."""
        return _begin(self._ratio)

    def child(self, parent: TraceContext) -> TraceContext:
        """Return the context of a span under this one."""
        return parent.child() if parent.sampled else parent

    def record(self, span: Span) -> None:
        """Queue a span; the newest is dropped where there is no room."""
        if not span.context.sampled:
            return
        if len(self._queue) >= QUEUE:
            self._counted.labels("dropped").inc()
            return
        self._queue.append(span)
        if len(self._queue) >= BATCH:
            self._wake.set()

    def close(self) -> None:
        """Export what there is, for a moment at most."""
        self._stop.set()
        self._wake.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(EVERY_S)
            self._wake.clear()
            while self._queue:
                self._export()

    def _export(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
        taken = self._exporter.export([_readable(span, self._resource) for span in batch]).name == "SUCCESS"
        self._counted.labels("exported" if taken else "failed").inc(len(batch))
        if taken == self._told:
            self._told = not taken
            (log.info if taken else log.warning)("traces_resumed" if taken else "traces_interrupted")


def tracer_of(settings: TracingSettings, process: str, registry: CollectorRegistry) -> Tracer:
    """Return the tracer of a process; raises HongyanError when an endpoint is set and the extra is missing."""
    if settings.otlp_endpoint is None:
        return Untraced()
    return OtlpTracer(settings.otlp_endpoint, settings.sample_ratio, process, registry)


def untraced(settings: TracingSettings) -> Untraced:
    """Return what begins traces in a process that exports none, for those behind it that may."""
    return Untraced(settings.sample_ratio if settings.otlp_endpoint else 0.0)


def current() -> TraceContext | None:
    """Return the span that the calling program is in, if it uses OpenTelemetry; nothing is imported for it."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    found = api.get_current_span().get_span_context()
    if not found.is_valid:
        return None
    return TraceContext(
        f"{found.trace_id:032x}", f"{found.span_id:016x}", int(found.trace_flags), found.trace_state.to_header()
    )


def now_ns() -> int:
    """Return the wall time as spans have it."""
    return time.time_ns()


def _begin(ratio: float) -> TraceContext:
    found = new_trace(sampled=False)
    # As OpenTelemetry samples by ratio: the last 56 bits of the trace's id decide.
    sampled = ratio >= 1 or (ratio > 0 and int(found.trace_id[-14:], 16) < ratio * (1 << 56))
    return TraceContext(found.trace_id, found.span_id, int(sampled))


def _exporter(endpoint: str) -> OTLPSpanExporter:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise HongyanError(MISSING) from error
    import logging

    # It reports every failed attempt at ERROR; we tell once of an outage, and once of its end.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    return OTLPSpanExporter(endpoint.rstrip("/").removesuffix(OTLP_PATH) + OTLP_PATH, timeout=EXPORT_S)


def _resource(process: str) -> Resource:
    from opentelemetry.sdk.resources import Resource

    return Resource({"service.namespace": "hongyan", "service.name": process, "service.version": version("hongyan")})


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    def known(context: TraceContext) -> trace.SpanContext:
        return trace.SpanContext(
            int(context.trace_id, 16),
            int(context.span_id, 16),
            is_remote=False,
            trace_flags=trace.TraceFlags(context.flags),
            trace_state=trace.TraceState.from_header([context.state]) if context.state else None,
        )

    code = trace.StatusCode.ERROR if span.error else trace.StatusCode.UNSET
    return ReadableSpan(
        span.name,
        known(span.context),
        known(span.parent) if span.parent else None,
        resource,
        span.attributes,
        links=[trace.Link(known(one)) for one in span.links],
        kind=trace.SpanKind[span.kind.upper()],
        status=trace.Status(code, span.error),
        start_time=span.began_ns,
        end_time=span.ended_ns,
        instrumentation_scope=InstrumentationScope("hongyan", version("hongyan")),
    )

"""W3C Trace Context (https://www.w3.org/TR/trace-context/): which trace an event belongs to.

It stands in the event's attributes ``traceparent`` and ``tracestate`` (CloudEvents' distributed tracing extension) from
its publication on. Between two processes of ours that export spans, Kafka's header ``traceparent`` says which span the
record comes from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

PARENT, STATE = "traceparent", "tracestate"
SAMPLED, KNOWN_FLAGS = 1, 3
MAX_STATE = 512
_PARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII
)
_STATE = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span of a trace: 32 and 16 hexadecimal digits, the flags, and what other tracing systems say beside it."""

    trace_id: str
    span_id: str
    flags: int = 0
    state: str = ""

    @property
    def sampled(self) -> bool:
        """Tell whether the trace is recorded."""
        return bool(self.flags & SAMPLED)

    @property
    def traceparent(self) -> str:
        """Return the header's value."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    def child(self) -> TraceContext:
        """Return a new span of the same trace."""
        return replace(self, span_id=os.urandom(8).hex())

    def attributes(self) -> dict[str, str]:
        """Return both headers, or attributes, that it takes."""
        return {PARENT: self.traceparent} | ({STATE: self.state} if self.state else {})


def new_trace(*, sampled: bool) -> TraceContext:
    """Return the first span of a new trace."""
    drawn = os.urandom(24).hex()
    return TraceContext(drawn[:32], drawn[32:], SAMPLED if sampled else 0)


def parse(traceparent: str | None, tracestate: str | None = None) -> TraceContext | None:
    """Return what the two headers say; None, as the standard asks, for one that is missing or wrong."""
    found = _PARENT.fullmatch(traceparent or "")
    if found is None or (found[1] == "00" and found[5]):
        return None
    state = (tracestate or "").strip()
    if len(state) > MAX_STATE or not _STATE.fullmatch(state):
        state = ""
    return TraceContext(found[2], found[3], int(found[4], 16) & KNOWN_FLAGS, state)


def context_of(values: Mapping[str, object]) -> TraceContext | None:
    """Return the context among an event's attributes or a request's headers."""
    parent, state = values.get(PARENT), values.get(STATE)
    return parse(parent, state if isinstance(state, str) else None) if isinstance(parent, str) else None


def hop_of(headers: Iterable[tuple[str, bytes]], attributes: Mapping[str, str]) -> TraceContext | None:
    """Return the span that a record comes from: the last process's where it recorded one, else the publication's."""
    own = context_of(attributes)
    for name, value in headers:
        if name == PARENT:
            hop = parse(value.decode("ascii", "replace"))
            return own if hop is None else replace(hop, state=own.state if own else "")
    return own

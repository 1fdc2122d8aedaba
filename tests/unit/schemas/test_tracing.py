"""Trace contexts are read as W3C Trace Context says, and what is wrong is as if it were not there."""

from __future__ import annotations

import pytest

from schemas.tracing import TraceContext, context_of, hop_of, new_trace, parse

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


def test_what_is_read_is_written_again() -> None:
    """Flags and the other systems' state stay."""
    found = parse(GOOD, "congo=t61rcWkgMzE")
    assert found == TraceContext(TRACE, SPAN, 1, "congo=t61rcWkgMzE")
    assert found.attributes() == {"traceparent": GOOD, "tracestate": "congo=t61rcWkgMzE"}
    assert found.sampled
    child = found.child()
    assert (child.trace_id, child.state, child.flags) == (TRACE, found.state, 1)
    assert child.span_id != SPAN


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        "",
        GOOD.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}",
        f"{GOOD}-more",
        f"{GOOD}\n",
        f"00-{TRACE[:-1]}-{SPAN}-01",
    ],
)
def test_what_is_no_context_is_none(wrong: str | None) -> None:
    """The standard's own cases: a new trace begins instead."""
    assert parse(wrong) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    """More fields may follow, and unknown flags are not passed on."""
    assert parse(f"01-{TRACE}-{SPAN}-ff-what-comes") == TraceContext(TRACE, SPAN, 3)


@pytest.mark.parametrize("state", ["a=1\r\nx: y", "值=1", "a=" + "x" * 600])
def test_a_state_that_no_header_may_have_is_left_out(state: str) -> None:
    """The trace goes on without it."""
    assert parse(GOOD, state) == TraceContext(TRACE, SPAN, 1)


def test_values_of_other_kinds_are_none() -> None:
    """An event's attribute may be a number."""
    assert context_of({"traceparent": 7}) is None
    assert context_of({"traceparent": GOOD, "tracestate": 7}) == TraceContext(TRACE, SPAN, 1)


def test_a_record_comes_from_the_last_hop_that_recorded_a_span() -> None:
    """Kafka's header goes before the event's attribute, unless it is none."""
    hop = new_trace(sampled=True)
    attributes = {"traceparent": GOOD, "tracestate": "a=1"}
    assert hop_of([("traceparent", hop.traceparent.encode())], attributes) == TraceContext(
        hop.trace_id, hop.span_id, 1, "a=1"
    )
    assert hop_of([("traceparent", b"\xff")], attributes) == TraceContext(TRACE, SPAN, 1, "a=1")
    assert hop_of([], {}) is None

"""One event is one trace, from the publisher's call to every agency; and no collector can delay an event."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from schemas.contracts import load_contracts
from schemas.topics import Topics
from schemas.tracing import new_trace, parse
from services.runtime.kafka.port import Kafka
from services.runtime.measuring import samples
from services.runtime.settings import Settings
from tests.collector import Collector, Span
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import OwnTopics
from tests.events import ISSUED, SOURCE, read_all
from tests.processes import Processes, Running
from tests.scripted_receiver import Answer, ScriptedReceiver

pytestmark = pytest.mark.servers
KEY = "hyk_test-key-of-the-department"
MANY = 200


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that takes what comes."""
    found = Collector()
    yield found
    found.close()


@pytest.fixture
def receivers() -> Iterator[Callable[[], ScriptedReceiver]]:
    """Makes receivers."""
    made: list[ScriptedReceiver] = []

    def make(*failing: int) -> ScriptedReceiver:
        made.append(ScriptedReceiver(lambda _, earlier: Answer(failing[earlier] if earlier < len(failing) else 204)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def start(installation: Settings, processes: Processes, endpoint: str) -> Running:
    """Start what exports, and return the gateway."""
    installation.tracing.otlp_endpoint = endpoint
    gateway = processes.start("gateway", installation, wait=False)
    others = [processes.start(name, installation, wait=False) for name in ("router", "pusher")]
    for one in (gateway, *others):
        eventually(one.healthy, 40, one.name)
    return gateway


def subscribe(
    own: OwnTopics, configuration: Configuration, agency: str, receiver: ScriptedReceiver, **delivery: int
) -> None:
    """Make an agency that gets every certificate."""
    own.ensure_agency(agency)
    configuration.agency(agency, receiver.url, delivery=delivery)
    configuration.subscription(f"sub-{agency}", agency, [ISSUED])


def publish(gateway: Running, *ids: str, headers: dict[str, str] | None = None) -> float:
    """Publish certificates in one call, and return how long its answer took."""
    data = load_contracts().types[ISSUED].sample
    events = [
        {
            "specversion": "1.0",
            "id": one,
            "type": ISSUED,
            "data": data | {"certificate_no": f"（川）医广〔2025〕第{n:07d}号"},
        }
        for n, one in enumerate(ids, start=1)
    ]
    request = urllib.request.Request(
        f"{gateway.url}/v1/events",
        json.dumps(events).encode(),
        {"Authorization": f"Bearer {KEY}", "Content-Type": "application/cloudevents-batch+json", **(headers or {})},
    )
    began = time.monotonic()
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 202
    return time.monotonic() - began


def test_one_certificate_is_one_connected_trace(
    kafka: Kafka,
    topics: Topics,
    own: OwnTopics,
    configuration: Configuration,
    installation: Settings,
    processes: Processes,
    collector: Collector,
    receivers: Callable[..., ScriptedReceiver],
) -> None:
    """The publisher's span, ours of publishing, of routing, and one of each attempt at each agency, each under the one
    before; the agencies' requests carry the span that made them, and the receipts name the trace.
    """
    market, health = receivers(), receivers(503)
    subscribe(own, configuration, "market", market)
    subscribe(own, configuration, "health", health, batch=10)
    configuration.department("d", SOURCE, KEY, [ISSUED])
    gateway = start(installation, processes, collector.url)
    caller = new_trace(sampled=True)
    publish(gateway, "e1", headers={"traceparent": caller.traceparent, "tracestate": "theirs=1"})
    eventually(lambda: len(collector.of(caller.trace_id)) >= 5, 20, "the spans")
    spans = collector.of(caller.trace_id)
    by_name: dict[str, list[Span]] = {}
    for span in spans:
        by_name.setdefault(span.name, []).append(span)
    (published,), (routed,), (delivered,) = by_name["publish"], by_name["route"], by_name["deliver market"]
    assert {name: len(found) for name, found in by_name.items()} == {
        "publish": 1,
        "route": 1,
        "deliver market": 1,
        "deliver health": 2,
    }
    assert published.parent_id == caller.span_id
    assert routed.parent_id == published.span_id
    assert {span.parent_id for span in (delivered, *by_name["deliver health"])} == {routed.span_id}
    assert [span.service for span in (published, routed, delivered)] == ["gateway", "router", "pusher"]
    assert routed.attributes["hongyan.agencies"] == "health,market"
    assert [span.failed for span in by_name["deliver health"]] == [True, False]
    assert by_name["deliver health"][0].attributes["http.response.status_code"] == 503
    carried = parse(market.requests[0].headers["traceparent"])
    assert carried is not None
    assert (carried.trace_id, carried.span_id) == (caller.trace_id, delivered.span_id)
    assert market.requests[0].headers["tracestate"] == "theirs=1"
    own_context = parse(market.requests[0].event["traceparent"])
    assert own_context is not None
    assert own_context.span_id == published.span_id
    told = [json.loads(record.value or b"{}")["traceparent"] for record in read_all(kafka, topics.receipts, 6)]
    assert told == [own_context.traceparent] * 2

    # Events of one request: each its own trace; the request is the first one's, and the other's attempt links to it.
    publish(gateway, "e2", "e3")
    eventually(lambda: len([s for s in collector.spans if s.name == "deliver health"]) >= 4, 20, "the batch")
    batch = [s for s in collector.spans if s.name == "deliver health"][2:]
    assert len({span.trace_id for span in batch}) == 2
    if len(health.requests) == 3:  # they came in one request
        linked = next(span for span in batch if span.links)
        first = parse(health.requests[-1].headers["traceparent"])
        assert first is not None
        assert linked.links == [(first.trace_id, first.span_id)]


def test_a_collector_that_never_answers_delays_nothing(
    own: OwnTopics,
    configuration: Configuration,
    installation: Settings,
    processes: Processes,
    receivers: Callable[..., ScriptedReceiver],
) -> None:
    """A black hole: calls are answered and events delivered as ever; spans are given up and counted, and processes end
    in time.
    """
    market = receivers()
    subscribe(own, configuration, "market", market)
    configuration.department("d", SOURCE, KEY, [ISSUED])
    with closing(socket.create_server(("127.0.0.1", 0), backlog=1)) as hole:
        gateway = start(installation, processes, f"http://127.0.0.1:{hole.getsockname()[1]}")
        publish(gateway, "warm")
        eventually(lambda: "warm" in market.accepted, 20, "the first")
        began = time.monotonic()
        took = [publish(gateway, *(f"e{call}-{n}" for n in range(20))) for call in range(MANY // 20)]
        eventually(lambda: len(market.accepted) > MANY, 15, "all of them")
        assert max(took) < 2
        assert time.monotonic() - began < 10
        eventually(lambda: _spans(gateway, "failed") > 0, 20, "given up")
        for running in processes.running:
            began = time.monotonic()
            assert running.terminate() == 0
            assert time.monotonic() - began < 12


def _spans(running: Running, outcome: str) -> float:
    with urllib.request.urlopen(f"{running.url}/metrics", timeout=5) as page:
        text = page.read().decode()
    return sum(v for labels, v in samples(text, "hongyan_trace_spans_total") if labels["outcome"] == outcome)


WITHOUT = """
import sys
{block}
from producers.gateway import process as gateway
from consumers.router import process as router
from consumers.pusher import process as pusher
from services.runtime.settings import TracingSettings
from services.runtime.tracing import tracer_of
from services.runtime.exposition import new_registry
tracer_of(TracingSettings(otlp_endpoint={endpoint!r}), "gateway", new_registry())
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
"""


def test_without_an_endpoint_nothing_is_imported_and_without_the_extra_the_setting_says_so() -> None:
    """Whoever asks for traces that can't be had is told at the start, by name of what to install."""

    def run(block: str, endpoint: str | None) -> subprocess.CompletedProcess[str]:
        program = WITHOUT.format(block=block, endpoint=endpoint)
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    without = run("", None)
    assert without.stdout.strip() == "[]", without.stderr
    missing = run("sys.modules['opentelemetry.exporter'] = None", "http://127.0.0.1:4318")
    assert "hongyan[otel]" in missing.stderr

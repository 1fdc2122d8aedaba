"""The store made again from a real Kafka: beside the serving one, compared, switched, and up to a month's closing."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from consumers.statistics.engine import Statistics
from consumers.statistics.metrics import StatisticsMetrics
from consumers.statistics.projection import Projection
from consumers.statistics.rebuilding import BESIDE, Rebuild
from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.quarantine.guarding import LogGuard
from services.runtime.clock import SystemClock
from services.runtime.kafka.port import Kafka, Partition
from services.statistics.closing import Closing, ClosingRefusedError, Signature, verify_digest
from services.statistics.figure import Month
from services.statistics.reading import figures
from services.statistics.store import FactStore
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.fact_stores import METRICS, SHAPES
from tests.window_events import Made, WindowEvents

pytestmark = pytest.mark.servers


class World:
    """A log, a serving store and what is needed to make it again."""

    def __init__(self, kafka: Kafka, topics: Topics, dsn: str) -> None:
        self.kafka, self.topics, self.dsn = kafka, topics, dsn
        self.events = WindowEvents()
        self.inputs = [topics.events("window")]
        self.consumer = topics.group("statistics")
        self.projection = Projection(load_contracts(), Codec(self.events.schemas), topics)

    def publish(self, *made: Made) -> None:
        """Append events."""
        producer = self.kafka.producer()
        for one in made:
            one.send(producer, self.topics)
        producer.close()

    def completed(self, *numbers: int, **changes: str) -> list[Made]:
        """Return completions of cases."""
        return [self.events.make(event_id=f"e{n}", project_no=f"SYN-{n}", **changes) for n in numbers]

    def exact(self, metric: str = "items_handled", month: str = "2025-12") -> object:
        """Return a figure as now known."""
        with figures(self.dsn, self.consumer, METRICS, SHAPES) as reader:
            return reader.figure(metric, month, now=True).exact

    def rebuild(self) -> Rebuild:
        """Return a rebuild."""
        return Rebuild(self.kafka, self.dsn, self.consumer, self.projection)

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement against the serving store."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description else []


@pytest.fixture
def world(kafka: Kafka, topics: OwnTopics, database_dsn: str) -> Iterator[World]:
    """Return a log with the statistics at work on it."""
    topics.ensure_base("window")
    found = World(kafka, topics, database_dsn)
    stop = threading.Event()
    store = FactStore(database_dsn, found.consumer)
    metrics = StatisticsMetrics(CollectorRegistry())
    statistics = Statistics(kafka, topics, found.inputs, store, found.projection, metrics, "statistics-0")
    thread = threading.Thread(target=statistics.run, args=(stop,))
    thread.start()
    yield found
    stop.set()
    thread.join(30)


def test_a_rebuilt_store_agrees_and_takes_over_while_events_come(world: World) -> None:
    """Serving goes on over the switch; what comes afterwards is counted by the new store, once."""
    made = world.completed(*range(300))
    corrected = world.events.make(event_id="fix", project_no="SYN-1", occurred_at="2025-11-05T09:00:00+08:00")
    corrected.headers.append(("ce_follows", b"e1"))  # type: ignore[attr-defined]
    world.publish(*made, *made[:20], corrected)
    eventually(lambda: world.exact() == 299, 30, "the first store")
    before = world.execute("SELECT 'statistics.fact'::regclass::oid")
    found = world.rebuild().run(switch=True)
    assert (found.differences, found.switched) == ([], True)
    assert found.records == 321
    assert world.execute("SELECT 'statistics.fact'::regclass::oid") != before
    assert world.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'statistics_%'") == []
    world.publish(*world.completed(1000, 1001, handling="window"))
    eventually(lambda: world.exact() == 301, 30, "the new store to go on")
    assert world.execute("SELECT count(*) FROM statistics.fact") == [(303,)]


def test_a_store_that_was_tampered_with_is_found_and_not_switched(world: World) -> None:
    """A fact taken away in the database is a difference; the serving store stays."""
    world.publish(*world.completed(1, 2, 3))
    eventually(lambda: world.exact() == 3, 30)
    world.execute("DELETE FROM statistics.fact WHERE event_id = 'e2'")
    world.execute("UPDATE statistics.month_state SET stale = true")
    found = world.rebuild().run(switch=True)
    assert not found.switched
    assert [(one.month, one.serving, one.rebuilt) for one in found.differences] == [(202512, (2, 2), (3, 3))]


def test_a_closed_month_counted_again_from_the_log_gives_its_digest(world: World) -> None:
    """Up to the positions of the closing, whatever came later."""
    world.publish(*world.completed(1, 2, 3))
    eventually(lambda: world.exact() == 3, 30)
    guard = LogGuard(world.kafka, world.topics, world.inputs)
    closing = Closing(world.dsn, world.consumer, METRICS, SHAPES, guard, SystemClock())
    outcome = closing.close("2025-12", Signature("张三", "按月关账"))
    world.publish(*world.completed(4))
    eventually(lambda: world.exact() == 4, 30)
    with figures(world.dsn, world.consumer, METRICS, SHAPES) as reader:
        decision = reader.frozen.decision(202512)
        assert decision is not None
        definitions = reader.frozen.definitions(202512)
        assert verify_digest(reader, Month(2025, 12), definitions) != outcome.digest
    names = {name: name.rpartition("/") for name in decision.positions}
    targets = {Partition(topic, int(n)): decision.positions[name] for name, (topic, _, n) in names.items()}
    rebuild = world.rebuild()
    with rebuild.beside() as store:
        rebuild.fill(store, targets)
        with figures(world.dsn, world.consumer, METRICS, SHAPES, BESIDE) as again:
            assert verify_digest(again, Month(2025, 12), definitions) == outcome.digest
    assert world.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'statistics_%'") == []


def test_lag_and_dead_letters_of_the_month_refuse_its_closing(world: World) -> None:
    """Both are named; a dead letter of another month does not matter."""
    good, other = world.completed(1, 2)
    bad = Made(good.key, b"no avro", good.headers)
    elsewhere = world.events.make(event_id="x", project_no="X", occurred_at="2025-10-05T09:00:00+08:00")
    world.publish(other, bad, Made(elsewhere.key, b"no avro", elsewhere.headers))
    eventually(lambda: world.exact() == 1, 30)
    guard = LogGuard(world.kafka, world.topics, world.inputs)

    def refusals() -> list[str]:
        closing = Closing(world.dsn, world.consumer, METRICS, SHAPES, guard, SystemClock())
        try:
            closing.close("2025-12", Signature("张三", "按月关账"))
        except ClosingRefusedError as error:
            return list(error.refusals)
        raise AssertionError("it was closed")

    found = eventually(lambda: [one for one in refusals() if "死信" in one], 30, "the dead letter")
    assert len(found) == 1
    assert "死信 statistics/" in found[0]
    ends = guard.ends()
    behind = guard(Month(2025, 12), {(p.topic, p.partition): max(0, end - 1) for p, end in ends.items()})
    assert any("还有 1 条记录未统计" in one for one in behind)

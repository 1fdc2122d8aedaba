"""The statistics at work in a test's own process, and what it puts on the log for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from prometheus_client import CollectorRegistry

from consumers.statistics.engine import Statistics
from consumers.statistics.metrics import StatisticsMetrics
from consumers.statistics.process import settle_now
from consumers.statistics.projection import Projection
from schemas.codec import Codec
from schemas.contracts import load_contracts
from services.runtime.kafka.port import Kafka
from services.statistics.store import FactStore
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.window_events import Made, WindowEvents


@dataclass(frozen=True, slots=True)
class Running:
    """One instance at work, with its metrics."""

    statistics: Statistics
    metrics: CollectorRegistry

    def total(self, name: str) -> float | None:
        """Return a counter's value."""
        return self.metrics.get_sample_value(f"hongyan_statistics_{name}_total")

    def await_outage(self) -> None:
        """Wait until the instance has noticed that something is away."""
        eventually(lambda: not self.statistics.working, 20, "the outage")


class Counting:
    """The statistics at work in this process, one instance a thread."""

    def __init__(
        self, kafka: Kafka, topics: OwnTopics, dsn: str, events: WindowEvents, inputs: Sequence[str] = ()
    ) -> None:
        """``inputs`` are the topics that are counted; without any, those of window events."""
        self._made = (kafka, topics, dsn, events)
        self._inputs = list(inputs) or [topics.events("window")]

    @contextmanager
    def instance(self, slot: str = "0") -> Iterator[Running]:
        """Run one instance."""
        kafka, topics, dsn, events = self._made
        registry, stop = CollectorRegistry(), threading.Event()
        statistics = Statistics(
            kafka,
            topics,
            self._inputs,
            FactStore(dsn, topics.group("statistics")),
            Projection(load_contracts(), Codec(events.schemas), topics),
            StatisticsMetrics(registry),
            f"statistics-{slot}",
            lambda: settle_now(dsn),
        )
        thread = threading.Thread(target=statistics.run, args=(stop,))
        thread.start()
        try:
            yield Running(statistics, registry)
        finally:
            stop.set()
            thread.join(30)
        assert not thread.is_alive()


def publish(kafka: Kafka, topics: OwnTopics, made: Sequence[Made]) -> None:
    """Append records and wait until all are on the log."""
    producer = kafka.producer(acknowledge_timeout_s=30.0)
    sent = [producer.send(topics.events(m.domain), key=m.key, value=m.value, headers=m.headers) for m in made]
    producer.flush(30)
    assert all(one.result(1) for one in sent)
    producer.close()


def count(dsn: str, query: str = "SELECT count(*) FROM statistics.fact") -> int:
    """Return one number from the database."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def passed(dsn: str) -> int:
    """Return how many offsets the table has passed."""
    return count(dsn, "SELECT coalesce(sum(next_offset), 0) FROM statistics.consumer_offset")

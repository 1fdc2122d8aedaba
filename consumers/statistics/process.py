"""统计：事实与偏移量同一事务入库，每个事件只计一次 (counts every event exactly once)。"""

from __future__ import annotations

from datetime import timedelta

from consumers.statistics.engine import Statistics
from consumers.statistics.metrics import StatisticsMetrics
from consumers.statistics.projection import Projection
from consumers.statistics.watching import GapWatch
from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.runtime import logging
from services.runtime.clock import SystemClock
from services.runtime.database import dsn_of
from services.runtime.exposition import new_registry
from services.runtime.kafka.client import connect
from services.runtime.kafka.contact import Contact
from services.runtime.lifecycle import stop_event
from services.runtime.probes import Health, ProbeServer
from services.runtime.settings import Settings
from services.statistics.opening import counted_topics
from services.statistics.settling import settled
from services.statistics.store import FactStore


def run(settings: Settings, *, port: int) -> None:
    """Count until SIGTERM."""
    logging.configure(settings.log, process="statistics")
    stop = stop_event()
    topics, contracts = Topics(settings.kafka.topic_prefix), load_contracts()
    codec = Codec(RegistryClient(settings.registry.url, settings.registry.timeout_s))
    metrics_registry = new_registry()
    dsn = dsn_of(settings.database)
    consumer, metrics = topics.group("statistics"), StatisticsMetrics(metrics_registry)
    watch = GapWatch(dsn, consumer, metrics)

    def settle() -> None:
        settle_now(dsn)
        watch.look()

    def health() -> Health:
        return contact.health(Health(statistics.working, {"lost_months": lost} if (lost := watch.months()) else {}))

    kafka = connect(settings.kafka)
    contact = Contact(kafka, SystemClock(), settings.kafka.silent_s)
    statistics = Statistics(
        kafka,
        topics,
        counted_topics(topics, contracts),
        FactStore(dsn, consumer),
        Projection(contracts, codec, topics, timedelta(seconds=settings.gateway.future_skew_s)),
        metrics,
        f"statistics-{settings.router.slot}",
        settle,
    )
    with ProbeServer(settings.http.host, port, health, metrics_registry):
        contact.start(stop)
        statistics.run(stop)


def settle_now(dsn: str) -> None:
    """Settle what is stored."""
    with settled(dsn):
        pass

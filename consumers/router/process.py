"""路由：把事件恰好一次地送进有权单位的队列 (routes events to the agencies entitled to them, exactly once)。"""

from __future__ import annotations

import hashlib
from pathlib import Path

import structlog

from consumers.router.backfill import Backfiller
from consumers.router.engine import Router
from consumers.router.memory import FORM, Memory
from consumers.router.metrics import RouterMetrics
from consumers.router.plan import Planner
from consumers.router.schema_names import RegistrySchemaNames
from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import PROBE_DOMAIN, Topics
from services.routing.redaction import Redactor
from services.runtime import logging
from services.runtime.clock import SystemClock
from services.runtime.exposition import new_registry
from services.runtime.kafka.client import connect
from services.runtime.kafka.contact import Contact
from services.runtime.kafka.port import Kafka
from services.runtime.lifecycle import outlast, stop_event
from services.runtime.probes import Health, ProbeServer
from services.runtime.settings import Settings
from services.runtime.tracing import tracer_of
from services.subscriptions.follower import ControlFollower

RETRY_S = 0.3

log = structlog.get_logger()


def run(settings: Settings, *, port: int) -> None:
    """Route until SIGTERM."""
    logging.configure(settings.log, process="router")
    stop = stop_event()
    kafka, topics, contracts = connect(settings.kafka), Topics(settings.kafka.topic_prefix), load_contracts()
    registry = RegistryClient(settings.registry.url, settings.registry.timeout_s)
    metrics_registry = new_registry()
    metrics, tracer = RouterMetrics(metrics_registry), tracer_of(settings.tracing, "router", metrics_registry)
    follower = ControlFollower(kafka, [topics.control_subscriptions], "router")
    metrics_registry.register(follower)
    state, clock = _Working(), SystemClock()
    contact = Contact(kafka, clock, settings.kafka.silent_s)
    with ProbeServer(settings.http.host, port, lambda: contact.health(state.health()), metrics_registry):
        follower.start(stop)
        contact.start(stop)
        while not stop.is_set() and not follower.caught_up(RETRY_S):
            pass
        folder = outlast("cluster_id", lambda: state_folder(kafka, settings), stop)
        if folder is None:
            return
        memory = Memory(folder, contracts.follow_up_types())
        planner = Planner(follower, contracts, metrics, clock)
        pace = settings.router
        backfiller = Backfiller(
            kafka, topics, memory, planner, clock, pace.slot, per_s=pace.backfill_per_s, chunk=pace.backfill_chunk
        )
        state.router = Router(
            kafka,
            topics,
            [*contracts.domains(), PROBE_DOMAIN],
            memory,
            RegistrySchemaNames(registry),
            Codec(registry).decode,
            Redactor(registry, planner.policy_of),
            planner,
            metrics,
            backfiller,
            slot=settings.router.slot,
            batch=settings.router.batch,
            tracer=tracer,
        )
        state.router.run(stop)
        memory.close()
    tracer.close()


class _Working:
    router: Router | None = None

    def health(self) -> Health:
        return Health(self.router is not None and self.router.working)


def state_folder(kafka: Kafka, settings: Settings) -> Path:
    """Return where a slot's state lies, named by the cluster: it must not outlive the log it was made of.

    Raises KafkaUnavailableError.
    """
    name = hashlib.sha256(f"{_cluster_id(kafka)}/{settings.kafka.topic_prefix}/{FORM}".encode()).hexdigest()[:16]
    return settings.data_dir / "state" / f"router-{settings.router.slot}-{name}"


def _cluster_id(kafka: Kafka) -> str:
    admin = kafka.admin()
    try:
        return admin.cluster_id()
    finally:
        admin.close()

"""发件箱转发：把部门数据库发件箱里的事件恰好一次写入 Kafka (the outbox relay)。"""

from __future__ import annotations

from producers.outbox.engine import Relay, RelayRules
from producers.outbox.metrics import RelayMetrics
from producers.outbox.repository import Outbox
from producers.publishing import Publishing
from schemas.contracts import load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from schemas.validation import ensure_sound
from services.runtime import logging
from services.runtime.clock import SystemClock
from services.runtime.errors import HongyanError
from services.runtime.exposition import new_registry
from services.runtime.kafka.client import connect
from services.runtime.lifecycle import stop_event
from services.runtime.probes import ProbeServer
from services.runtime.settings import Settings
from services.runtime.tracing import tracer_of


def run(settings: Settings, *, port: int) -> None:
    """Relay until SIGTERM."""
    logging.configure(settings.log, process="relay")
    ours = settings.relay
    if ours.dsn is None or not ours.source:
        raise HongyanError("请设置 HONGYAN_RELAY__DSN 与 HONGYAN_RELAY__SOURCE (relay.dsn and relay.source are needed)")
    stop = stop_event()
    topics = Topics(settings.kafka.topic_prefix)
    registry = RegistryClient(settings.registry.url, settings.registry.timeout_s)
    counted = new_registry()
    tracer = tracer_of(settings.tracing, "relay", counted)
    publishing = Publishing(
        ensure_sound(load_contracts()), registry, settings.registry.url, topics, settings.gateway, SystemClock(), tracer
    )
    outbox = Outbox(ours.dsn.get_secret_value(), ours.table, ours.after, max(ours.lock_idle_s, 2 * ours.poll_s))
    rules = RelayRules(ours.name, ours.source, ours.batch, ours.poll_s)
    relay = Relay(outbox, connect(settings.kafka), topics, publishing, rules, RelayMetrics(counted))

    with ProbeServer(settings.http.host, port, relay.duty.health, counted):
        relay.run(stop)
    tracer.close()

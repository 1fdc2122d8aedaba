"""台账：发布、路由、送达与回执的全部记录，与偏移量同一事务入库 (the ledger of every event, built exactly once)。"""

from __future__ import annotations

from consumers.ledger.engine import Ledger, LedgerMetrics
from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.ledger.repository import LedgerStore
from services.runtime import logging
from services.runtime.clock import SystemClock
from services.runtime.database import dsn_of
from services.runtime.exposition import new_registry
from services.runtime.kafka.client import connect
from services.runtime.kafka.contact import Contact
from services.runtime.lifecycle import stop_event
from services.runtime.probes import Health, ProbeServer
from services.runtime.settings import Settings


def run(settings: Settings, *, port: int) -> None:
    """Fill the ledger until SIGTERM."""
    logging.configure(settings.log, process="ledger")
    stop = stop_event()
    topics = Topics(settings.kafka.topic_prefix)
    registry = new_registry()
    kafka, clock = connect(settings.kafka), SystemClock()
    contact = Contact(kafka, clock, settings.kafka.silent_s)
    ledger = Ledger(
        kafka,
        topics,
        load_contracts(),
        LedgerStore(dsn_of(settings.database), topics.group("ledger")),
        Codec(RegistryClient(settings.registry.url, settings.registry.timeout_s)),
        LedgerMetrics(registry),
        f"ledger-{settings.router.slot}",
        clock,
    )
    with ProbeServer(settings.http.host, port, lambda: contact.health(Health(ledger.working)), registry):
        contact.start(stop)
        ledger.run(stop)

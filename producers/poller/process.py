"""数据表轮询：按映射文件把部门数据库的行变成事件 (the table poller)。"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from producers.department.duty import Duty
from producers.poller.deciding import Decider
from producers.poller.engine import Poller
from producers.poller.journal import Journal
from producers.poller.mapper import Mapper
from producers.poller.mapping import TableMapping, load_mapping
from producers.poller.metrics import PollerMetrics
from producers.poller.table import DepartmentTable
from producers.publishing import Publishing
from schemas.codec import SchemaSource
from schemas.contracts import Contracts, load_contracts
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
from services.runtime.tracing import Tracer, tracer_of


@dataclass(frozen=True, slots=True)
class Parts:
    """What a mapping file is made into, for the process and for a dry run alike."""

    mapping: TableMapping
    table: DepartmentTable
    mapper: Mapper
    decider: Decider


def assemble(settings: Settings, contracts: Contracts, registry: SchemaSource, tracer: Tracer | None = None) -> Parts:
    """Load the mapping that the settings name; raises HongyanError, InvalidError for what is wrong in it."""
    ours = settings.poller
    if ours.mapping is None:
        raise HongyanError("请设置 HONGYAN_POLLER__MAPPING：映射文件 (poller.mapping is needed)")
    mapping = load_mapping(ours.mapping, contracts)
    url = ours.dsn or mapping.url
    if url is None:
        raise HongyanError("请设置 HONGYAN_POLLER__DSN，或在映射里写 url (the database's address is needed)")
    topics = Topics(settings.kafka.topic_prefix)
    publishing = Publishing(contracts, registry, settings.registry.url, topics, settings.gateway, SystemClock(), tracer)
    table = DepartmentTable(url.get_secret_value(), mapping, max(ours.lock_idle_s, 2 * mapping.poll_s))
    mapper = Mapper(mapping, contracts)
    return Parts(mapping, table, mapper, Decider(mapping, mapper, publishing))


def store_of(settings: Settings, name: str) -> Path:
    """Return where a poller keeps its view of its journal."""
    return settings.data_dir / "poller" / f"{settings.kafka.topic_prefix}{name}.sqlite"


def run(settings: Settings, *, port: int) -> None:
    """Poll until SIGTERM."""
    logging.configure(settings.log, process="poller")
    registry = RegistryClient(settings.registry.url, settings.registry.timeout_s)
    counted = new_registry()
    tracer = tracer_of(settings.tracing, "poller", counted)
    parts = assemble(settings, ensure_sound(load_contracts()), registry, tracer)
    stop = stop_event()
    kafka, topics, name = connect(settings.kafka), Topics(settings.kafka.topic_prefix), parts.mapping.name
    metrics = PollerMetrics(counted)
    duty = Duty("poller", name, kafka, topics, metrics.working)
    journal, store = Journal(kafka, topics, name), store_of(settings, name)
    poller = Poller(parts.table, parts.mapping, parts.decider, journal, duty, store, SystemClock(), metrics)
    with ProbeServer(settings.http.host, port, duty.health, counted):
        poller.run(stop)
    tracer.close()

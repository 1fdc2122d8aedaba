"""表格渠道：把一个单位的队列写进它自己的数据库表 (writes one agency's feed into tables of its own database)。"""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from consumers.table_sink.engine import TableSink
from consumers.table_sink.target import Target
from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.runtime import logging
from services.runtime.clock import SystemClock
from services.runtime.errors import HongyanError
from services.runtime.exposition import new_registry
from services.runtime.kafka.client import connect
from services.runtime.lifecycle import stop_event
from services.runtime.probes import Health, ProbeServer
from services.runtime.settings import Settings, TableSinkSettings
from services.subscriptions.follower import ControlFollower


class SinkFile(BaseModel):
    """The file ``table_sink.config``: whose feed goes into which database."""

    model_config = ConfigDict(extra="forbid")
    agency: str
    dsn: SecretStr
    prefix: str = Field("", pattern=r"^\w{0,20}$")


def run(settings: Settings, *, port: int) -> None:
    """Fill the tables until SIGTERM."""
    logging.configure(settings.log, process="table-sink")
    ours = _ours(settings.table_sink)
    stop = stop_event()
    kafka, topics = connect(settings.kafka), Topics(settings.kafka.topic_prefix)
    follower = ControlFollower(kafka, [topics.control_subscriptions], "table-sink")
    registry = RegistryClient(settings.registry.url, settings.registry.timeout_s)
    target = Target(ours.dsn.get_secret_value(), ours.prefix, topics.feed(ours.agency))
    follow_ups = load_contracts().follow_up_types()
    sink = TableSink(
        kafka, topics, follower.view, ours.agency, target, Codec(registry), registry, follow_ups, SystemClock()
    )

    def health() -> Health:
        return Health(sink.trouble is None, {"agency": ours.agency, "trouble": sink.trouble})

    with ProbeServer(settings.http.host, port, health, new_registry()):
        follower.start(stop)
        while not stop.is_set() and not follower.caught_up(0.2):
            pass
        sink.run(stop)


def _ours(settings: TableSinkSettings) -> SinkFile:
    """Return the configuration of the file, or of the settings themselves."""
    if settings.config is not None:
        return read_file(settings.config)
    if settings.agency is None or settings.dsn is None:
        raise HongyanError(
            "请设置 HONGYAN_TABLE_SINK__CONFIG，或 HONGYAN_TABLE_SINK__AGENCY 与 HONGYAN_TABLE_SINK__DSN "
            "(table_sink.config is needed, or table_sink.agency and table_sink.dsn)"
        )
    return SinkFile(agency=settings.agency, dsn=settings.dsn, prefix=settings.prefix)


def read_file(path: Path) -> SinkFile:
    """Read the YAML file; raises HongyanError that names what is wrong with it."""
    try:
        return SinkFile(**yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, yaml.YAMLError, ValidationError) as error:
        raise HongyanError(f"{path}: {error}") from error

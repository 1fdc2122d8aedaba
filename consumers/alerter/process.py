"""告警：按规则判断、去重、逐级提醒，经邮件、签名 webhook 与单位队列送到人 (alerts that reach people)。"""

from __future__ import annotations

import json
import threading
import urllib.error
from functools import cache

import psycopg

from consumers.alerter.duty import Duty
from consumers.alerter.engine import Alerter
from consumers.alerter.logs import Logs
from consumers.alerter.looking import Look
from consumers.alerter.metrics import AlerterMetrics, AsideCollector
from consumers.alerter.owed import FollowUpsLook
from consumers.alerter.telling import Telling
from consumers.alerter.world import Looks, World
from schemas.codec import Codec
from schemas.contracts import Contracts, load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.alerting.book import clear_after
from services.alerting.certificates import look_at_all, shown_certificate
from services.alerting.ends import Seen
from services.alerting.feed import ACKNOWLEDGE_S, Feed
from services.alerting.policy import policy_of
from services.delivery.lag import SNAPSHOT_PATH, Snapshot
from services.delivery.network import Network, parse_networks
from services.delivery.receiver import receiver_of
from services.ledger.reading import LedgerReader
from services.runtime import logging
from services.runtime.clock import Clock, SystemClock
from services.runtime.database import dsn_of, open_pool
from services.runtime.direct import open_direct
from services.runtime.errors import DatabaseUnavailableError, HongyanError
from services.runtime.exposition import new_registry
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Kafka, Producer
from services.runtime.lifecycle import stop_event
from services.runtime.probes import Health, ProbeServer
from services.runtime.settings import Settings
from services.statistics.gaps import Gap, gaps_now
from services.subscriptions.control import Agency
from services.subscriptions.follower import ControlFollower
from services.subscriptions.sealing import Sealer

MONITOR_S = 3.0
WRITTEN_S = 8.0
"""How long what was told is waited for to be written, before another one goes on."""
DATABASE_EVERY_S = 5.0
NO_ROUTES_SET = "没有设置告警路由，告警送不到人 (no routes are set: nobody is told): HONGYAN_ALERTING__ROUTES"
SIZE = "SELECT pg_database_size(current_database())"


def run(settings: Settings, *, port: int) -> None:
    """Alert until SIGTERM, or stand by while another one does."""
    logging.configure(settings.log, process="alerter")
    stop, clock, metrics = stop_event(), SystemClock(), new_registry()
    kafka, topics = connect(settings.kafka), Topics(settings.kafka.topic_prefix)
    duty = Duty(kafka, topics, clock, settings.alerting.away_s / 2)
    desk = _Desk(settings, kafka, topics, clock, duty, AlerterMetrics(metrics))
    metrics.register(AsideCollector(lambda: desk.logs))
    with ProbeServer(settings.http.host, port, desk.health, metrics):
        duty.serve(desk.work, stop)


class _Desk:
    """What is done on duty: built anew each time, so that it goes on where the one before it was."""

    def __init__(
        self, settings: Settings, kafka: Kafka, topics: Topics, clock: Clock, duty: Duty, metrics: AlerterMetrics
    ) -> None:
        self._settings = settings
        self._kafka = kafka
        self._topics = topics
        self._clock = clock
        self._duty = duty
        self._metrics = metrics
        self.logs: Logs | None = None
        self._alerter: Alerter | None = None
        self._telling: Telling | None = None

    def work(self, over: threading.Event) -> None:
        """Alert until it is over, and write down what was told."""
        settings, kafka, topics, clock = self._settings, self._kafka, self._topics, self._clock
        contracts, ended = load_contracts(), threading.Event()
        follower = ControlFollower(kafka, [topics.control_subscriptions, topics.control_identities], "alerter")
        sealer, networks = Sealer(settings.security), parse_networks(settings.delivery.allowed_networks)
        codec = Codec(RegistryClient(settings.registry.url, settings.registry.timeout_s))
        logs = self.logs = Logs(kafka, topics, lambda: list(follower.view.agencies), clock)
        looks = looks_of(settings, follower, sealer, networks, contracts, clock)
        publishing = Publishing(kafka)
        telling = self._telling = Telling(
            settings.alerting,
            networks,
            settings.delivery,
            follower.view,
            lambda agency: Feed(agency, publishing.producer, topics, contracts, codec),
        )
        world = World(logs, follower, looks, sealer, settings.alerting, settings.delivery, settings.data_dir, clock)
        policy = policy_of(settings.alerting)
        alerter = self._alerter = Alerter(
            logs, topics, world, telling, policy, clock, self._metrics, clear_after(policy), self._duty.sure
        )
        follower.start(ended)
        following = logs.start(ended)
        for look in looks.all():
            look.start(ended)
        alerter.run(over, settings.alerting.period_s)
        ended.set()
        following.join(WRITTEN_S)
        publishing.close()
        self._metrics.show((), logs.unwritten())
        self._alerter = self._telling = self.logs = None

    def health(self) -> Health:
        """Tell whether this process alerts, or stands by for one that does."""
        alerter, telling, settings = self._alerter, self._telling, self._settings.alerting
        said = (telling.trouble if telling else None) or (None if settings.routes else NO_ROUTES_SET)
        trouble = {"routes": said} if said else {}
        opened = {"open": len(alerter.open_groups())} if alerter else {}
        return Health(alerter is None or alerter.working, {**trouble, "duty": self._duty.state, **opened})


class Publishing:
    """One producer for all feeds, made when it is first needed."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._lock = threading.Lock()
        self._producer: Producer | None = None

    def producer(self) -> Producer:
        """Return the producer; raises UnavailableError while Kafka is away."""
        with self._lock:
            if self._producer is None:
                self._producer = self._kafka.producer(client_id="alerts-feed", acknowledge_timeout_s=ACKNOWLEDGE_S)
            return self._producer

    def close(self) -> None:
        """Close it."""
        if self._producer is not None:
            self._producer.close()


def looks_of(
    settings: Settings,
    follower: ControlFollower,
    sealer: Sealer,
    networks: list[Network],
    contracts: Contracts,
    clock: Clock,
) -> Looks:
    """Return what is looked at, and how often."""
    alerting = settings.alerting

    @cache
    def reader() -> LedgerReader:
        return LedgerReader(open_pool(settings.database.model_copy(update={"pool_size": 1})), clock)

    def shown(agency: Agency) -> Seen:
        tls = receiver_of(agency, settings.delivery, sealer).profile.tls
        return shown_certificate(agency.id, agency.sink, tls, networks)

    def certificates() -> list[Seen]:
        return look_at_all(list(follower.view.agencies.values()), shown)

    def gaps() -> list[Gap]:
        return gaps_now(dsn_of(settings.database), Topics(settings.kafka.topic_prefix).group("statistics"))

    return Looks(
        Look("monitor", alerting.period_s, lambda: newest_snapshot(settings.monitor.url), clock),
        Look("database", min(DATABASE_EVERY_S, alerting.slow_period_s), lambda: database_size(settings), clock),
        Look("follow-ups", alerting.slow_period_s, FollowUpsLook(reader, contracts, clock), clock),
        Look("certificates", alerting.slow_period_s, certificates, clock),
        Look("gaps", alerting.slow_period_s, gaps, clock),
    )


def newest_snapshot(url: str) -> Snapshot:
    """Ask the monitor; raises OSError, or where it answers, but no snapshot, HongyanError or what that raises."""
    try:
        with open_direct(url.rstrip("/") + SNAPSHOT_PATH, MONITOR_S) as answer:
            return Snapshot.from_json(json.load(answer))
    except urllib.error.HTTPError as error:
        raise HongyanError(f"HTTP {error.code}: {error.read(500).decode(errors='replace')}") from error


def database_size(settings: Settings) -> int:
    """Return the database's size in bytes; raises DatabaseUnavailableError."""
    try:
        with psycopg.connect(dsn_of(settings.database), connect_timeout=3) as connection:
            row = connection.execute(SIZE).fetchone()
    except psycopg.OperationalError as error:
        raise DatabaseUnavailableError(f"PostgreSQL: {error}") from error
    return int(row[0]) if row else 0

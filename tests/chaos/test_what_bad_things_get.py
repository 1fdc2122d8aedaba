"""What bad things get: servers killed under router and pusher, records near the limit, one id from two sources.

One broker and one database of this file's own, which may be killed without harm to other tests.
"""

from __future__ import annotations

import base64
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from schemas.contracts import load_contracts
from schemas.topics import EVENT_MAX_BYTES, EVENT_PARTITIONS, Topics
from services.runtime.database import migrate
from services.runtime.embedded.servers import start_servers
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Kafka
from services.runtime.settings import DeliverySettings, KafkaSettings, SecuritySettings, Settings
from services.runtime.supervisor import Supervisor
from tests.broker import Broker
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import open_folder
from tests.events import ISSUED, SOURCE, TestEvents, attribute, document, read_all
from tests.processes import Processes
from tests.scripted_receiver import ScriptedReceiver

pytestmark = pytest.mark.servers

EVENTS = 400
KEYS = 40
AGENCY = "market"


class Database:
    """A PostgreSQL that can be stopped and started again, at the same address."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._settings = settings.model_copy(deep=True)
        self._supervisor = Supervisor()

    def start(self) -> str:
        """Start it, and return its DSN."""
        self._supervisor = Supervisor()
        return start_servers(self._folder, self._supervisor, self._settings, durable=False).dsn

    def stop(self) -> None:
        """Stop it."""
        self._supervisor.stop()


@dataclass
class World:
    """Router and pusher on a broker of their own, and one agency that gets every certificate."""

    broker: Broker
    database: Database
    settings: Settings
    processes: Processes
    kafka: Kafka
    topics: Topics
    events: TestEvents
    receiver: ScriptedReceiver

    def fed(self) -> Counter[tuple[str, str]]:
        """Return the identities in the agency's feed."""
        records = read_all(self.kafka, self.topics.feed(AGENCY), 1)
        return Counter((attribute(record, "ce_source"), attribute(record, "ce_id")) for record in records)

    def verdicts(self) -> Counter[tuple[str | None, str]]:
        """Return what the ledger tells: how often each id got each verdict."""
        entries = map(document, read_all(self.kafka, self.topics.ledger_routed, EVENT_PARTITIONS))
        return Counter((entry["id"], entry["verdict"]) for entry in entries)


@pytest.fixture(scope="module")
def world(registry_url: str) -> Iterator[World]:
    """Start it all once for this file."""
    with open_folder() as folder:
        broker, processes = Broker(folder), Processes(folder)
        settings = own_settings(folder, broker, registry_url)
        database = Database(folder, settings)
        kafka, topics = connect(settings.kafka), Topics()
        try:
            broker.start()
            settings.database.dsn = SecretStr(database.start())
            migrate(settings.database.dsn.get_secret_value())
            with closing(kafka.admin()) as admin:
                admin.ensure_topics([*topics.base_specs(load_contracts().domains()), *topics.agency_specs(AGENCY)])
            receiver = ScriptedReceiver()
            with closing(Configuration(kafka, topics, settings)) as configuration:
                configuration.agency(AGENCY, receiver.url)
                configuration.subscription("all", AGENCY, [ISSUED])
            processes.start("router", settings)
            processes.start("pusher", settings)
            with closing(TestEvents(kafka, topics, settings)) as events:
                yield World(broker, database, settings, processes, kafka, topics, events, receiver)
            receiver.close()
        finally:
            processes.end()
            database.stop()
            broker.kill()


def own_settings(folder: Path, broker: Broker, registry_url: str) -> Settings:
    """Return settings of an installation on this broker."""
    found = Settings(data_dir=folder, kafka=KafkaSettings(bootstrap_servers=broker.kafka.address))
    found.registry.url = registry_url
    found.delivery = DeliverySettings(allowed_networks=["127.0.0.0/8"], retry_base_s=0.05, retry_cap_s=0.5)
    found.security = SecuritySettings(
        master_key=SecretStr(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()),
        admin_key=SecretStr("test-administration-key"),
    )
    return found


@pytest.mark.timeout(400)
def test_a_killed_broker_costs_router_and_pusher_nothing_but_time(world: World) -> None:
    """It is killed in mid-load and comes back: each event is once on the ledger, once in the feed, and has arrived."""
    batch = [world.events.certificate(f"k{n}", n % KEYS) for n in range(EVENTS)]
    world.events.publish(*batch)
    eventually(lambda: len(world.receiver.accepted) > EVENTS // 10, 30)
    world.broker.kill()
    assert len(set(world.receiver.accepted)) < EVENTS
    world.broker.start()
    after = [world.events.certificate(f"after{n}", n) for n in range(10)]
    world.events.publish(*after)
    ids = {event.envelope.id for event in (*batch, *after)}
    eventually(lambda: ids <= set(world.receiver.accepted), 200, "every event arrived")
    assert {one: count for one, count in world.fed().items() if one[1] in ids} == dict.fromkeys(
        ((SOURCE, one) for one in ids), 1
    )
    # A transaction's end comes to its partitions one after the other.
    eventually(lambda: ids <= {one for one, _ in world.verdicts()}, 30, "every event on the ledger")
    assert {one: count for one, count in world.verdicts().items() if one[0] in ids} == dict.fromkeys(
        ((one, "routed") for one in ids), 1
    )
    repeats = sum(count - 1 for one, count in Counter(world.receiver.accepted).items() if one in ids)
    assert repeats <= world.settings.delivery.window


def test_an_event_near_the_limit_is_routed_and_what_can_not_be_read_of_that_size_is_put_aside(world: World) -> None:
    """Feeds and dead letters take what the events' topic has taken, with all that is said of it beside."""
    largest = world.events.certificate("large", 1, address="x" * (EVENT_MAX_BYTES - 3000))
    world.events.publish(largest)
    world.events.publish_raw(world.topics.events("health"), b"x" * (EVENT_MAX_BYTES - 200))
    world.events.publish(world.events.certificate("behind", 1))
    eventually(lambda: {"large", "behind"} <= set(world.receiver.accepted), 30)
    letters = eventually(lambda: read_all(world.kafka, world.topics.deadletter("router"), 1), 20)
    assert [len(letter.value or b"") for letter in letters] == [EVENT_MAX_BYTES - 200]


def test_the_same_id_from_two_sources_is_two_events(world: World) -> None:
    """Source and id together are the identity: both are routed and delivered, and neither counts as a repetition."""
    other = "urn:test:another-department"
    world.events.publish(*(world.events.prepare(ISSUED, "same", source) for source in (SOURCE, other)))
    eventually(lambda: world.receiver.accepted.count("same") == 2, 20)
    assert (world.fed()[SOURCE, "same"], world.fed()[other, "same"]) == (1, 1)
    assert world.verdicts()["same", "routed"] == 2


def test_with_postgresql_away_pushing_goes_on_and_statistics_wait(world: World) -> None:
    """The database is stopped under a whole installation: events still arrive; once it is back all is counted."""
    portal, statistics = (world.processes.start(name, world.settings) for name in ("portal", "statistics"))
    world.database.stop()
    eventually(lambda: not portal.healthy() and not statistics.healthy(), 20, "they say that the database is away")
    ids = {f"away{n}" for n in range(20)}
    world.events.publish(*(world.events.certificate(one, n) for n, one in enumerate(ids)))
    eventually(lambda: ids <= set(world.receiver.accepted), 20, "all were pushed meanwhile")
    assert not statistics.healthy()
    dsn = world.database.start()
    assert world.settings.database.dsn == SecretStr(dsn)
    eventually(lambda: portal.healthy() and statistics.healthy(), 30, "both are well again")

    def counted() -> set[str]:
        with psycopg.connect(dsn) as connection:
            found = connection.execute("SELECT event_id FROM statistics.fact WHERE event_id LIKE 'away%'")
            return {row[0] for row in found}

    eventually(lambda: counted() == ids, 30, "and what came meanwhile is counted")
    assert (portal.terminate(), statistics.terminate()) == (0, 0)

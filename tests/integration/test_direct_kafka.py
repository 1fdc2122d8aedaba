"""Agencies that read Kafka themselves, on a broker whose authoriser is on: their own feed, and nothing else."""

from __future__ import annotations

import base64
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing

import orjson
import pytest
from pydantic import SecretStr

from consumers.feeds.direct import DirectReading
from schemas.topics import LEFT, Topics
from services.delivery.cursors import Cursors
from services.portal.client import call
from services.runtime.clock import SystemClock
from services.runtime.errors import UnavailableError
from services.runtime.kafka.port import Committed, Consumer, Kafka, Partition
from services.runtime.settings import KafkaSettings, SecuritySettings, Settings, as_environment, with_environment
from services.subscriptions.control import ControlView
from tests.broker import Broker
from tests.conditions import eventually
from tests.processes import Processes

pytestmark = pytest.mark.servers

AGENCY, OTHER = "market-sc", "market-cd"
PASSWORD = "a-long-password"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Run a broker with an authoriser."""
    found = Broker(tmp_path_factory.mktemp("secured"), agencies=True)
    found.start()
    yield found
    found.kill()


@pytest.fixture(scope="module")
def topics(broker: Broker) -> Topics:
    """Return topics with two agencies' feeds, and a user of the first."""
    found = Topics("secured.")
    admin = broker.connect().admin()
    admin.ensure_topics(
        [*found.agency_specs(AGENCY), *found.agency_specs(OTHER), found.alerts_spec(), found.shares_spec()]
    )
    user = found.agency_group(AGENCY)
    admin.put_user(user, PASSWORD)
    admin.allow_reading(user, found.feed(AGENCY), user)
    admin.close()
    producer = broker.connect().producer()
    for agency in (AGENCY, OTHER):
        for n in range(3):
            producer.send(found.feed(agency), key=b"k", value=f"{agency}-{n}".encode(), partition=0).result(10)
    producer.close()
    return found


@pytest.fixture
def user(broker: Broker, topics: Topics) -> Kafka:
    """Return what the agency connects with."""
    return broker.connect_as(topics.agency_group(AGENCY), PASSWORD)


def read(consumer: Consumer, feed: Partition, count: int) -> list[bytes | None]:
    """Read so many records of a feed."""
    found: list[bytes | None] = []

    def enough() -> bool:
        found.extend(record.value for record in consumer.poll(0.2, 100).get(feed, ()))
        return len(found) >= count

    eventually(enough, 20, "the feed's records")
    return found


def test_the_agency_reads_its_feed_in_its_group_from_its_cursor_on(broker: Broker, topics: Topics, user: Kafka) -> None:
    """Its group stands where the other channels left it, and its commits are the same cursor."""
    feed, group = Partition(topics.feed(AGENCY), 0), topics.agency_group(AGENCY)
    admin = broker.connect().admin()
    admin.set_group_offsets(group, {feed: Committed(1)})
    consumer = user.consumer(group)
    consumer.subscribe([feed.topic], lambda _: None, lambda _: None)
    assert read(consumer, feed, 2) == [b"market-sc-1", b"market-sc-2"]
    consumer.commit({feed: Committed(3)})
    consumer.close()
    assert admin.group_offsets(group)[feed] == Committed(3)
    admin.close()


def test_everything_else_is_closed_to_it(topics: Topics, user: Kafka) -> None:
    """Another's feed, another group, and writing: each is refused."""
    stranger = Partition(topics.feed(OTHER), 0)
    with pytest.raises(UnavailableError, match="Authoriz"):
        reader = user.consumer(None)
        reader.assign([stranger])
        reader.end_offsets([stranger])
        reader.poll(2, 10)
    with pytest.raises(UnavailableError, match="Authoriz"):
        user.consumer("somebody-else").committed([Partition(topics.feed(AGENCY), 0)])
    with pytest.raises(UnavailableError, match=r"Authoriz|[Tt]imed? ?out|metadata"):
        user.producer(acknowledge_timeout_s=3).send(topics.feed(AGENCY), key=b"k", value=b"x", partition=0).result(5)


def test_a_reader_is_shut_out_while_something_of_its_is_stopped(broker: Broker, topics: Topics, user: Kafka) -> None:
    """Also one that is connected: a suspended grant closes the feed, resumed it goes on; so does the agency itself.

    And whoever takes the feed by another channel now.
    """
    view = ControlView()

    def put(key: str, **entry: object) -> None:
        view.apply(key, orjson.dumps(entry))

    def subscription(state: str) -> None:
        put("subscription/s", id="s", agency=AGENCY, types=["t"], state=state)

    def agency(state: str) -> None:
        put(f"agency/{AGENCY}", id=AGENCY, name="a", division="510000", sink="x", state=state)

    agency("active")
    subscription("active")

    def channel(name: str, version: int) -> None:
        put(f"access/{AGENCY}", agency=AGENCY, channel=name, version=version, kafka_user=True)

    channel("kafka", 1)
    kafka = broker.connect()
    direct = DirectReading(view, kafka, topics, Cursors(kafka, topics), SystemClock())
    feed = Partition(topics.feed(AGENCY), 0)
    reader = user.consumer(None)
    reader.assign([feed])

    def opened() -> bool:
        direct.settle()  # as the process does again and again: a look waits for nothing that takes long
        try:
            reader.seek(feed, 0)
            return bool(reader.poll(1, 10))
        except UnavailableError as error:
            assert "Authoriz" in str(error)
            return False

    assert eventually(opened, 20)
    for stop, lift in (
        (lambda: subscription("suspended"), lambda: subscription("active")),
        (lambda: agency("suspended"), lambda: agency("active")),
        (lambda: channel("pull", 2), lambda: channel("kafka", 3)),
    ):
        stop()
        eventually(lambda: not opened(), 20, "the feed is closed")
        lift()
        eventually(opened, 20, "the feed is open again")
    reader.close()
    direct.close()


class Stubborn(threading.Thread):
    """An agency's client that never stops trying: whatever it is refused, it connects again, and commits each batch."""

    def __init__(self, user: Kafka, group: str, feed: Partition) -> None:
        super().__init__(daemon=True)
        self.got: list[bytes | None] = []
        self.refused = 0
        self.ending = threading.Event()
        self._user, self._group, self._feed = user, group, feed

    def run(self) -> None:
        """Try."""
        while not self.ending.wait(0.05):
            try:
                self._read(self._user.consumer(self._group))
            except UnavailableError:
                self.refused += 1

    def _read(self, consumer: Consumer) -> None:
        with closing(consumer):
            consumer.subscribe([self._feed.topic], lambda _: None, lambda _: None)
            while not self.ending.is_set():
                records = consumer.poll(0.2, 100).get(self._feed, ())
                if records:
                    consumer.commit({self._feed: Committed(records[-1].offset + 1)})
                    self.got.extend(record.value for record in records)

    def denied(self) -> None:
        """Wait until it has been refused anew."""
        before = self.refused
        eventually(lambda: self.refused >= before + 2, 30, "the client is refused")


def test_a_client_that_never_stops_trying_begins_where_the_webhook_ended_each_time(broker: Broker) -> None:
    """Webhook, Kafka, webhook, Kafka: it is let in when the pusher has let go and its group is set, and put out again.

    What was pushed does not come to it, and of what was not pushed nothing is left out.
    """
    topics, kafka, view = Topics("twice."), broker.connect(), ControlView()
    feed, user = Partition(topics.feed(AGENCY), 0), topics.agency_group(AGENCY)
    direct = DirectReading(view, kafka, topics, Cursors(kafka, topics), SystemClock())
    admin, producer = kafka.admin(), kafka.producer()
    admin.ensure_topics([*topics.agency_specs(AGENCY), topics.alerts_spec(), topics.shares_spec()])
    admin.put_user(user, PASSWORD)

    def events(*numbers: int) -> list[bytes | None]:
        for n in numbers:
            producer.send(feed.topic, key=b"k", value=b"%d" % n, partition=0).result(10)
        return [b"%d" % n for n in numbers]

    def channel(name: str, version: int) -> None:
        entry = {"agency": AGENCY, "channel": name, "version": version, "kafka_user": True}
        view.apply(f"access/{AGENCY}", orjson.dumps(entry))
        direct.settle(20)

    def let_in(count: int) -> bool:
        direct.settle(20)
        return len(client.got) >= count

    view.apply(f"agency/{AGENCY}", orjson.dumps({"id": AGENCY, "name": "a", "division": "510000", "sink": "x"}))
    channel("webhook", 1)
    client = Stubborn(broker.connect_as(user, PASSWORD), user, feed)
    client.start()
    pusher = kafka.consumer(topics.group("pusher"))
    pusher.subscribe([topics.control_shares], lambda _: None, lambda _: None)
    eventually(lambda: pusher.poll(0.1, 1) == {} and pusher.assignment(), 30, "the pusher's shares")
    try:
        events(0, 1, 2, 3)
        pusher.commit({feed: Committed(2)})
        channel("kafka", 2)
        client.denied()  # the pusher holds the feed
        direct.settle(20)
        pusher.commit({feed: Committed(3, LEFT)})
        eventually(lambda: let_in(1), 30, "the client is let in")
        wanted: list[bytes | None] = [b"3", *events(4)]
        eventually(lambda: client.got == wanted, 30, "what was not pushed")
        channel("webhook", 3)
        client.denied()
        assert admin.group_members(user) == 0
        events(5, 6)
        pusher.commit({feed: Committed(7, LEFT)})  # both were pushed
        channel("kafka", 4)
        wanted += events(7)
        eventually(lambda: let_in(len(wanted)), 30, "the client is let in again")
        assert client.got == wanted
    finally:
        client.ending.set()
        client.join(20)
        pusher.close()
        producer.close()
        admin.close()


def test_a_wrong_or_replaced_password_is_refused(broker: Broker, topics: Topics) -> None:
    """The user made again has a new password, and the old one ends."""
    name = topics.agency_group(OTHER)
    admin = broker.connect().admin()
    admin.put_user(name, PASSWORD)
    admin.allow_reading(name, topics.feed(OTHER), name)
    broker.connect_as(name, PASSWORD).consumer(None).close()
    admin.put_user(name, "another-password")
    admin.close()
    with pytest.raises(UnavailableError):
        broker.connect_as(name, PASSWORD).consumer(None)


def test_the_command_makes_a_user_that_reads_its_own_feed_and_a_second_one_ends_the_first_password(
    broker: Broker, topics: Topics, settings: Settings, processes: Processes
) -> None:
    """By `hongyan agency kafka-user` and what it prints alone; the right itself comes from whoever guards the feeds."""
    name = "market-kafka"
    admin = broker.connect().admin()
    admin.ensure_topics([*topics.base_specs([]), *topics.agency_specs(name)])
    admin.close()
    settings.kafka = KafkaSettings(bootstrap_servers=broker.kafka.address, topic_prefix=topics.prefix)
    settings.security = SecuritySettings(
        master_key=SecretStr(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()),
        admin_key=SecretStr("test-administration-key"),
    )
    settings.portal.url = processes.start("portal", settings).url
    call(
        settings,
        "POST",
        "/v1/agencies",
        {"id": name, "name": "市监局", "division": "510000", "sink": "http://10.0.0.1/"},
    )

    def made() -> dict[str, str]:
        command = [sys.executable, "-m", "hongyan", "agency", "kafka-user", name, "--reason", "首次发放"]
        done = subprocess.run(
            command, env=with_environment(as_environment(settings)), capture_output=True, text=True, check=True
        )
        return dict(re.findall(r"(user|topic|group|password)\b[^:]*: (\S+)", done.stdout))

    first, second = made(), made()
    assert (second["user"], second["group"], second["topic"]) == (topics.agency_group(name),) * 2 + (topics.feed(name),)
    view = ControlView()
    view.apply(f"agency/{name}", orjson.dumps({"id": name, "name": "a", "division": "510000", "sink": "x"}))
    view.apply("subscription/s", orjson.dumps({"id": "s", "agency": name, "types": ["t"], "state": "active"}))
    access = {"agency": name, "channel": "kafka", "version": 1, "kafka_user": True}
    view.apply(f"access/{name}", orjson.dumps(access))
    kafka = broker.connect()
    DirectReading(view, kafka, topics, Cursors(kafka, topics), SystemClock()).settle(20)
    feed = Partition(second["topic"], 0)
    kafka.producer().send(feed.topic, key=b"k", value=b"one", partition=0).result(10)
    consumer = broker.connect_as(second["user"], second["password"]).consumer(second["group"])
    consumer.subscribe([feed.topic], lambda _: None, lambda _: None)
    assert read(consumer, feed, 1) == [b"one"]
    consumer.close()
    with pytest.raises(UnavailableError):
        broker.connect_as(first["user"], first["password"]).consumer(None)

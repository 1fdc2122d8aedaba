"""Feeds whose log is not what their cursor says, on a real Kafka: that line alone waits, or begins anew."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from consumers.pusher.placing import is_astray
from schemas.topics import LEFT
from services.runtime.alerts import Alert, AlertKind
from services.runtime.kafka.port import Admin, Committed, Kafka, Partition
from services.runtime.settings import Settings, as_environment, with_environment
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import OwnTopics
from tests.events import ISSUED, TestEvents, read_all
from tests.processes import Processes, Running
from tests.scripted_receiver import ScriptedReceiver

KEY = "key-of-the-market"

pytestmark = pytest.mark.servers


class Rig:
    """Two agencies and what is told of them."""

    def __init__(self, kafka: Kafka, admin: Admin, topics: OwnTopics, pusher: Running) -> None:
        self.kafka, self.admin, self.topics, self.pusher = kafka, admin, topics, pusher
        self.feed = Partition(topics.feed("market"), 0)

    def cursor(self) -> Committed:
        """Return the committed cursor of the agency that is in trouble."""
        return self.admin.group_offsets(self.topics.group("pusher"), [self.feed]).get(self.feed, Committed(0))

    def told(self) -> list[tuple[str, str, bool]]:
        """Return the alerts of gaps."""
        found = [Alert.from_bytes(record.value) for record in read_all(self.kafka, self.topics.alerts, 1)]
        return [(one.subject, one.state, bool(one.labels)) for one in found if one.kind == AlertKind.FEED_GAP]


def run(installation: Settings, *words: str) -> str:
    """Run a command about feeds, and return what it prints."""
    command = [sys.executable, "-m", "hongyan", "feed", *words]
    environment = with_environment(as_environment(installation))
    return subprocess.run(command, check=True, capture_output=True, env=environment, text=True).stdout


@pytest.fixture
def receivers(own: OwnTopics, configuration: Configuration) -> Iterator[dict[str, ScriptedReceiver]]:
    """Make two agencies."""
    made = {agency: ScriptedReceiver() for agency in ("market", "tax")}
    for agency, receiver in made.items():
        own.ensure_agency(agency)
        configuration.agency(agency, receiver.url)
        configuration.subscription(f"sub-{agency}", agency, [ISSUED])
    yield made
    for receiver in made.values():
        receiver.close()


@pytest.fixture
def rig(
    kafka: Kafka, admin: Admin, own: OwnTopics, installation: Settings, processes: Processes, receivers: object
) -> Rig:
    """Start a pusher."""
    return Rig(kafka, admin, own, processes.start("pusher", installation))


def test_a_cursor_beyond_the_end_and_a_feed_made_anew_hold_up_nobody_else_and_lose_nothing(
    rig: Rig,
    receivers: dict[str, ScriptedReceiver],
    events: TestEvents,
    configuration: Configuration,
    installation: Settings,
    processes: Processes,
) -> None:
    """First the topic is made anew; then the agency reads for itself, commits what it likes, and comes back."""
    market, tax = receivers["market"], receivers["tax"]
    events.feed("market", *(events.certificate(f"old-{n}", n) for n in range(3)))
    eventually(lambda: rig.cursor() == Committed(3))
    rig.admin.delete_topics([rig.feed.topic])
    eventually(lambda: rig.feed.topic not in rig.admin.list_topics())
    rig.topics.ensure_agency("market")
    events.feed("market", *(events.certificate(f"new-{n}", n) for n in range(2)))
    eventually(lambda: {"new-0", "new-1"} <= set(market.accepted), 20)
    eventually(lambda: rig.cursor() == Committed(2))
    eventually(lambda: ("market", "open", True) in rig.told())
    configuration.access("market", KEY, "kafka")
    eventually(lambda: rig.cursor().note == LEFT)
    rig.admin.set_group_offsets(rig.topics.agency_group("market"), {rig.feed: Committed(10**12)})
    configuration.access("market", KEY, "webhook")
    eventually(lambda: is_astray(rig.cursor()))
    assert rig.pusher.terminate() == 0
    again = processes.start("pusher", installation)
    events.feed("market", events.certificate("later", 7))
    events.feed("tax", events.certificate("t", 1))
    eventually(lambda: tax.accepted == ["t"])
    assert "later" not in market.accepted
    assert ("market", "open", False) in rig.told()
    assert "将从游标 2 续推" in run(installation, "go-on", "market", "--at", "2", "--reason", "agreed")
    eventually(lambda: "later" in market.accepted, 20)
    eventually(lambda: rig.cursor() == Committed(3))
    assert ("market", "closed", False) in rig.told()
    assert "已销号" in run(installation, "seen", "market", "--reason", "looked at")
    assert ("market", "closed", True) in rig.told()
    assert again.process.poll() is None

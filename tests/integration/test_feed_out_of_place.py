"""Feeds whose log is not what their cursor says, on a real Kafka: that line alone waits, or begins anew."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from consumers.pusher.placing import is_astray
from services.delivery.cursors import has_left
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
    """Three agencies and what is told of them."""

    def __init__(self, kafka: Kafka, admin: Admin, topics: OwnTopics, pusher: Running) -> None:
        self.kafka, self.admin, self.topics, self.pusher = kafka, admin, topics, pusher
        self.feed = Partition(topics.feed("market"), 0)

    def cursor(self, agency: str = "market") -> Committed:
        """Return an agency's committed cursor."""
        feed = Partition(self.topics.feed(agency), 0)
        return self.admin.group_offsets(self.topics.group("pusher"), [feed]).get(feed, Committed(0))

    def begun(self) -> set[str]:
        """Return the agencies of which the pusher has committed a cursor."""
        held = self.admin.group_offsets(self.topics.group("pusher"))
        return {self.topics.agency_of(feed.topic) for feed in held}

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
    """Make three agencies."""
    made = {agency: ScriptedReceiver() for agency in ("market", "tax", "idle")}
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
    eventually(lambda: has_left(rig.cursor().note))
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


def test_a_feed_deleted_under_traffic_delays_nobody_elses_deliveries_and_commits_and_is_told_for_an_idle_agency_too(
    rig: Rig, receivers: dict[str, ScriptedReceiver], events: TestEvents
) -> None:
    """What the deleted feed's events end in can't be committed: that is nobody else's wait."""
    eventually(lambda: rig.begun() == set(receivers))
    events.feed("market", *(events.certificate(f"m-{n}", n) for n in range(400)))
    eventually(lambda: len(receivers["market"].accepted) > 20)
    rig.admin.delete_topics([rig.feed.topic, rig.topics.feed("idle")])
    wanted, took = {("market", "open", False), ("idle", "open", False)}, list[float]()
    for number in range(1000):
        began = time.monotonic()
        events.feed("tax", events.certificate(f"t-{number}", number))
        eventually(lambda upto=number + 1: rig.cursor("tax") == Committed(upto))
        took.append(time.monotonic() - began)
        if number >= 50 and wanted <= set(rig.told()):
            break
    assert wanted <= set(rig.told())
    assert max(took) < 3
    assert receivers["tax"].accepted == [f"t-{n}" for n in range(len(took))]

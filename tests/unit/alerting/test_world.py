"""What is judged of what can be seen, and that what can't be seen for a while is not taken to be over."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import psycopg
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from consumers.alerter.logs import Logs
from consumers.alerter.looking import Look
from consumers.alerter.world import Looks, World
from schemas.topics import Topics
from services.alerting.book import Book
from services.alerting.burn import HOUR_S, Deliveries, Ledger
from services.alerting.certificates import look_at_all
from services.alerting.ends import Seen
from services.alerting.rules import EVERYBODY, FollowUp
from services.delivery.lag import OpenTransaction, ProbeLag, Snapshot
from services.runtime.alerts import AlertKind
from services.runtime.errors import DatabaseUnavailableError
from services.runtime.settings import AlertingSettings, DeliverySettings, SecuritySettings
from services.subscriptions.control import Agency
from services.subscriptions.follower import ControlFollower
from services.subscriptions.sealing import Sealer
from tests.fakes.hand_clock import NOW, HandClock
from tests.fakes.kafka import FakeKafka

TOPICS = Topics()
MARKET = {"id": "market", "name": "m", "division": "510000", "sink": "https://receiver.example/x", "keys": []}
GIB = 1024**3
SCARCE = (AlertKind.DISK_FILLING, AlertKind.CERTIFICATE_ENDING)
KINDS = (*SCARCE, AlertKind.TRANSACTION_OPEN)


class Scene:
    """A database and a receiver that can be away, and what is told of them."""

    def __init__(self, folder: Path, follower: ControlFollower) -> None:
        self.size: int | None = 99 * GIB
        self.ends_at = NOW + timedelta(days=3)
        self.receiver_away = False
        self.measuring = True
        self.snapshot: Snapshot | None = None
        self.refused: Exception | None = None
        self.fails: Exception | None = None
        self.clock = HandClock()
        self.book = Book()
        agencies = list(follower.view.agencies.values())
        self.looks = Looks(
            Look("monitor", 1, self._monitor, self.clock),
            Look("database", 1, self._database, self.clock),
            Look("follow-ups", 1, self._follow_ups, self.clock),
            Look("certificates", 1, lambda: look_at_all(agencies, self._show), self.clock),
            Look("gaps", 1, list, self.clock),
        )
        logs = Logs(FakeKafka(), TOPICS, list, self.clock)
        settings = AlertingSettings(database_bytes=100 * GIB, disk_free_percent=2.0, disk_urgent_percent=1.5)
        sealer = Sealer(SecuritySettings(master_key=SecretStr(Fernet.generate_key().decode())))
        self.logs = logs
        self.world = World(logs, follower, self.looks, sealer, settings, DeliverySettings(), folder, self.clock)

    def _monitor(self) -> Snapshot:
        if self.snapshot is None:
            raise OSError("no monitor")
        return replace(self.snapshot, at=self.clock.now().isoformat()) if self.measuring else self.snapshot

    def _follow_ups(self) -> list[FollowUp]:
        if self.refused is not None:
            raise self.refused
        return []

    def _database(self) -> int:
        if self.fails is not None:
            raise self.fails
        if self.size is None:
            raise DatabaseUnavailableError("no space left on device")
        return self.size

    def _show(self, agency: Agency) -> Seen:
        if self.receiver_away:
            raise OSError("refused")
        return Seen(agency.id, self.ends_at, "CN=receiver")

    def told(self, seconds: float) -> set[tuple[AlertKind, str]]:
        """Look at everything after so long, and return what is told of these kinds."""
        self.clock.seconds += seconds
        for look in self.looks.all():
            look.once()
        found = self.book.judge(self.world.judge(self.book.open, {}, self.clock.now(), whole=True), self.clock.now())
        told: set[tuple[AlertKind, str]] = {(one.kind, one.state) for one in found if one.kind in KINDS}
        return told

    def failing(self, seconds: float, *, kafka: bool = True) -> list[tuple[str, str]]:
        """Look at everything after so long, and return what is judged to be away or to fail."""
        self.clock.seconds += seconds
        if kafka:
            self.logs.contact_at = self.clock.monotonic()
        for look in self.looks.all():
            look.once()
        judged = self.world.judge(self.book.open, {}, self.clock.now(), whole=True).alerts.values()
        kinds = {AlertKind.SERVER_AWAY, AlertKind.LOOK_FAILING}
        return sorted((str(one.kind), one.subject) for one in judged if one.kind in kinds)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """An agency whose certificate ends soon, and a database that is nearly full."""
    kafka, stop = FakeKafka(), threading.Event()
    kafka.admin().ensure_topics(TOPICS.base_specs([]))
    kafka.producer().send(TOPICS.control_subscriptions, key=b"agency/market", value=orjson.dumps(MARKET), partition=0)
    follower = ControlFollower(kafka, [TOPICS.control_subscriptions], "t")
    follower.start(stop)
    assert follower.caught_up(10)
    yield Scene(tmp_path, follower)
    stop.set()


def test_what_cannot_be_looked_at_now_is_not_over(scene: Scene) -> None:
    """A full database goes down, and a receiver whose certificate ends: nobody is told that it is mended."""
    assert scene.told(0) == {(kind, "open") for kind in SCARCE}
    scene.size, scene.receiver_away = None, True
    for _ in range(5):
        assert scene.told(60) == set()
    scene.size, scene.receiver_away, scene.ends_at = 10 * GIB, False, NOW + timedelta(days=300)
    assert scene.told(60) == set()
    assert scene.told(60) == {(kind, "closed") for kind in SCARCE}


def test_a_transaction_that_never_ends_is_told_until_the_monitor_sees_it_end(scene: Scene) -> None:
    """While the monitor is away it is not taken to be over."""
    scene.told(0)
    calm = Snapshot(NOW.isoformat(), 900, [], [], ProbeLag("ok", NOW.isoformat()))
    scene.snapshot = replace(calm, open_transactions=[OpenTransaction("feed.market", 0, 5, 2, NOW.isoformat())])
    assert scene.told(1) == {(AlertKind.TRANSACTION_OPEN, "open")}
    scene.snapshot = None
    assert scene.told(60) | scene.told(60) == set()
    scene.snapshot = calm  # of a monitor that was begun anew: it does not know yet
    assert scene.told(60) | scene.told(60) == set()
    scene.snapshot = replace(calm, open_transactions=[])
    assert scene.told(60) | scene.told(60) == {(AlertKind.TRANSACTION_OPEN, "closed")}


def test_a_snapshot_that_names_nobody_takes_no_count_away_a_removed_agency_does(scene: Scene) -> None:
    """What a monitor has not learnt yet is not gone; what the configuration does not have is, with what was kept."""
    ledgers, changed = {name: Ledger() for name in ("market", "removed", EVERYBODY)}, set[str]()
    for ledger in ledgers.values():
        ledger.add(NOW, Deliveries(100, 50))
    scene.snapshot = Snapshot(NOW.isoformat(), 900, [], [], ProbeLag("ok", NOW.isoformat()))
    scene.looks.snapshot.once()
    scene.logs.ready.set()
    scene.world.look(ledgers, changed, NOW)
    assert (set(ledgers), changed) == ({"market", EVERYBODY}, {"removed"})
    assert ledgers["market"].within(NOW, HOUR_S) == Deliveries(100, 50)


def test_whatever_a_look_raises_its_last_answer_counts_no_more_and_people_are_told(scene: Scene) -> None:
    """A right that was taken away is no outage; beside an outage of the database it is not told of extra."""
    scene.told(0)
    assert scene.looks.follow_ups.found == []
    scene.snapshot = Snapshot(NOW.isoformat(), 900, [], [], ProbeLag("ok", NOW.isoformat()))
    scene.refused = psycopg.errors.InsufficientPrivilege("permission denied for table events")

    assert scene.failing(60) == []
    assert scene.looks.follow_ups.trouble is not None
    assert "permission denied" in scene.looks.follow_ups.trouble.why
    assert scene.world._looks.follow_ups.found is None
    assert scene.failing(60) == [("look-failing", "follow-ups")]
    size, scene.size = scene.size, None
    assert scene.failing(60) == []
    assert scene.failing(60) == [("server-away", "postgresql")]
    scene.size = size
    assert scene.failing(5) == []
    assert scene.failing(60) == [("look-failing", "follow-ups")]
    scene.refused = None
    assert scene.failing(5) == []


def test_a_server_that_answers_is_not_said_to_be_away(scene: Scene) -> None:
    """A right that was taken away, or a monitor without a new measurement, is a look that fails, and is told as one."""
    scene.fails = psycopg.errors.InsufficientPrivilege("permission denied for database")
    scene.snapshot = Snapshot(NOW.isoformat(), 900, [], [], ProbeLag("ok", NOW.isoformat()))
    assert scene.failing(0) == []
    scene.measuring = False
    assert scene.failing(60) == [("look-failing", "monitor"), ("look-failing", "postgresql")]
    at = scene.clock.now().isoformat()
    scene.fails, scene.snapshot = (
        None,
        Snapshot(at, 900, [], [], ProbeLag("ok", at), away_since=at, away_why="no metadata"),
    )
    scene.failing(0)
    assert scene.failing(12) == [("look-failing", "monitor")]
    scene.snapshot, scene.measuring = Snapshot(at, 900, [], [], ProbeLag("ok", at)), True
    assert scene.failing(3) == []


def test_while_kafka_is_away_it_alone_is_told_of(scene: Scene) -> None:
    """The monitor measures nothing then, and for as long as it takes it to see Kafka again."""
    at = NOW.isoformat()
    scene.snapshot = Snapshot(at, 900, [], [], ProbeLag("ok", at), away_since=at, away_why="no answer")
    for _ in range(3):
        scene.failing(11, kafka=False)
    assert scene.failing(11, kafka=False) == [("server-away", "kafka")]
    assert scene.failing(5) == []
    assert scene.failing(10) == [("look-failing", "monitor")]


def test_receivers_are_looked_at_together_so_that_those_away_take_their_time_at_once() -> None:
    """Eight that wait for one another all come to an end."""
    together = threading.Barrier(8)

    def show(agency: Agency) -> Seen:
        together.wait(10)
        if agency.id == "a0":
            raise TimeoutError("black hole")
        return Seen(agency.id, NOW, "CN=x")

    agencies = [Agency(f"a{number}", "m", "510000", "https://receiver.example/x") for number in range(8)]
    plain = Agency("plain", "m", "510000", "http://receiver.example/x")
    found = look_at_all([*agencies, plain], show)
    assert sorted(one.agency for one in found) == [f"a{number}" for number in range(1, 8)]
    assert look_at_all([], show) == []


@pytest.mark.parametrize(("every_s", "patience_s"), [(1, 10), (300, 300)])
def test_a_server_that_hangs_is_in_trouble_before_it_answers(every_s: float, patience_s: float) -> None:
    """It took the question and says nothing: since then it is away, and what it said last still holds.

    What is seldom asked may take long over it: follow-ups in a large ledger.
    """
    clock, asked, answer = HandClock(), threading.Event(), threading.Event()
    answers: list[int] = [1]

    def ask() -> int:
        if not answers:
            asked.set()
            answer.wait(30)
        return answers.pop() if answers else 2

    look = Look("database", every_s, ask, clock)
    look.once()
    clock.seconds = 60
    hanging = threading.Thread(target=look.once)
    hanging.start()
    assert asked.wait(10)
    clock.seconds = 60 + patience_s
    assert look.trouble is None
    clock.seconds += 1
    assert look.trouble is not None
    assert (look.trouble.since, look.found) == (NOW + timedelta(seconds=60), 1)
    answer.set()
    hanging.join(10)
    assert (look.trouble, look.found) == (None, 2)

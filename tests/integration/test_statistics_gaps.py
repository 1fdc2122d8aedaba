"""A store emptied after the log's first records are gone: what was published stands, and nothing is told as zero."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from schemas.contracts import load_contracts
from services.alerting import rules
from services.alerting.book import Book, Judged
from services.quarantine.guarding import LogGuard
from services.runtime.alerts import Alert, AlertKind
from services.runtime.kafka.port import Kafka
from services.runtime.settings import Settings, as_environment
from services.statistics.adjustments import adjustments
from services.statistics.closing import Closing, ClosingRefusedError, Signature
from services.statistics.gaps import CountedNoMoreError, gaps_now
from services.statistics.lineage import explain
from services.statistics.opening import counted_topics
from services.statistics.reading import figures
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.fact_stores import METRICS, SHAPES, Day
from tests.processes import Processes
from tests.window_events import Made, WindowEvents

pytestmark = pytest.mark.servers
SIGNED = Signature("张三", "按月关账")
NOW = datetime(2026, 2, 1, tzinfo=UTC)
EMPTIED = (
    "TRUNCATE statistics.identity, statistics.cell, statistics.fact, statistics.correction, statistics.batch, "
    "statistics.standing, statistics.month_cell, statistics.month_state, statistics.consumer_offset"
)


def judged(alerts: list[Alert]) -> Judged:
    """Return what has been looked at."""
    found = Judged()
    found.add({AlertKind.FACTS_LOST}, alerts)
    return found


class Installation:
    """The statistics process over a log of its own, and the command line beside it."""

    def __init__(self, kafka: Kafka, topics: OwnTopics, settings: Settings, processes: Processes) -> None:
        self.kafka, self.topics, self.settings = kafka, topics, settings
        self.events = WindowEvents()
        self.dsn = str(settings.database.dsn.get_secret_value()) if settings.database.dsn else ""
        self.processes = processes

    def publish(self, *made: Made) -> None:
        """Append events."""
        producer = self.kafka.producer()
        for one in made:
            one.send(producer, self.topics)
        producer.close()

    def completed(self, month: str, *numbers: int) -> list[Made]:
        """Return completions of cases."""
        when = f"{month}-05T09:00:00+08:00"
        return [self.events.make(event_id=f"e{n}", project_no=f"SYN-{n}", occurred_at=when) for n in numbers]

    def exact(self, month: str, *, now: bool = False, metric: str = "items_handled") -> object:
        """Return a figure."""
        with figures(self.dsn, self.topics.group("statistics"), METRICS, SHAPES) as reader:
            return reader.figure(metric, month, now=now).exact

    def closing(self) -> Closing:
        """Return what closes months."""
        guard = LogGuard(self.kafka, self.topics, counted_topics(self.topics, load_contracts()))
        return Closing(self.dsn, self.topics.group("statistics"), METRICS, SHAPES, guard, Day(2, 12))

    def run(self, *words: str) -> tuple[int, str]:
        """Run a command; return its status and what it printed."""
        command = [sys.executable, "-m", "hongyan", "statistics", *words]
        environment = os.environ | as_environment(self.settings)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def lost(self) -> list[Alert]:
        """Return what the alerter finds."""
        return rules.lost(gaps_now(self.dsn, self.topics.group("statistics")), NOW)

    def expire(self) -> None:
        """Delete every record of the log, as its retention does."""
        admin = KafkaAdminClient(bootstrap_servers=self.settings.kafka.bootstrap_servers)
        guard = LogGuard(self.kafka, self.topics, counted_topics(self.topics, load_contracts()))
        ends = {TopicPartition(one.topic, one.partition): end for one, end in guard.ends().items() if end}
        admin.delete_records(ends)
        admin.close()

    def empty(self) -> None:
        """Empty the store, as a migration does that has everything counted anew."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute(EMPTIED)


@pytest.fixture
def installed(kafka: Kafka, own: OwnTopics, settings: Settings, processes: Processes) -> Iterator[Installation]:
    """Return it, with the process not yet started."""
    found = Installation(kafka, own, settings, processes)
    with found.events.schemas.served() as url:
        settings.registry = settings.registry.model_copy(update={"url": url})
        yield found


def test_what_the_log_has_no_more_is_said_and_never_zero(installed: Installation) -> None:
    """Health, metric, log and command name the month; its published figures stay, and nothing is told as now known."""
    running = installed.processes.start("statistics", installed.settings)
    installed.publish(*installed.completed("2025-12", *range(30)))
    eventually(lambda: installed.exact("2025-12") == 30, 60, "December")
    installed.closing().close("2025-12", SIGNED)
    assert installed.run("coverage")[0] == 0
    installed.expire()
    installed.empty()
    installed.publish(*installed.completed("2026-01", 100, 101))
    eventually(lambda: installed.exact("2026-01") == 2, 60, "the count from what is left")

    assert (installed.exact("2025-12"), installed.exact("2025-12", now=True)) == (30, None)
    with figures(installed.dsn, installed.topics.group("statistics"), METRICS, SHAPES) as reader:
        assert reader.figure("items_handled", "2025-12", {"department_code": "zzz"}).exact == 0
        found = explain(reader, "items_handled", "2025-12")
        assert (found.figure.exact, found.as_now_known.exact, found.sample) == (30, None, ())
        assert found.digest is not None
        assert found.gaps
        with pytest.raises(CountedNoMoreError, match="已不在日志中"):
            adjustments(reader, "2025-12")
    with pytest.raises(CountedNoMoreError):
        installed.closing().restate("2025-12", SIGNED)

    def health() -> dict[str, object]:
        with urllib.request.urlopen(f"{running.url}/health") as answer:
            found: dict[str, object] = json.load(answer)
            return found

    eventually(lambda: health().get("lost_months") == ["2025-12"], 30, "the health page to say so")
    with urllib.request.urlopen(f"{running.url}/metrics") as answer:
        assert b"hongyan_statistics_lost_months 1.0" in answer.read()
    assert "facts_lost" in running.log.read_text()
    told, book = installed.lost(), Book(clear_s=0)
    assert [(one.kind, one.subject, one.weight, one.size) for one in told] == [
        ("facts-lost", "2025-12", "critical", 30)
    ]
    assert "已不在日志中" in told[0].detail
    assert [one.state for one in book.judge(judged(told), NOW)] == ["open"]

    for words in (["coverage"], ["verify", "2025-12"]):
        status, printed = installed.run(*words)
        assert status == 1
        assert "日志" in printed
        assert "摘要不符" not in printed

    with pytest.raises(ClosingRefusedError, match="此前的已不在日志中"):
        installed.closing().close("2026-01", SIGNED)
    installed.closing().close("2026-01", Signature("张三", "按月关账", "一月事件均在保留期内"))
    assert installed.exact("2026-01") == 2
    with figures(installed.dsn, installed.topics.group("statistics"), METRICS, SHAPES) as reader:
        assert {gap.month for gap in reader.gaps} == {202512}
    running.kill()
    with psycopg.connect(installed.dsn) as connection:
        connection.execute("UPDATE statistics.consumer_offset SET began = 0")  # as a backup would have it
    assert [one.state for one in book.judge(judged(installed.lost()), NOW)] == ["closed"]


def test_a_log_that_is_whole_leaves_nothing_to_say(installed: Installation) -> None:
    """A store that is emptied and counts everything again has no gap: figures are as before, and as now known."""
    running = installed.processes.start("statistics", installed.settings)
    installed.publish(*installed.completed("2025-12", *range(5)))
    eventually(lambda: installed.exact("2025-12") == 5, 60)
    installed.closing().close("2025-12", SIGNED)
    installed.empty()
    eventually(lambda: installed.exact("2025-12", now=True) == 5, 60, "the count anew")
    assert installed.run("coverage")[0] == 0
    assert running.healthy()
    assert installed.run("verify", "2025-12")[0] == 0


def test_a_store_that_holds_more_than_the_log_is_not_given_up_for_less(installed: Installation) -> None:
    """After the retention's end the store still tells what is known now; a rebuild that would lose it is refused."""
    installed.processes.start("statistics", installed.settings)
    installed.publish(*installed.completed("2025-12", *range(5)))
    eventually(lambda: installed.exact("2025-12") == 5, 60)
    installed.closing().close("2025-12", SIGNED)
    installed.expire()
    for words, said in ((["rebuild"], "重建会丢失现有事实"), (["verify", "2025-12"], "无从重算")):
        status, printed = installed.run(*words)
        assert status == 1
        assert said in printed
    assert installed.run("coverage")[0] == 0
    assert installed.exact("2025-12", now=True) == 5

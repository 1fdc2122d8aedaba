"""The statistics on the real Kafka and PostgreSQL: each event counts once, whatever dies meanwhile."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random

import psycopg
import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from psycopg.conninfo import conninfo_to_dict

from producers.simulation.commands import type_of, write_month
from schemas.contracts import load_contracts
from services.quarantine.aside import LEFT_OUT
from services.runtime.embedded.ports import free_port
from services.runtime.kafka.port import Kafka, Partition
from services.runtime.positions import PartitionKey, PositionLostError
from services.runtime.settings import Settings, as_environment
from services.statistics.facts import Fact, FactMaker, Origin, case_of
from services.statistics.figure import Figure, Month
from services.statistics.loading import load_metrics
from services.statistics.reading import figures
from services.statistics.shapes import shapes
from services.statistics.store import FactStore
from tests import independent_count
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.counting import Counting, count, passed, publish
from tests.events import read_all
from tests.fakes.kafka import FakeKafka
from tests.window_events import COMPLETED, Made, WindowEvents

pytestmark = pytest.mark.servers
SHAPES = shapes(load_contracts())
METRICS = load_metrics(SHAPES)
DOMAINS = ("window", "activity", "enterprise", "inventory", "policy")


@pytest.fixture
def events() -> WindowEvents:
    """Return a maker of window events."""
    return WindowEvents()


@pytest.fixture(autouse=True)
def base_topics(topics: OwnTopics) -> None:
    """Create the topics of the window domain."""
    topics.ensure_base(*DOMAINS)


@pytest.fixture
def counting(kafka: Kafka, topics: OwnTopics, database_dsn: str, events: WindowEvents) -> Counting:
    """Return the statistics, not yet running."""
    return Counting(kafka, topics, database_dsn, events, [topics.events(domain) for domain in DOMAINS])


def reached(dsn: str, facts: int) -> bool:
    """Tell whether there are as many facts."""
    return count(dsn) >= facts


@dataclass(frozen=True, slots=True)
class Section:
    """Section one of a month: its figures, and what they were counted from."""

    figures: list[Figure]
    events: int
    offsets: dict[PartitionKey, int]


def report(dsn: str, topics: OwnTopics, month: str = "2025-12") -> Section:
    """Return the month's section one."""
    with figures(dsn, topics.group("statistics"), METRICS, SHAPES) as reader:
        ids = next(group.ids for group in reader.metrics.groups if group.name == "section_one")
        found = [reader.figure(metric_id, month) for metric_id in ids]
        return Section(found, reader.events(Month.parse(month)), reader.positions())


@pytest.mark.parametrize(("year", "month", "seed"), [(2025, 12, 3), (2026, 3, 8)])
def test_a_simulated_month_comes_out_as_an_independent_count_says(
    counting: Counting,
    kafka: Kafka,
    topics: OwnTopics,
    database_dsn: str,
    events: WindowEvents,
    tmp_path: Path,
    year: int,
    month: int,
    seed: int,
) -> None:
    """Repeats, re-opened cases, both edges, other levels and times without offset: all 39 figures are exact."""
    made = [
        events.from_row(type_of(file), row)
        for file in write_month(year, month, tmp_path, seed=seed, scale=0.02)
        for row in csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines())
    ]
    Random(seed).shuffle(made)
    publish(kafka, topics, made)
    with counting.instance():
        eventually(lambda: passed(database_dsn) == len(made), 60, "the whole month")
    independent = independent_count.Counting(tmp_path, year, month)
    with figures(database_dsn, topics.group("statistics"), METRICS, SHAPES) as reader:
        ours = {name: reader.figure(name, f"{year}-{month:02d}").exact for name in independent.all()}
    assert ours == {name: pytest.approx(value, abs=Decimal("1e-15")) for name, value in independent.all().items()}
    section = report(database_dsn, topics, f"{year}-{month:02d}")
    assert {f.metric_id: f.exact for f in section.figures} == independent.section_one()
    assert sum(section.offsets.values()) == len(made)


def test_killing_the_process_again_and_again_changes_no_figure(
    kafka: Kafka, topics: OwnTopics, database_dsn: str, events: WindowEvents, settings: Settings
) -> None:
    """After SIGKILLs in mid-load each event is a fact once, and the table stands where the log ends."""
    made = [events.make(event_id=f"e{n}", project_no=f"SYN-{n}") for n in range(30_000)]
    publish(kafka, topics, [*made, *made[:300]])
    with events.schemas.served() as url:
        settings.registry = settings.registry.model_copy(update={"url": url})
        for milestone in (1, 8_000, 16_000):
            with statistics_process(settings) as process:
                eventually(partial(reached, database_dsn, milestone), 60, f"{milestone} facts")
                process.send_signal(signal.SIGKILL)
                process.wait(10)
            assert count(database_dsn) < 30_000
        with statistics_process(settings) as process:
            eventually(lambda: passed(database_dsn) == 30_300, 60, "the end of the log")
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    assert count(database_dsn) == 30_000
    assert exact(report(database_dsn, topics), "items_handled") == 30_000


@contextmanager
def statistics_process(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``hongyan run statistics``; it is gone afterwards in any case."""
    command = [sys.executable, "-m", "hongyan", "run", "statistics", "--port", str(free_port())]
    process = subprocess.Popen(command, env=os.environ | as_environment(settings), stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def test_instances_that_come_and_go_count_each_event_once(
    counting: Counting, kafka: Kafka, topics: OwnTopics, database_dsn: str, events: WindowEvents
) -> None:
    """Partitions change hands in mid-load: what all instances added together is each event once."""
    made = [events.make(event_id=f"e{n}", project_no=f"SYN-{n}") for n in range(6_000)]
    publish(kafka, topics, made[:2_000])
    with counting.instance("a") as first:
        eventually(lambda: count(database_dsn) > 0, 30)
        with counting.instance("b") as second:
            publish(kafka, topics, made[2_000:4_000])
            eventually(lambda: count(database_dsn) == 4_000, 40, "4,000 facts")
        publish(kafka, topics, made[4_000:])
        eventually(lambda: count(database_dsn) == 6_000, 40, "6,000 facts")
        assert passed(database_dsn) == 6_000
        added = [one.total("facts") or 0 for one in (first, second)]
    assert sum(added) == 6_000


def test_a_stale_owner_of_a_partition_stores_nothing(database_dsn: str, events: WindowEvents) -> None:
    """Of two that hold one partition the first to commit wins; the other's facts are rolled back with its position."""
    place = ("events.window.v1", 0)
    owner, zombie = FactStore(database_dsn, "statistics"), FactStore(database_dsn, "statistics")
    owner.begin(place, 0)
    assert zombie.positions() == {place: 0}
    assert owner.store([fact("e1", 0)], {place: (0, 1)}).added == 1
    with pytest.raises(PositionLostError):
        zombie.store([fact("e1", 0), fact("e2", 1)], {place: (0, 2)})
    assert count(database_dsn) == 1
    assert zombie.positions() == {place: 1}
    owner.close()
    zombie.close()


def test_the_first_content_of_an_identity_stands(database_dsn: str) -> None:
    """The same again is a repeat, other content a conflict; neither changes the fact."""
    place = ("events.window.v1", 0)
    store = FactStore(database_dsn, "statistics")
    store.begin(place, 0)
    store.store([fact("e1", 0, b"one")], {place: (0, 1)})
    found = store.store([fact("e1", 1, b"one"), fact("e1", 2, b"two"), fact("e2", 3)], {place: (1, 4)})
    store.close()
    assert (found.added, found.repeated, found.conflicts) == (1, 2, 1)
    with psycopg.connect(database_dsn) as connection:
        row = connection.execute("SELECT \"offset\" FROM statistics.fact WHERE event_id = 'e1'").fetchone()
    assert row == (0,)


MAKER = FactMaker(SHAPES[COMPLETED])


def fact(event_id: str, offset: int, digest: bytes = b"digest") -> Fact:
    """Return a fact of December."""
    at = independent_count.FROM
    content = case_of("digest", digest.decode())
    place = ("events.window.v1", 0, offset)
    return MAKER.fact(
        Origin("urn:sc:test", event_id, event_id, None, at), event_id, {"occurred_at": at}, content, place
    )


def test_replaying_the_whole_log_changes_nothing(
    counting: Counting, kafka: Kafka, topics: OwnTopics, database_dsn: str, events: WindowEvents
) -> None:
    """With the table's positions gone the log is read from its beginning, though Kafka's say it is read."""
    publish(kafka, topics, [events.make(event_id=f"e{n}", project_no=f"SYN-{n}") for n in range(500)])
    with counting.instance():
        eventually(lambda: passed(database_dsn) == 500, 30)
    before = report(database_dsn, topics)
    with psycopg.connect(database_dsn) as connection:
        connection.execute("DELETE FROM statistics.consumer_offset")
    with counting.instance() as running:
        eventually(lambda: running.total("repeated") == 500, 30)
    assert report(database_dsn, topics) == before


def test_what_cannot_be_read_is_put_aside_and_the_rest_counted(
    counting: Counting, kafka: Kafka, topics: OwnTopics, database_dsn: str, events: WindowEvents
) -> None:
    """A record that is no event goes to the dead letter with its reason and place, and stops nothing."""
    good = events.make(event_id="good")
    publish(kafka, topics, [Made(good.key, b"no avro", good.headers), Made(b"k", b"", ()), good])
    with counting.instance():
        eventually(lambda: passed(database_dsn) == 3, 30)
    assert count(database_dsn) == 1
    reader = kafka.consumer(None)
    reader.assign([Partition(topics.deadletter("statistics"), 0)])
    aside = [record for records in reader.poll(10, 10).values() for record in records]
    reader.close()
    reasons = [dict(record.headers)["hongyan-reason"].decode() for record in aside]
    assert len(reasons) == 2
    assert any("wire format" in reason for reason in reasons)
    assert dict(aside[0].headers)["hongyan-original-topic"].decode() == topics.events("window")


def test_what_the_dead_letters_take_not_whole_leaves_a_pointer(
    counting: Counting,
    kafka: Kafka,
    kafka_address: str,
    topics: OwnTopics,
    database_dsn: str,
    events: WindowEvents,
) -> None:
    """The broker refuses the record for its size; its reason and its place go there, and the count goes on."""
    limited = topics.deadletter("statistics")
    admin = KafkaAdminClient(bootstrap_servers=kafka_address)
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, limited, {"max.message.bytes": "20000"})])
    admin.close()
    good = events.make(event_id="good")
    publish(kafka, topics, [Made(good.key, b"x" * 30_000, good.headers), good])
    with counting.instance():
        eventually(lambda: passed(database_dsn) == 2, 30)
    assert count(database_dsn) == 1
    letter = read_all(kafka, limited, 1)[0]
    headers = dict(letter.headers)
    assert (letter.value, headers["hongyan-original-offset"], headers[LEFT_OUT]) == (b"", b"0", b"30000")


def test_a_database_that_is_away_is_waited_for(
    counting: Counting, kafka: Kafka, topics: OwnTopics, database_dsn: str, events: WindowEvents
) -> None:
    """Nothing is lost or counted twice over an outage, and the count resumes by itself."""
    publish(kafka, topics, [events.make(event_id=f"a{n}") for n in range(100)])
    with counting.instance() as running:
        eventually(lambda: passed(database_dsn) == 100, 30)
        allow_connections(database_dsn, allowed=False)
        publish(kafka, topics, [events.make(event_id=f"b{n}") for n in range(100)])
        running.await_outage()
        allow_connections(database_dsn, allowed=True)
        eventually(lambda: passed(database_dsn) == 200, 40)
        assert running.total("facts") == 200


def test_a_database_that_is_away_is_noticed_without_any_event(
    counting: Counting, kafka: Kafka, topics: OwnTopics, database_dsn: str, events: WindowEvents
) -> None:
    """Health says so while nothing comes, and says that it works once the database is back."""
    publish(kafka, topics, [events.make(event_id="a")])
    with counting.instance() as running:
        eventually(lambda: passed(database_dsn) == 1, 30)
        allow_connections(database_dsn, allowed=False)
        running.await_outage()
        allow_connections(database_dsn, allowed=True)
        eventually(lambda: running.statistics.working, 30, "the recovery")


def allow_connections(dsn: str, *, allowed: bool) -> None:
    """Let connections to a database in, or end all there are and refuse new ones."""
    name = conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(dsn, dbname="postgres", autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {str(allowed).lower()}")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))


def test_a_kafka_that_is_away_is_waited_for(topics: OwnTopics, database_dsn: str, events: WindowEvents) -> None:
    """The count resumes by itself once Kafka answers again."""
    cluster = FakeKafka()
    cluster.admin().ensure_topics(topics.base_specs(list(DOMAINS)))
    inputs = [topics.events(domain) for domain in DOMAINS]
    with Counting(cluster, topics, database_dsn, events, inputs).instance() as running:
        events.make(event_id="a").send(cluster.producer(), topics, 0)
        eventually(lambda: passed(database_dsn) == 1)
        cluster.away = True
        running.await_outage()
        cluster.away = False
        events.make(event_id="b").send(cluster.producer(), topics, 0)
        eventually(lambda: passed(database_dsn) == 2)
        assert running.total("facts") == 2


def test_a_month_without_events_has_none(database_dsn: str, topics: OwnTopics) -> None:
    """Every figure is zero, and the section says that nothing was counted."""
    section = report(database_dsn, topics, "2031-01")
    assert (section.events, section.offsets) == (0, {})
    assert {figure.exact for figure in section.figures} == {0}


def exact(section: Section, metric_id: str) -> int | Decimal | None:
    """Return one figure's exact value."""
    return next(figure.exact for figure in section.figures if figure.metric_id == metric_id)

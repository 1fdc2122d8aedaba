"""Every cell of the departmental and push metrics, from a real Kafka through the product, against another count."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from producers.simulation.commands import type_of, write_month
from schemas.contracts import load_contracts
from services.runtime.kafka.port import Kafka
from services.statistics.figure import Month
from services.statistics.reading import FigureReader, figures
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.counting import Counting, passed, publish
from tests.fact_stores import METRICS, SHAPES
from tests.independent_cells import DEADLINES, Cells, Departments, Names, Pushes
from tests.independent_count import CHINA
from tests.independent_count import Counting as FromFiles
from tests.window_events import Made, WindowEvents

pytestmark = pytest.mark.servers
DECEMBER = Month(2025, 12)
CLOSE = Decimal("1e-12")
OUTCOMES = ("delivered", "delivered", "delivered", "accepted", "rejected", "parked")


def cells_of(reader: FigureReader, metric_id: str, dimensions: Names) -> Cells:
    """Return what the product makes of a metric; where it has no value there is no entry."""
    found = reader.grouped(METRICS.of(metric_id, str(DECEMBER)), DECEMBER, dimensions)
    return {names: Decimal(value.exact) for names, value in found.items() if value.exact is not None}


def compare(reader: FigureReader, expected: dict[tuple[str, Names], Cells], beginning: str) -> int:
    """Compare every cell, and that no metric is left out; return how many there were."""
    metrics = {metric_id for metric_id in METRICS.ids() if metric_id.startswith(beginning)}
    assert {metric_id for metric_id, _ in expected} == metrics
    for (metric_id, dimensions), cells in expected.items():
        ours = cells_of(reader, metric_id, dimensions)
        assert ours == pytest.approx(cells, abs=CLOSE), (metric_id, dimensions)
    return sum(map(len, expected.values()))


def test_every_departmental_cell_is_what_the_files_say(
    kafka: Kafka, own: OwnTopics, database_dsn: str, tmp_path: Path
) -> None:
    """By none, one and two dimensions, over repeats, re-opened cases, other levels and both edges of the month."""
    events = WindowEvents()
    made = [
        events.from_row(type_of(file), row)
        for file in write_month(2025, 12, tmp_path, seed=5, scale=0.01)
        for row in csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines())
        if type_of(file).startswith("cn.gov.sc.window.case.")
    ]
    Random(5).shuffle(made)
    publish(kafka, own, made)
    with Counting(kafka, own, database_dsn, events).instance():
        eventually(lambda: passed(database_dsn) == len(made), 60, "the whole month")
    with figures(database_dsn, own.group("statistics"), METRICS, SHAPES) as reader:
        expected = Departments(FromFiles(tmp_path)).cells()
        assert compare(reader, expected, "dept_") > 2000


def test_corrected_and_withdrawn_cases_count_where_they_are_now(
    kafka: Kafka, own: OwnTopics, database_dsn: str, tmp_path: Path
) -> None:
    """Corrections move cases to other departments and out of the month, tombstones take them away: each cell says so.

    They come in any order with what they correct. The files that are counted anew hold the rows as corrected.
    """
    events, random = WindowEvents(), Random(23)
    write_month(2025, 12, tmp_path, seed=6, scale=0.01)
    made: list[Made] = []
    for file in sorted(tmp_path.glob("cn.gov.sc.window.case.*-synthetic.csv")):
        kind, written = type_of(file), file.read_text(encoding="utf-8-sig").splitlines()
        rows = list(csv.DictReader(written))
        made += [events.from_row(kind, row) for row in rows]
        once = [row for row in rows if rows.count(row) == 1]
        changed = random.sample(once, len(once) // 8)
        kept = [row for row in rows if row not in changed]
        for number, row in enumerate(changed):
            original = events.from_row(kind, row)
            if number % 4 == 0:
                made.append(following(replace(events.from_row(kind, row | moved(row, 1)), value=None), original))
                continue
            corrected = row | moved(row, 40 if number % 4 == 1 else 0) | dict.fromkeys(("division",), "510700")
            made.append(following(events.from_row(kind, corrected), original))
            kept.append(corrected)
        with file.open("w", encoding="utf-8-sig", newline="") as target:
            writer = csv.DictWriter(target, list(rows[0]))
            writer.writeheader()
            writer.writerows(kept)
    random.shuffle(made)
    publish(kafka, own, made)
    with Counting(kafka, own, database_dsn, events).instance():
        eventually(lambda: passed(database_dsn) == len(made), 60, "the whole month")
    with figures(database_dsn, own.group("statistics"), METRICS, SHAPES) as reader:
        compare(reader, Departments(FromFiles(tmp_path)).cells(), "dept_")


def moved(row: dict[str, str], days: int) -> dict[str, str]:
    """Return a row's time so many days and a second earlier."""
    at = datetime.fromisoformat(row["occurred_at"])
    return {"occurred_at": (at - timedelta(days=days, seconds=1)).isoformat()}


def following(made: Made, original: Made) -> Made:
    """Return an event as a correction of another."""
    followed = dict(original.headers)["ce_id"]
    return replace(made, headers=[*made.headers, ("ce_follows", followed)])


def receipts(random: Random, count: int) -> list[dict[str, Any]]:
    """Return synthetic receipts around the edges of December and of deadlines, some twice, some of no known time."""
    moments = [datetime(2025, 11, 28, tzinfo=CHINA) + timedelta(hours=random.uniform(0, 24 * 36)) for _ in range(count)]
    moments += [datetime(2025, 12, 1, tzinfo=CHINA), datetime(2025, 11, 30, 23, 59, 59, 999000, tzinfo=CHINA)]
    moments += [datetime(2025, 12, 31, 23, 59, 59, 999000, tzinfo=CHINA), datetime(2026, 1, 1, tzinfo=CHINA)]
    found = [receipt(random, cursor, at) for cursor, at in enumerate(moments)]
    # What was parked or refused is sometimes delivered or accepted days later: another word on the same delivery.
    again = [
        one
        | {"outcome": "accepted", "last_at": (datetime.fromisoformat(one["last_at"]) + timedelta(days=5)).isoformat()}
        for one in random.sample(found, count // 5)
        if one["outcome"] != "accepted"
    ]
    found += again
    return [*found, *random.sample(found, count // 10)]


def receipt(random: Random, cursor: int, at: datetime) -> dict[str, Any]:
    """Return one."""
    days = random.choice((0.0, 0.0, 0.01, 1, 4.9, 5, 7, 9, 14, 16))
    published = at - timedelta(days=days, seconds=random.uniform(0, 40))
    return {
        "agency": random.choice(("market", "tax")),
        "cursor": cursor,
        "event_id": f"e{cursor}",
        "source": random.choice(("urn:sc:health", "urn:sc:credit")),
        "type": random.choice(list(DEADLINES)),
        "subject": "k",
        "outcome": random.choice(OUTCOMES),
        "last_at": at.isoformat(timespec="milliseconds"),
        "attempts": random.randint(1, 4),
        "channel": random.choice(("webhook", "pull")),
        "published_at": None if random.random() < 0.05 else published.isoformat(timespec="milliseconds"),
    }


def test_every_cell_of_the_push_service_is_what_its_receipts_say(
    kafka: Kafka, own: OwnTopics, database_dsn: str
) -> None:
    """Delivered, acknowledged, in time, percentiles and corrections, by publisher, agency, type and channel."""
    random, events = Random(11), WindowEvents()
    said = receipts(random, 400)
    published = [
        (
            datetime(2025, 11, 30, 23, tzinfo=CHINA) + timedelta(minutes=random.uniform(0, 60 * 24 * 33)),
            f"urn:sc:{n % 3}",
            n,
        )
        for n in range(200)
    ]
    made = [
        recorded(events.make(event_id=f"p{n}", project_no=f"SYN-{n}", source=source), at) for at, source, n in published
    ]
    publish(kafka, own, [*made, *made[:20]])
    log = kafka.producer()
    for one in said:
        log.send(own.receipts, key=one["agency"].encode(), value=orjson.dumps(one))
    log.flush(30)
    log.close()
    inputs = [own.events("window"), own.receipts]
    with Counting(kafka, own, database_dsn, events, inputs).instance():
        eventually(lambda: passed(database_dsn) == len(made) + 20 + len(said), 60, "everything")
    expected = Pushes(said, 2025, 12).cells() | own_published(published)
    with figures(database_dsn, own.group("statistics"), METRICS, SHAPES) as reader:
        assert compare(reader, expected, "push_") > 150
        # Receipts are no events, and are not counted among them.
        told = {(one["agency"], one["cursor"], one["outcome"]) for one in said}
        months = reader.months()
        assert [sum(map(of, months)) for of in (reader.events, reader.deliveries)] == [len(published), len(told)]


def own_published(published: list[tuple[datetime, str, int]]) -> dict[tuple[str, Names], Cells]:
    """Return what was published in December by the time at which the platform had it, by source and type."""
    kind = "cn.gov.sc.window.case.completed"
    sources = [source for at, source, _ in published if at.year == 2025 and at.month == 12]
    each: Cells = {(source,): Decimal(sources.count(source)) for source in set(sources)}
    return {
        ("push_published", ()): {(): Decimal(len(sources))},
        ("push_published", ("source",)): each,
        ("push_published", ("type",)): {(kind,): Decimal(len(sources))},
        ("push_published", ("source", "type")): {(source, kind): value for (source,), value in each.items()},
    }


def recorded(made: Made, at: datetime) -> Made:
    """Return an event with the time at which the platform accepted it."""
    return replace(made, headers=[*made.headers, ("ce_recordedtime", at.isoformat().encode())])


def test_the_types_of_the_test_have_the_deadlines_that_the_catalogue_says() -> None:
    """The independent count writes them down a second time."""
    types = load_contracts().types
    assert {name: types[name].catalogue.deadline_working_days for name in DEADLINES} == DEADLINES

"""Facts: stored against a bare COPY of the same rows; a figure with its lineage over a year; a month as it grows."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from statistics import median

import psycopg

from bench.results import Result
from producers.simulation.month import MonthMaker
from schemas.contracts import load_contracts
from schemas.times import SHANGHAI
from services.runtime.database import migrate
from services.runtime.embedded.servers import start_servers
from services.runtime.settings import Settings
from services.runtime.supervisor import Supervisor
from services.statistics.facts import Fact, FactMaker, Origin, case_of
from services.statistics.lineage import explain
from services.statistics.loading import load_metrics
from services.statistics.reading import figures
from services.statistics.settling import settled
from services.statistics.shapes import shapes
from services.statistics.store import FactStore, _line, in_schema

BATCH = 2000
TOPIC = "events.window.v1"
SOURCE = "urn:sc:bench"
SHAPES = shapes(load_contracts())
METRICS = load_metrics(SHAPES)
BARE_BAR, LINEAGE_BAR_MS, GROWTH_BAR = 0.3, 200, 1.3


def measure(address: str) -> list[Result]:
    """Measure on a PostgreSQL of its own."""
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as folder, Supervisor() as supervisor:
        Path(folder).chmod(0o755)
        settings = Settings()
        settings.kafka.bootstrap_servers = address
        server = start_servers(Path(folder), supervisor, settings)
        return [*_against_copy(server.dsn), *_growing(server.dsn), *_over_a_year(server.dsn)]


@contextmanager
def database(dsn: str, name: str) -> Iterator[str]:
    """Give a migrated database."""
    own = dsn.rsplit("/", 1)[0] + f"/{name}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    migrate(own)
    yield own
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def month_of_facts(year: int, month: int, scale: float = 1.0) -> list[Fact]:
    """Return a simulated month's window events as facts, in the order of their times."""
    found: list[Fact] = []
    makers = {name: FactMaker(shape) for name, shape in SHAPES.items()}
    for file in MonthMaker(year, month, 1, scale).files():
        contract = load_contracts().types[file.type]
        shape = SHAPES[file.type]
        for row in file.rows:
            at = datetime.fromisoformat(str(row[shape.time_field]))
            aware = at if at.tzinfo else at.replace(tzinfo=SHANGHAI)
            data = {**row, shape.time_field: aware}
            data.update({name: int(row[name]) for name in shape.numbers if row.get(name)})
            key = contract.business_key(data)
            event_id = case_of(file.type, f"{key}/{at}").hex
            digest = case_of("content", repr(sorted(row.items())))
            found.append(
                makers[file.type].fact(Origin(SOURCE, event_id, key, None, aware), key, data, digest, (TOPIC, 0, 0))
            )
    found.sort(key=lambda fact: fact.occurred_at)
    return found


def put(dsn: str, facts: Sequence[Fact], start: int = 0) -> float:
    """Store facts in batches with their positions; return the seconds."""
    store = FactStore(dsn, "statistics")
    store.begin((TOPIC, 0), 0)
    placed = [replace(fact, place=(TOPIC, 0, start + n)) for n, fact in enumerate(facts)]
    began = time.monotonic()
    for at in range(0, len(placed), BATCH):
        batch = placed[at : at + BATCH]
        store.store(batch, {(TOPIC, 0): (start + at, start + at + len(batch))})
    taken = time.monotonic() - began
    store.close()
    return taken


def copy_bare(dsn: str, facts: Sequence[Fact]) -> float:
    """COPY the same rows in the same batches into one plain table with a key; return the seconds."""
    with psycopg.connect(in_schema(dsn), autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE bare (identity uuid PRIMARY KEY, digest uuid, month integer, cell bigint, kind integer, "
            "case_id uuid, event_id text, case_key text, occurred_at timestamptz, recorded_at timestamptz, "
            'follows uuid, marks text, detail jsonb, log integer, "offset" bigint, batch bigint)'
        )
        unique = list({fact.identity: fact for fact in facts}.values())
        began = time.monotonic()
        for at in range(0, len(unique), BATCH):
            lines = "".join([_line(fact, 1, at) for fact in unique[at : at + BATCH]])
            with connection.cursor().copy("COPY bare FROM STDIN") as copy:
                copy.write(lines.encode())
        taken = time.monotonic() - began
        connection.execute("DROP TABLE bare")
    return taken * len(facts) / len(unique)


def _moved(fact: Fact, month: int) -> Fact:
    """Return a like fact of another month of the year, of another case."""
    at = fact.occurred_at.astimezone(SHANGHAI)
    return replace(
        fact,
        identity=case_of(str(month), fact.identity.hex),
        case_id=case_of(str(month), fact.case_id.hex),
        month=202500 + month,
        occurred_at=at.replace(year=2025, month=month, day=min(at.day, 28)),
    )


def _against_copy(dsn: str) -> list[Result]:
    facts = month_of_facts(2025, 12)
    ours, bare = [], []
    for n in range(3):
        with database(dsn, f"copy_{n}") as own:
            bare.append(len(facts) / copy_bare(own, facts))
            ours.append(len(facts) / put(own, facts))
    rate, plain = median(ours), median(bare)
    ratio = round(rate / plain, 2)
    bar = f"ratio >= {BARE_BAR} of COPY into one table with a key"
    return [Result("facts", round(rate), round(plain), ratio, "facts/s", bar, ratio >= BARE_BAR)]


def _growing(dsn: str) -> list[Result]:
    """Store, settle and count all figures of a month of 1x, 4x and 16x the events."""
    seconds = {}
    for times in (1, 4, 16):
        facts = month_of_facts(2025, 12, times / 16)
        with database(dsn, f"grown_{times}") as own:
            began = time.monotonic()
            put(own, facts)
            with figures(own, "statistics", METRICS, SHAPES) as reader:
                for metric_id in METRICS.ids():
                    reader.figure(metric_id, "2025-12")
            seconds[times] = (time.monotonic() - began) / len(facts)
    growth = round(seconds[16] / seconds[1], 2)
    said = ", ".join(f"{times}x {round(1e6 * one)} us" for times, one in seconds.items())
    bar = f"at most {GROWTH_BAR}x for each event at 16x the events ({said})"
    return [Result("month_growth", growth, None, None, "cost of an event, 16x against 1x", bar, growth <= GROWTH_BAR)]


def _over_a_year(dsn: str) -> list[Result]:
    """Explain a year's figure down to its events, over twelve full months."""
    with database(dsn, "year") as own:
        start, december = 0, month_of_facts(2025, 12)
        for month in range(1, 13):
            put(own, [_moved(fact, month) for fact in december], start)
            start += len(december)
        began = time.monotonic()
        with settled(own):
            pass
        settling = time.monotonic() - began
        year = METRICS.of("online_completed", "2025-12").model_copy(
            update={"id": "online_completed_year", "period": "year_to_date"}
        )
        metrics = type(METRICS)({year.id: [year]}, [])
        taken = []
        for _ in range(5):
            began = time.monotonic()
            with figures(own, "statistics", metrics, SHAPES) as reader:
                explain(reader, year.id, "2025-12")
            taken.append(1000 * (time.monotonic() - began))
    ms = round(median(taken))
    bar = f"at most {LINEAGE_BAR_MS} ms over {start} events (settled in {settling:.1f} s)"
    return [Result("figure_lineage", ms, None, None, "ms", bar, ms <= LINEAGE_BAR_MS)]

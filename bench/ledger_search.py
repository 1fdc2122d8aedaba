"""The ledger's readers over ten million events: p95 of every kind of question that a page asks.

``HONGYAN_BENCH_EVENTS`` sets how many events; the questions are of random times and numbers over all of them.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from psycopg_pool import ConnectionPool

from bench.ledger_rows import AGENCIES, INSTITUTIONS, MONTHS, SOURCES, load
from bench.results import Result
from services.ledger.reading import LedgerReader
from services.ledger.searching import OPERATOR, Criteria, Cursor, Scope
from services.runtime.clock import SystemClock
from services.runtime.database import migrate
from services.runtime.embedded.servers import start_servers
from services.runtime.settings import KafkaSettings, Settings
from services.runtime.supervisor import Supervisor

EVENTS = int(os.environ.get("HONGYAN_BENCH_EVENTS", "10000000"))
ROUNDS = 60
BAR_MS = 200

Question = Callable[[], object]


def measure(address: str) -> list[Result]:
    """Load the events, ask every kind of question, and return the overview's p95 and that of the slowest search."""
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=address))
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as folder, Supervisor() as supervisor:
        Path(folder).chmod(0o755)
        dsn = start_servers(Path(folder), supervisor, settings, durable=False).dsn
        migrate(dsn)
        now, began = datetime.now(UTC), time.monotonic()
        load(dsn, now, EVENTS)
        print(f"{EVENTS} events loaded in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        with ConnectionPool(dsn, min_size=1, max_size=1) as pool:
            times = {name: _p95(ask) for name, ask in questions(LedgerReader(pool, SystemClock()), now).items()}
    for name, took in sorted(times.items(), key=lambda item: -item[1]):
        print(f"  {name}: p95 {took:.1f} ms", file=sys.stderr, flush=True)
    searches = [took for name, took in times.items() if not name.startswith("overview")]
    overviews = [took for name, took in times.items() if name.startswith("overview")]
    bar = f"p95 at most {BAR_MS} ms of the slowest kind, {EVENTS:,} events"
    return [
        Result(name, round(max(found), 1), None, None, "ms", bar, max(found) <= BAR_MS)
        for name, found in (("ledger_search", searches), ("ledger_overview", overviews))
    ]


def questions(reader: LedgerReader, now: datetime) -> Mapping[str, Question]:
    """Return what the pages ask, each of something else every time."""
    rng = random.Random(8)

    def number() -> int:
        return rng.randrange(EVENTS - MONTHS)

    def agency() -> str:
        return f"agency-{rng.randrange(AGENCIES)}"

    def source() -> str:
        return f"urn:synthetic:department-{rng.randrange(SOURCES)}"

    def kind() -> str:
        return f"cn.gov.sc.synthetic.thing.made-{rng.randrange(SOURCES * 5)}"

    def back() -> str:
        return Cursor(now - timedelta(days=rng.randrange(1, MONTHS * 30))).to_text()

    def week() -> Criteria:
        until = now - timedelta(days=rng.randrange(MONTHS * 30))
        return Criteria(source=source(), since=until - timedelta(days=7), until=until)

    def asking(criteria: Callable[[], Criteria], scope: Callable[[], Scope] = lambda: OPERATOR) -> Question:
        return lambda: reader.search(scope(), criteria())

    def of_agency() -> Scope:
        return Scope.of_agency(agency())

    def of_publisher() -> Scope:
        return Scope.of_publisher([source()])

    rare = Criteria(type="cn.gov.sc.synthetic.thing.made-rarely")
    return {
        "newest": asking(Criteria),
        "older page": lambda: reader.search(OPERATOR, Criteria(), 50, back()),
        "certificate": asking(lambda: Criteria(identifier=f"CERT-{number()}")),
        "organisation": asking(lambda: Criteria(identifier=f"USCC-{rng.randrange(INSTITUTIONS)}")),
        "certificate that is not there": asking(lambda: Criteria(identifier=f"NONE-{number()}")),
        "business key": asking(lambda: Criteria(subject=f"K-{number()}")),
        "event id": asking(lambda: Criteria(event=f"e-{number()}")),
        "timeline": lambda: reader.timeline(OPERATOR, f"e-{number()}"),
        "agency": asking(lambda: Criteria(agency=agency())),
        "agency and type": asking(lambda: Criteria(agency=agency(), type=kind())),
        "agency and publisher": asking(lambda: Criteria(agency=agency(), source=source())),
        "publisher in a week": asking(week),
        "type": asking(lambda: Criteria(type=kind())),
        "rare type": asking(lambda: rare),
        "rare type at an agency": asking(lambda: Criteria(agency=agency(), type=rare.type)),
        "nothing of that type": asking(lambda: Criteria(type="none")),
        "agency's own": asking(Criteria, of_agency),
        "agency's own, older page": lambda: reader.search(of_agency(), Criteria(), 50, back()),
        "agency's own certificate": asking(lambda: Criteria(identifier=f"CERT-{number()}"), of_agency),
        "agency's own timeline": lambda: reader.timeline(of_agency(), f"e-{number()}"),
        "publisher's own": asking(Criteria, of_publisher),
        "publisher's own at an agency": asking(lambda: Criteria(agency=agency()), of_publisher),
        "longest page": lambda: reader.search(OPERATOR, Criteria(), 200, back()),
        "overview": lambda: reader.overview(OPERATOR),
        "overview of an agency": lambda: reader.overview(of_agency()),
        "overview of a publisher": lambda: reader.overview(of_publisher()),
    }


def _p95(ask: Question) -> float:
    """Return the 95th percentile of how long a question takes, in ms; the first one warms nothing but the program."""
    ask()
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        ask()
        took.append(1000 * (time.perf_counter() - began))
    return sorted(took)[int(0.95 * ROUNDS)]

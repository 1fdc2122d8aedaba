"""Fills a ledger with synthetic events for measuring, a month at a time, as the ledger itself would have them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime

import psycopg
from psycopg import sql

from services.ledger.repository import HOURS_KEPT

MONTHS = 36
AGENCIES = 97
SOURCES = 20
INSTITUTIONS = 49_999
RARE_EVERY = 50_000
WORKERS = 2
TABLES = ("event", "route", "entitlement", "receipt")

# Every second event goes to two agencies, the others to one; agency 0 gets a tenth of everything. Type 0 is rare, the
# others are evenly shared; a publisher has five types. One receipt each, one in a hundred parked.
_EVENTS = """
CREATE UNLOGGED TABLE made_{month} AS
SELECT n, {start}::timestamptz + (n - {first}) * {step}::interval AS at, n %% 12 AS partition, n / 12 AS "offset",
    'urn:synthetic:department-' || kind / 5 AS source, 'e-' || n AS id,
    'cn.gov.sc.synthetic.thing.made-' || CASE WHEN n %% {rare} = 0 THEN 'rarely' ELSE kind::text END AS type,
    'K-' || n AS subject
FROM (SELECT n, (n * 7919 %% {kinds})::int AS kind FROM generate_series({first}::bigint, {last}::bigint) AS n) numbered
"""
_FILL = {
    "event": """
        SELECT at, 'events.synthetic.v1', partition, "offset", source, id, type, subject, '510000', at, at, NULL,
            ARRAY['CERT-' || n, 'USCC-' || n * 104729 %% {institutions}], ARRAY[]::text[] FROM made_{month}""",
    "route": """
        SELECT at, 'events.synthetic.v1', partition, "offset", source, id, 'routed', 1, NULL, 1 + (n %% 2)::int, type,
            at + interval '5 ms' FROM made_{month}""",
    "entitlement": """
        SELECT at, 'agency-' || agency, source, id, 'match', '["s-1"]'::jsonb, subject, 'events.synthetic.v1',
            partition, "offset", type, true, at + interval '5 ms'
        FROM made_{month}, LATERAL (
            SELECT (CASE WHEN n %% 10 = 0 THEN 0 ELSE n * 31 %% {agencies} END)::int AS agency
            UNION SELECT (n * 17 %% {agencies})::int WHERE n %% 2 = 1) given""",
    "receipt": """
        SELECT logged_at + interval '12 ms', agency, "offset", source, event_id,
            CASE WHEN "offset" %% 100 = 0 THEN 'parked' ELSE 'delivered' END, 'webhook', 1, logged_at, logged_at, 204,
            NULL, NULL, NULL, subject, type FROM ledger_entitlement_{month}""",
}
_HOURS = """
INSERT INTO ledger_hour
SELECT date_trunc('hour', logged_at), source, '', 'published', count(*) FROM ledger_event_{month}
WHERE {kept} GROUP BY 1, 2
UNION ALL SELECT date_trunc('hour', logged_at), source, '', verdict, count(*) FROM ledger_route_{month}
WHERE {kept} GROUP BY 1, 2, 4
UNION ALL SELECT date_trunc('hour', logged_at), source, coalesce(agency, ''), 'entitled', count(*)
FROM ledger_entitlement_{month} WHERE {kept} GROUP BY 1, 2, GROUPING SETS ((agency), ())
UNION ALL SELECT date_trunc('hour', logged_at), source, coalesce(agency, ''), outcome, count(*)
FROM ledger_receipt_{month} WHERE {kept} GROUP BY 1, 2, 4, GROUPING SETS ((agency), ())
ON CONFLICT (hour, source, agency, what) DO UPDATE SET number = ledger_hour.number + excluded.number
"""
_RECEIVERS = """
INSERT INTO ledger_receiver
SELECT source, agency, max(date_trunc('hour', logged_at, 'UTC')) FROM ledger_entitlement_{month}
GROUP BY 1, 2 ORDER BY 1, 2
ON CONFLICT (source, agency) DO UPDATE SET newest = greatest(ledger_receiver.newest, excluded.newest)
"""
_INDEXES = """
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %s::regclass
"""


@dataclass(frozen=True, slots=True)
class Month:
    """A month to make: its events are numbered from ``first`` to ``last``."""

    start: datetime
    end: datetime
    first: int
    last: int

    @property
    def name(self) -> str:
        """Return what its partitions end with."""
        return f"{self.start:%Y%m}"


def months(now: datetime, events: int) -> list[Month]:
    """Return the last months up to now, with the events dealt out evenly."""
    year, month = now.year, now.month
    firsts = [date(year + (month - 1 - back) // 12, (month - 1 - back) % 12 + 1, 1) for back in range(MONTHS, -1, -1)]
    edges = [datetime(one.year, one.month, 1, tzinfo=UTC) for one in firsts]
    each = events // len(edges)
    ends = [*edges[1:], now]
    return [
        Month(start, end, n * each, (n + 1) * each - 1) for n, (start, end) in enumerate(zip(edges, ends, strict=True))
    ]


def load(dsn: str, now: datetime, events: int) -> None:
    """Make the events and what became of them; several months at once."""
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda month: _load_month(dsn, now, month), months(now, events)))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE) ledger_hour")
        for table in TABLES:
            connection.execute(sql.SQL("ANALYZE ONLY {}").format(sql.Identifier(f"ledger_{table}")))


def _load_month(dsn: str, now: datetime, month: Month) -> None:
    named = {
        "kept": sql.SQL("logged_at >= {}").format(sql.Literal((now - HOURS_KEPT).isoformat())),
        "month": sql.SQL(month.name),
        "start": sql.Literal(month.start.isoformat()),
        "first": sql.Literal(month.first),
        "last": sql.Literal(month.last),
        "step": sql.Literal(f"{(month.end - month.start).total_seconds() / (month.last - month.first + 2):.6f} s"),
        "kinds": sql.Literal(SOURCES * 5),
        "rare": sql.Literal(RARE_EVERY),
        "agencies": sql.Literal(AGENCIES),
        "institutions": sql.Literal(INSTITUTIONS),
    }

    def run(statement: str) -> None:
        connection.execute(sql.SQL(statement.replace("%%", "%")).format(**named))

    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET maintenance_work_mem = '512MB'")
        run(_EVENTS)
        for table in TABLES:
            name = f"ledger_{table}_{month.name}"
            run(f"CREATE UNLOGGED TABLE {name} (LIKE ledger_{table} INCLUDING DEFAULTS)")
            run(f"INSERT INTO {name} {_FILL[table]}")
            for (made,) in connection.execute(_INDEXES, (f"ledger_{table}",)).fetchall():
                _index(connection, made, f"ledger_{table}", name)
            connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(name)))
            run(
                f"ALTER TABLE ledger_{table} ATTACH PARTITION {name} "
                f"FOR VALUES FROM ({{start}}) TO ('{_next(month.start).isoformat()}')"
            )
        run("DROP TABLE made_{month}")
        run(_HOURS)
        run(_RECEIVERS)


def _index(connection: psycopg.Connection, made: str, parent: str, name: str) -> None:
    """Make the parent's index on a table by itself, so that attaching it finds it there."""
    _, _, rest = made.partition(" USING ")
    unique = "UNIQUE " if made.startswith("CREATE UNIQUE") else ""
    connection.execute(sql.SQL(f"CREATE {unique}INDEX ON {name} USING {rest}"))


def _next(start: datetime) -> datetime:
    return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)

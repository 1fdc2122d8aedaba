"""Relay: our outbox relay against a bare SELECT→produce loop over the same table."""

from __future__ import annotations

import secrets
import statistics
import tempfile
import time
from pathlib import Path

import orjson
import psycopg
from kafka import KafkaProducer
from prometheus_client import CollectorRegistry

from bench.results import Result
from bench.route import KnownSchema
from producers.outbox.engine import Relay, RelayRules
from producers.outbox.metrics import RelayMetrics
from producers.outbox.repository import Outbox
from producers.publishing import Publishing
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime.clock import SystemClock
from services.runtime.embedded.servers import start_servers
from services.runtime.kafka.client import connect
from services.runtime.settings import GatewaySettings, KafkaSettings, RelaySettings, Settings
from services.runtime.supervisor import Supervisor

ROWS = 20_000
BATCH = RelaySettings().batch
ROUNDS = 5
TYPE = "cn.gov.sc.window.case.accepted"
SOURCE = "urn:bench"
BAR = 0.6
CONSTANT = {
    "specversion": "1.0",
    "source": SOURCE,
    "type": TYPE,
    "time": "2025-12-02T10:15:00+08:00",
    "dataschema": "http://registry/schemas/ids/1",
    "division": "510000",
    "recordedtime": "2025-12-02T02:15:00.000000+00:00",
}
SQL = Path("producers/outbox/sql/postgresql.sql")
NEXT = (
    "SELECT position, id, aggregateid, payload::text FROM hongyan_outbox WHERE position > %s ORDER BY position LIMIT %s"
)


def measure(address: str) -> list[Result]:
    """Measure both, in turn, several times; the ratio is the median of the pairs'."""
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=address))
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as folder, Supervisor() as supervisor:
        Path(folder).chmod(0o755)
        dsn = start_servers(Path(folder), supervisor, settings).dsn
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(SQL.read_text(encoding="utf-8"))
        pairs = [_pair(address, dsn) for _ in range(ROUNDS)]
    ratio = statistics.median(a / b for a, b in pairs)
    mine, plain = (statistics.median(column) for column in zip(*pairs, strict=True))
    return [Result("relay", round(mine), round(plain), round(ratio, 2), "rows/s", f"ratio >= {BAR}", ratio >= BAR)]


def _pair(address: str, dsn: str) -> tuple[float, float]:
    topics = Topics(f"bench{secrets.token_hex(3)}.")
    admin = connect(KafkaSettings(bootstrap_servers=address)).admin()
    admin.ensure_topics(topics.base_specs(["window"]))
    _fill(dsn)
    plain = ROWS / bare(address, dsn, topics.events("window"))
    mine = ROWS / ours(address, dsn, topics)
    admin.delete_topics([name for name in admin.list_topics() if name.startswith(topics.prefix)])
    admin.close()
    return mine, plain


def _fill(dsn: str) -> None:
    """Put synthetic cases into an empty outbox."""
    sample = load_contracts().types[TYPE].sample
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE hongyan_outbox")
        rows = (
            (f"SYN-{n:08d}", TYPE, orjson.dumps({**sample, "project_no": f"SYN-{n:08d}"}).decode()) for n in range(ROWS)
        )
        insert = "INSERT INTO hongyan_outbox (aggregatetype, aggregateid, type, payload) VALUES ('window', %s, %s, %s)"
        cursor.executemany(insert, rows)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE hongyan_outbox")


def bare(address: str, dsn: str, topic: str) -> float:
    """Send every row's JSON as it is, with psycopg and kafka-python alone; return the seconds it took.

    The records have headers like ours, all but two of them made once. Nothing is checked or encoded; there is no
    transaction, no mark and no memory of what was sent.
    """
    constant = [(f"ce_{name}", value.encode()) for name, value in CONSTANT.items()]
    producer = KafkaProducer(bootstrap_servers=address, batch_size=131_072)
    producer.partitions_for(topic)
    with psycopg.connect(dsn, autocommit=True) as connection:
        began, position, done = time.perf_counter(), 0, 0
        while done < ROWS:
            rows = connection.execute(NEXT, (position, BATCH)).fetchall()
            for position, event_id, key, payload in rows:  # noqa: B007
                headers = [("ce_id", event_id.encode()), ("ce_subject", key.encode()), *constant]
                producer.send(topic, key=key.encode(), value=payload.encode(), headers=headers)
            producer.flush()
            done += len(rows)
        took = time.perf_counter() - began
    producer.close()
    return took


def ours(address: str, dsn: str, topics: Topics) -> float:
    """Relay every row with the product's relay; return seconds from the first SELECT to the last mark."""
    kafka = connect(KafkaSettings(bootstrap_servers=address))
    publishing = Publishing(
        load_contracts(), KnownSchema(), "http://registry", topics, GatewaySettings(), SystemClock()
    )
    outbox = Outbox(dsn, "hongyan_outbox", "mark", 60.0)
    rules = RelayRules("bench", SOURCE, BATCH, 1.0)
    relay = Relay(outbox, kafka, topics, publishing, rules, RelayMetrics(CollectorRegistry()))
    producer = kafka.transactional_producer(topics.transactional_id("relay", rules.name))
    producer.learn([topics.events("window"), topics.control_relay])
    done = 0
    with outbox.session() as table:
        began = time.perf_counter()
        while count := relay.relay_once(table, producer):
            done += count
        took = time.perf_counter() - began
    producer.close()
    if done != ROWS:
        raise RuntimeError(f"{done} rows instead of {ROWS}")
    return took

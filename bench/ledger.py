"""Ledger: our consumer from Kafka to rows, against a bare COPY of the same rows into the same tables."""

from __future__ import annotations

import secrets
import statistics
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson
import psycopg
from prometheus_client import CollectorRegistry

from bench.results import Result
from bench.route import KnownSchema
from bench.stack import wait_for
from consumers.ledger.engine import Ledger, LedgerMetrics, LedgerProjection
from consumers.runner.rows import Never
from schemas.codec import Codec
from schemas.contracts import Contracts, load_contracts
from schemas.envelope import Envelope
from schemas.receipts import Receipt
from schemas.topics import Topics
from services.ledger.repository import LedgerStore
from services.ledger.rows import COLUMNS
from services.runtime.clock import SystemClock
from services.runtime.database import migrate
from services.runtime.embedded.servers import start_servers
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Kafka, Partition
from services.runtime.settings import KafkaSettings, Settings
from services.runtime.supervisor import Supervisor

EVENTS = 40_000
BATCH = 2000
ROUNDS = 3
TYPE = "cn.gov.sc.window.case.accepted"
BAR = 0.2


def measure(address: str) -> list[Result]:
    """Fill a ledger from the log, then copy the same rows bare; several times, the ratio the median of the pairs'."""
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=address))
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as folder, Supervisor() as supervisor:
        Path(folder).chmod(0o755)
        dsn = start_servers(Path(folder), supervisor, settings).dsn
        migrate(dsn)
        pairs = [_pair(connect(settings.kafka), dsn) for _ in range(ROUNDS)]
    ratio = statistics.median(ours / bare for ours, bare in pairs)
    ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    wanted = f"at least {BAR} of bare COPY"
    return [Result("ledger", round(ours), round(bare), round(ratio, 2), "rows/s", wanted, ratio >= BAR)]


def _pair(kafka: Kafka, dsn: str) -> tuple[float, float]:
    topics, contracts = Topics(f"b-{secrets.token_hex(3)}."), load_contracts()
    codec = Codec(KnownSchema(TYPE))
    rows = _publish(kafka, topics, contracts, codec)
    store = LedgerStore(dsn, topics.group("ledger"))
    stop, registry = threading.Event(), CollectorRegistry()
    ledger = Ledger(kafka, topics, contracts, store, codec, LedgerMetrics(registry), "bench", SystemClock())
    thread = threading.Thread(target=ledger.run, args=(stop,))
    thread.start()
    wait_for(lambda: ledger.working)
    began = time.monotonic()
    wait_for(lambda: (registry.get_sample_value("hongyan_ledger_rows_total") or 0) >= rows)
    ours = rows / (time.monotonic() - began)
    stop.set()
    thread.join(30)
    return ours, rows / _copy(kafka, topics, contracts, codec, dsn)


def _publish(kafka: Kafka, topics: Topics, contracts: Contracts, codec: Codec) -> int:
    """Put events, what the router says of them and two receipts of each on the log; return how many rows they make."""
    admin = kafka.admin()
    admin.ensure_topics(topics.base_specs(contracts.domains()))
    admin.close()
    contract = contracts.types[TYPE]
    producer = kafka.producer(bulk=True)
    value = codec.encode(contract.subject, contract.schema, {**contract.sample, "occurred_at": datetime.now(UTC)})
    for n in range(EVENTS):
        event = Envelope(f"e-{n}", "urn:bench", TYPE, f"case-{n}", "2025-12-02T10:00:00+08:00", division="510000")
        place: dict[str, object] = {"topic": topics.events("window"), "partition": n % 12}
        producer.send(topics.events("window"), key=b"k", value=value, headers=event.to_headers(), partition=n % 12)
        routed = {**place, "offset": n // 12, "source": event.source, "id": event.id, "verdict": "routed", "config": 1}
        routed |= {"agencies": {"a": ["s-1"], "b": ["s-2"]}, "follow_up": []}
        producer.send(topics.ledger_routed, key=b"k", value=orjson.dumps(routed), partition=n % 12)
        for agency in ("a", "b"):
            at = "2025-12-02T10:00:01+08:00"
            receipt = Receipt(agency, n, event.id, event.source, TYPE, event.subject, "delivered", at, 1, at)
            producer.send(topics.receipts, key=agency.encode(), value=receipt.to_bytes())
    producer.flush(60)
    producer.close()
    return EVENTS * 6


def _copy(kafka: Kafka, topics: Topics, contracts: Contracts, codec: Codec, dsn: str) -> float:
    """Copy the same rows in batches of the same size, made beforehand; return the seconds."""
    projection = LedgerProjection(topics, contracts, codec)
    reader = kafka.consumer(None)
    parts = [Partition(topics.events("window"), n) for n in range(12)]
    parts += [Partition(topics.ledger_routed, n) for n in range(12)] + [Partition(topics.receipts, n) for n in range(6)]
    reader.assign(parts)
    made: dict[str, list[tuple[object, ...]]] = {name: [] for name in COLUMNS}
    ends = reader.end_offsets(parts)
    while any(reader.position(p) < end for p, end in ends.items()):
        for records in reader.poll(0.2, 5000).values():
            for record in records:
                rows = projection.project(record)
                assert not isinstance(rows, Never)
                for row in rows:
                    made[row.table].append(row.values)
    reader.close()
    with psycopg.connect(dsn) as connection:
        connection.execute("TRUNCATE ledger_event, ledger_route, ledger_entitlement, ledger_receipt")
        connection.commit()
        began = time.monotonic()
        for table, found in made.items():
            for start in range(0, len(found), BATCH):
                statement = f"COPY ledger_{table} ({COLUMNS[table]}) FROM STDIN"
                with connection.cursor().copy(statement.encode()) as copy:
                    for values in found[start : start + BATCH]:
                        copy.write_row(values)
                connection.commit()
        return time.monotonic() - began

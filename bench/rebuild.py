"""Twelve months made again from Kafka: seconds, and the peak memory of the process that does it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from pydantic import SecretStr

from bench.facts import SHAPES, SOURCE, database
from bench.results import Result
from bench.stack import peak_until_end, wait_for
from producers.files.importing import derived_id
from producers.simulation.month import MonthMaker
from schemas.codec import Codec
from schemas.contracts import EventContract, load_contracts
from schemas.envelope import Envelope
from schemas.registry_client import RegistryClient
from schemas.times import SHANGHAI
from schemas.topics import Topics
from services.runtime.embedded.ports import answers, free_port
from services.runtime.embedded.servers import start_servers
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import HeaderList, Kafka
from services.runtime.settings import Settings, as_environment, with_environment
from services.runtime.supervisor import Program, Supervisor

LIMIT_S = 600.0
MONTHS = int(os.environ.get("HONGYAN_BENCH_MONTHS", "12"))
BAR_S, BAR_MB = 600, 400


def measure(address: str) -> list[Result]:
    """Publish full months, then run the rebuild as a process of its own."""
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as folder, Supervisor() as supervisor:
        Path(folder).chmod(0o755)
        settings = Settings(data_dir=Path(folder) / "data")
        settings.kafka.bootstrap_servers = address
        settings.kafka.topic_prefix = "bench-rebuild."
        server = start_servers(Path(folder), supervisor, settings)
        with database(server.dsn, "rebuild") as dsn:
            return _measure(settings, dsn, supervisor)


def _measure(settings: Settings, dsn: str, supervisor: Supervisor) -> list[Result]:
    folder = settings.data_dir
    folder.mkdir(exist_ok=True)
    settings.database.dsn = SecretStr(dsn)
    port = free_port()
    settings.registry.url = f"http://127.0.0.1:{port}"
    kafka, topics = connect(settings.kafka), Topics(settings.kafka.topic_prefix)
    admin = kafka.admin()
    admin.ensure_topics(topics.base_specs(load_contracts().domains()))
    admin.close()
    environment = with_environment(as_environment(settings))
    _start(supervisor, folder, environment, "registry", "serve", "registry", "--port", str(port))
    wait_for(lambda: answers(port))
    published = _publish(kafka, topics, Codec(RegistryClient(settings.registry.url, 5.0)))
    _start(supervisor, folder, environment, "statistics", "run", "statistics", "--port", str(free_port()))
    wait_for(lambda: _counted(dsn) >= published, LIMIT_S)
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "hongyan", "statistics", "rebuild"], env=environment)
    peak = peak_until_end(process)
    seconds = round(time.monotonic() - began, 1)
    done = process.returncode == 0
    bar = f"{MONTHS} months, {published} events, within {BAR_S} s, compared and switched"
    return [
        Result("rebuild", seconds, None, None, "s", bar, done and seconds <= BAR_S),
        Result("rebuild_memory", round(peak), None, None, "MB", f"peak at most {BAR_MB} MB", done and peak <= BAR_MB),
    ]


def _start(supervisor: Supervisor, folder: Path, environment: dict[str, str], name: str, *words: str) -> None:
    command = [sys.executable, "-m", "hongyan", *words]
    supervisor.start(Program(name, command, folder / f"{name}.log", environment))


def _publish(kafka: Kafka, topics: Topics, codec: Codec) -> int:
    """Append simulated months of window events, as an import would; return how many there are."""
    producer = kafka.producer(bulk=True)
    count = 0
    for month in range(1, MONTHS + 1):
        for file in MonthMaker(2025, month, 1, 1.0).files():
            contract = load_contracts().types[file.type]
            for row in file.rows:
                key, headers, value = _record(contract, row, codec)
                producer.send(topics.events(contract.domain), key=key, value=value, headers=headers)
                count += 1
        producer.flush(60)
    producer.close()
    return count


def _record(contract: EventContract, row: Mapping[str, str], codec: Codec) -> tuple[bytes, HeaderList, bytes]:
    shape = SHAPES[contract.type]
    at = datetime.fromisoformat(row[shape.time_field])
    at = at if at.tzinfo else at.replace(tzinfo=SHANGHAI)
    numbers = {name: int(row[name]) for name in shape.numbers if row.get(name)}
    data: dict[str, Any] = {**row, **numbers, shape.time_field: at, "quality": []}
    key = contract.business_key(data)
    event_id = derived_id(contract.type, SOURCE, key, at)
    envelope = Envelope(event_id, SOURCE, contract.type, key, at.isoformat())
    return key.encode(), envelope.to_headers(), codec.encode(contract.subject, contract.schema, data)


def _counted(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT coalesce(sum(next_offset), 0) FROM statistics.consumer_offset").fetchone()
        return int(row[0]) if row else 0

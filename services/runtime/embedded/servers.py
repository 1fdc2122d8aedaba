"""Kafka and PostgreSQL for one installation: those that the settings name, else embedded ones on loopback."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psycopg

from services.runtime.embedded.kafka import EmbeddedKafka
from services.runtime.embedded.ports import Ports, answers
from services.runtime.embedded.postgres import DATABASE, EmbeddedPostgres
from services.runtime.errors import HongyanError, UnavailableError
from services.runtime.kafka.client import connect
from services.runtime.settings import KafkaSettings, Settings
from services.runtime.supervisor import Child, Supervisor

READY_S = 90.0
PROBE_S = 0.05
MAX_RESTARTS = 3
"""A program that died more often than this before it answered is broken: its start is given up."""


@dataclass(frozen=True, slots=True)
class Servers:
    """Where Kafka and PostgreSQL are."""

    bootstrap_servers: str
    dsn: str


def start_servers(
    data: Path,
    supervisor: Supervisor,
    settings: Settings,
    kafka_port: int | None = None,
    *,
    ports: Ports | None = None,
    durable: bool = True,
    stop: threading.Event | None = None,
) -> Servers:
    """Start the servers that the settings don't name, both at once, and wait until they answer.

    The supervisor keeps and ends them. Raises HongyanError, with the end of its log, when one does not come up or
    when ``stop`` is set meanwhile.
    """
    data.mkdir(parents=True, exist_ok=True)
    ports, stop = ports or Ports(data / "ports.json"), stop or threading.Event()
    address = settings.kafka.bootstrap_servers
    dsn = settings.database.dsn.get_secret_value() if settings.database.dsn else None
    with ThreadPoolExecutor(2, "servers") as starting:
        kafka = postgres = None
        if address is None:
            broker = EmbeddedKafka(data / "kafka", ports.take("kafka", kafka_port), ports.take("kafka-controller"))
            kafka = starting.submit(_start_kafka, broker, data / "logs", supervisor, stop)
        if dsn is None:
            database = EmbeddedPostgres(data / "postgres", ports.take("postgres"), durable=durable)
            postgres = starting.submit(_start_postgres, database, data / "logs", supervisor, stop)
    return Servers(kafka.result() if kafka else address or "", postgres.result() if postgres else dsn or "")


def _start_kafka(kafka: EmbeddedKafka, logs: Path, supervisor: Supervisor, stop: threading.Event) -> str:
    children = supervisor.start(kafka.program(logs / f"{kafka.name}.log"))
    wait_until(lambda: _kafka_answers(kafka.address), children, kafka.name, stop)
    return kafka.address


def _start_postgres(postgres: EmbeddedPostgres, logs: Path, supervisor: Supervisor, stop: threading.Event) -> str:
    children = supervisor.start(postgres.program(logs / f"{postgres.name}.log"))
    wait_until(lambda: _postgres_answers(postgres.dsn("postgres")), children, postgres.name, stop)
    _create_database(postgres.dsn("postgres"))
    return postgres.dsn()


def wait_until(condition: Callable[[], bool], children: Sequence[Child], name: str, stop: threading.Event) -> None:
    """Wait until a program answers; raises HongyanError when it or one beside it keeps dying, or time is up."""
    deadline = time.monotonic() + READY_S
    while not condition():
        if stop.is_set():
            raise HongyanError("启动被中断 (stopped before everything answered)")
        broken = next((child for child in children if child.restarts > MAX_RESTARTS), None)
        if broken is not None:
            raise HongyanError(_story(broken, "启动失败 (keeps ending at its start)"))
        if time.monotonic() > deadline:
            late = next((child for child in children if child.program.name == name), children[0])
            raise HongyanError(_story(late, f"{READY_S:.0f} 秒内没有应答 (did not answer in time)"))
        stop.wait(PROBE_S)


def _story(child: Child, what: str) -> str:
    log = child.program.log
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:] if log.exists() else []
    return "\n".join([f"{child.program.name} {what} {child.trouble}", *lines, f"日志 (log): {log}"])


def _kafka_answers(address: str) -> bool:
    if not answers(int(address.rpartition(":")[2])):
        return False
    try:
        admin = connect(KafkaSettings(bootstrap_servers=address)).admin()
    except UnavailableError:
        return False
    try:
        admin.list_topics()
    except UnavailableError:
        return False
    finally:
        admin.close()
    return True


def _postgres_answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _create_database(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
        if known is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")

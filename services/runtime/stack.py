"""A whole installation on one machine: servers, keys, topics and processes, under one supervisor."""

from __future__ import annotations

import base64
import fcntl
import http.client
import json
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

import psycopg

from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime.database import migrate
from services.runtime.embedded.kafka import EmbeddedKafka
from services.runtime.embedded.ports import free_port
from services.runtime.embedded.postgres import DATABASE, EmbeddedPostgres
from services.runtime.errors import ConflictError, HongyanError, UnavailableError
from services.runtime.kafka.client import connect
from services.runtime.settings import STACK_FILE, KafkaSettings, Settings
from services.runtime.supervisor import Child, Program, Supervisor

READY_S = 90.0
PROBE_S = 0.05


@dataclass(frozen=True, slots=True)
class Servers:
    """Where Kafka and PostgreSQL are."""

    bootstrap_servers: str
    dsn: str


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the installation: its name, and the verb of the command that starts it (``serve`` or ``run``)."""

    name: str
    verb: str


@dataclass(slots=True)
class Stack:
    """A running installation: addresses by name, the environment that commands and children use, and its log files."""

    data: Path
    environment: dict[str, str]
    addresses: dict[str, str] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return everything as JSON values."""
        return {
            "data": str(self.data),
            "addresses": self.addresses,
            "logs": self.logs,
            "pids": self.pids,
            "keys": str(self.data / "keys.json"),
            "environment": self.environment,
        }


def start_servers(data: Path, supervisor: Supervisor, settings: Settings, kafka_port: int | None = None) -> Servers:
    """Start the servers that the settings don't name, and wait until they answer; the supervisor ends them."""
    kafka_address = settings.kafka.bootstrap_servers
    dsn = settings.database.dsn.get_secret_value() if settings.database.dsn else None
    logs = data / "logs"
    kafka = EmbeddedKafka(data / "kafka", kafka_port) if kafka_address is None else None
    postgres = EmbeddedPostgres(data / "postgres") if dsn is None else None
    with ThreadPoolExecutor(2) as preparing:
        programs = [preparing.submit(s.program, logs / f"{n}.log") for n, s in _given(kafka, postgres)]
        # Children must be started by this thread: the kernel ends them when the thread that started them ends.
        children = [supervisor.start(program.result()) for program in programs]
    if postgres is not None:
        _wait(lambda: _postgres_answers(postgres.dsn("postgres")), children, "PostgreSQL")
        _create_database(postgres.dsn("postgres"))
        dsn = postgres.dsn()
    if kafka is not None:
        kafka_address = kafka.address
        _wait(lambda: _kafka_answers(kafka.address), children, "Kafka")
    return Servers(kafka_address or "", dsn or "")


def _given(
    kafka: EmbeddedKafka | None, postgres: EmbeddedPostgres | None
) -> list[tuple[str, EmbeddedKafka | EmbeddedPostgres]]:
    return [(name, server) for name, server in (("kafka", kafka), ("postgres", postgres)) if server is not None]


@contextmanager
def start_stack(
    settings: Settings, processes: Sequence[Process], port: int | None = None, kafka_port: int | None = None
) -> Iterator[tuple[Stack, Supervisor]]:
    """Start an installation in ``settings.data_dir``, wait until every process answers, and stop it all at the end.

    Raises ConflictError when one runs in that folder already, HongyanError with the end of a log when something fails.
    """
    data = settings.data_dir.resolve()
    data.mkdir(parents=True, exist_ok=True)
    supervisor = Supervisor()
    with _only_one(data):
        try:
            servers = start_servers(data, supervisor, settings, kafka_port)
            yield _start_processes(data, supervisor, settings, servers, processes, port), supervisor
        finally:
            (data / STACK_FILE).unlink(missing_ok=True)
            supervisor.stop()


def _start_processes(
    data: Path,
    supervisor: Supervisor,
    settings: Settings,
    servers: Servers,
    processes: Sequence[Process],
    port: int | None,
) -> Stack:
    ports = {process.name: (port + n if port else free_port()) for n, process in enumerate(processes)}
    environment = _environment(data, settings, servers, ports)
    stack = Stack(data, environment, {"kafka": servers.bootstrap_servers, "postgres": _without_password(servers.dsn)})
    _prepare(servers, settings)
    children: list[Child] = []
    for process in processes:
        log = data / "logs" / f"{process.name}.log"
        command = [sys.executable, "-m", "hongyan", process.verb, process.name, "--port", str(ports[process.name])]
        children.append(supervisor.start(Program(process.name, command, log, environment)))
        stack.addresses[process.name] = f"http://{settings.http.host}:{ports[process.name]}"
        stack.logs[process.name] = str(log)
        stack.pids[process.name] = children[-1].process.pid
    for process in processes:
        _wait(partial(_healthy, settings.http.host, ports[process.name]), children, process.name)
    (data / STACK_FILE).touch(mode=0o600)
    (data / STACK_FILE).write_text(json.dumps(stack.to_json(), indent=2), encoding="utf-8")
    return stack


def _environment(data: Path, settings: Settings, servers: Servers, ports: Mapping[str, int]) -> dict[str, str]:
    keys = _keys(data, settings)
    host = settings.http.host
    found = {
        "HONGYAN_DATA_DIR": str(data),
        "HONGYAN_KAFKA__BOOTSTRAP_SERVERS": servers.bootstrap_servers,
        "HONGYAN_DATABASE__DSN": servers.dsn,
        "HONGYAN_SECURITY__MASTER_KEY": keys["master_key"],
        "HONGYAN_SECURITY__ADMIN_KEY": keys["admin_key"],
    }
    for name in ("registry", "gateway", "portal"):
        if name in ports:
            found[f"HONGYAN_{name.upper()}__URL"] = f"http://{host}:{ports[name]}"
    return found


def _keys(data: Path, settings: Settings) -> dict[str, str]:
    """Return the installation's keys: the settings' own, or those made here once and kept readable by us alone."""
    file = data / "keys.json"
    held: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    made = {
        "master_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "admin_key": secrets.token_urlsafe(24),
    }
    own = {name: getattr(settings.security, name) for name in made}
    given = {name: secret.get_secret_value() for name, secret in own.items() if secret is not None}
    keys = made | held | given
    file.touch(mode=0o600)
    file.write_text(json.dumps(keys, indent=2))
    return keys


def _prepare(servers: Servers, settings: Settings) -> None:
    """Create the tables and the topics that are missing."""
    migrate(servers.dsn)
    kafka_settings = KafkaSettings(
        bootstrap_servers=servers.bootstrap_servers,
        topic_prefix=settings.kafka.topic_prefix,
        replication_factor=settings.kafka.replication_factor,
    )
    admin = connect(kafka_settings).admin()
    try:
        admin.ensure_topics(Topics(settings.kafka.topic_prefix).base_specs(load_contracts().domains()))
    finally:
        admin.close()


@contextmanager
def _only_one(data: Path) -> Iterator[IO[str]]:
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(f"{data} 中已有一套在运行；换一个 --data (another one runs in this folder)") from error
        yield lock


def _wait(condition: Callable[[], bool], children: Sequence[Child], name: str) -> None:
    deadline = time.monotonic() + READY_S
    pause = threading.Event()
    while not condition():
        dead = [child for child in children if child.process.poll() is not None]
        if dead or time.monotonic() > deadline:
            failed = next((c for c in dead), None) or next((c for c in children if c.program.name == name), children[0])
            what = "启动失败 (ended at its start)" if dead else f"{READY_S:.0f} 秒内没有应答 (did not answer in time)"
            raise HongyanError(f"{failed.program.name} {what}; {failed.program.log}:\n{_tail(failed.program.log)}")
        pause.wait(PROBE_S)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


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


def _kafka_answers(address: str) -> bool:
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


def _healthy(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _without_password(dsn: str) -> str:
    start, _, rest = dsn.partition("://")
    credentials, at, place = rest.rpartition("@")
    return f"{start}://{credentials.partition(':')[0]}{at}{place}" if at else dsn

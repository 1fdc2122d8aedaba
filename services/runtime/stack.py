"""A whole installation on one machine: servers, keys, topics and processes, under one supervisor."""

from __future__ import annotations

import base64
import fcntl
import http.client
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime.database import migrate
from services.runtime.embedded.ports import Ports, answers
from services.runtime.embedded.servers import PROBE_S, Servers, start_servers, wait_until
from services.runtime.errors import ConflictError, HongyanError
from services.runtime.kafka.client import connect
from services.runtime.settings import STACK_FILE, Settings, as_environment
from services.runtime.supervisor import Child, Program, Supervisor

KEYS_FILE = "keys.json"
PREDECESSOR_S = 5.0
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (translated, not listened on)


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the installation, started as ``python -m MODULE VERB NAME --port N``; answers on ``/health``."""

    name: str
    verb: str
    module: str = "hongyan"
    niceness: int = 0
    """How far it stands back for the others when processors are short (nice(1))."""

    def command(self, port: int) -> list[str]:
        """Return the command that starts it."""
        return [sys.executable, "-m", self.module, self.verb, self.name, "--port", str(port)]


@dataclass(slots=True)
class Stack:
    """A running installation: addresses and log files by part, and the settings that children and commands use."""

    data: Path
    settings: Settings
    addresses: dict[str, str] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)
    ready: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def keys(self) -> Path:
        """Return the file that holds the keys, or would: those given in the settings are not written down."""
        return self.data / KEYS_FILE

    def to_json(self) -> dict[str, object]:
        """Return everything but secrets as JSON values."""
        return {
            "data": str(self.data),
            "addresses": self.addresses,
            "logs": self.logs,
            "pids": self.pids,
            "keys": str(self.keys),
        }

    def note(self, child: Child) -> None:
        """Remember where a program logs and which process it is now."""
        with self._lock:
            self.logs[child.program.name] = str(child.program.log)
            if child.pid is not None:
                self.pids[child.program.name] = child.pid
            if self.ready:
                self._write()

    def publish(self) -> None:
        """Write everything down where commands in the same folder find it."""
        with self._lock:
            self.ready = True
            self._write()

    def withdraw(self) -> None:
        """Remove what commands would find."""
        with self._lock:
            self.ready = False
            (self.data / STACK_FILE).unlink(missing_ok=True)

    def _write(self) -> None:
        write_private(self.data / STACK_FILE, self.to_json() | {"environment": as_environment(self.settings)})


@contextmanager
def start_stack(
    settings: Settings,
    processes: Sequence[Process],
    port: int | None = None,
    kafka_port: int | None = None,
    *,
    stop: threading.Event | None = None,
) -> Iterator[Stack]:
    """Start an installation in ``settings.data_dir``, wait until every process answers, and stop it all at the end.

    ``port`` is the first process's, the others count on from it. A process that dies is started again. A registry that
    the settings name is used instead of one of our own. Raises ConflictError when one runs in that folder already or a
    port is taken, HongyanError with the end of a log when something does not come up or ``stop`` is set meanwhile.
    """
    data = settings.data_dir.resolve()
    stop = stop or threading.Event()
    with _only_one(data):
        _outlive_predecessor(data)
        stack = Stack(data, settings)
        with Supervisor(stack.note) as supervisor:
            try:
                ports = Ports(data / "ports.json")
                servers = start_servers(data, supervisor, settings, kafka_port, ports=ports, stop=stop)
                ours = [(n, p) for n, p in enumerate(processes) if not _is_elsewhere(p, settings)]
                taken = {p.name: ports.take(p.name, port + n if port else None) for n, p in ours}
                stack.settings = _completed(settings, data, servers, taken)
                stack.addresses = _addresses(stack.settings, taken)
                _prepare(stack.settings)
                _start_processes(stack, supervisor, [p for _, p in ours], taken, stop)
                stack.publish()
                yield stack
            finally:
                stack.withdraw()


def _is_elsewhere(process: Process, settings: Settings) -> bool:
    """Tell whether the settings name a registry: then none is started here."""
    return process.name == "registry" and "url" in settings.registry.model_fields_set


def _start_processes(
    stack: Stack,
    supervisor: Supervisor,
    processes: Sequence[Process],
    ports: Mapping[str, int],
    stop: threading.Event,
) -> None:
    environment = as_environment(stack.settings)
    logs = stack.data / "logs"
    programs = [
        Program(p.name, p.command(ports[p.name]), logs / f"{p.name}.log", environment, niceness=p.niceness)
        for p in processes
    ]
    children = supervisor.start(*programs)
    for process in processes:
        wait_until(partial(_healthy, stack.addresses[process.name]), children, process.name, stop)


def _completed(settings: Settings, data: Path, servers: Servers, ports: Mapping[str, int]) -> Settings:
    """Return the settings with everything that was made or found here filled in."""
    security = {name: SecretStr(key) for name, key in _keys(data, settings).items()}
    made: dict[str, object] = {
        "data_dir": data,
        "kafka": settings.kafka.model_copy(update={"bootstrap_servers": servers.bootstrap_servers}),
        "database": settings.database.model_copy(update={"dsn": SecretStr(servers.dsn)}),
        "security": settings.security.model_copy(update=security),
    }
    for name in ("registry", "gateway", "portal", "feeds", "monitor"):
        if name in ports:
            made[name] = getattr(settings, name).model_copy(update={"url": _url(settings, ports[name])})
    return settings.model_copy(update=made)


def _url(settings: Settings, port: int) -> str:
    host = EVERYWHERE.get(settings.http.host, settings.http.host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _addresses(settings: Settings, ports: Mapping[str, int]) -> dict[str, str]:
    dsn = settings.database.dsn.get_secret_value() if settings.database.dsn else ""
    servers = {"kafka": settings.kafka.bootstrap_servers or "", "postgres": without_password(dsn)}
    return servers | {name: _url(settings, port) for name, port in ports.items()}


def _keys(data: Path, settings: Settings) -> dict[str, str]:
    """Return the installation's keys: the settings' own, or those made here once and readable by us alone."""
    file = data / KEYS_FILE
    held: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    fresh = {
        "master_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "admin_key": secrets.token_urlsafe(24),
    }
    own = {name: getattr(settings.security, name) for name in fresh}
    given = {name: secret.get_secret_value() for name, secret in own.items() if secret is not None}
    missing = {name: key for name, key in fresh.items() if name not in given and name not in held}
    if missing:
        held |= missing
        write_private(file, held)
    return held | given


def _prepare(settings: Settings) -> None:
    """Create the tables and the topics that are missing."""
    migrate(settings.database.dsn.get_secret_value() if settings.database.dsn else "")
    admin = connect(settings.kafka).admin()
    try:
        admin.ensure_topics(Topics(settings.kafka.topic_prefix).base_specs(load_contracts().domains()))
    finally:
        admin.close()


@contextmanager
def _only_one(data: Path) -> Iterator[None]:
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / "lock").open("w")
    except OSError as error:
        raise HongyanError(f"数据目录 {data} 无法使用 (the data folder can't be used): {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(f"{data} 中已有一套在运行；换一个 --data (another one runs in this folder)") from error
        yield


def _outlive_predecessor(data: Path) -> None:
    """Wait for the last servers and processes of a predecessor that was killed: their ports are wanted again."""
    file = data / STACK_FILE
    if not file.exists():
        return
    ports: dict[str, int] = json.loads((data / "ports.json").read_text())
    deadline = time.monotonic() + PREDECESSOR_S
    pause = threading.Event()
    while any(answers(port) for port in ports.values()) and time.monotonic() < deadline:
        pause.wait(PROBE_S)
    file.unlink()


def _healthy(address: str) -> bool:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def without_password(dsn: str) -> str:
    """Return a DSN for people's eyes."""
    password = urlsplit(dsn).password
    return dsn.replace(f":{password}@", "@", 1) if password else dsn


def write_private(file: Path, values: Mapping[str, object]) -> None:
    """Write JSON at once, readable by us alone."""
    making = file.with_suffix(".new")
    making.unlink(missing_ok=True)
    with os.fdopen(os.open(making, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w", encoding="utf-8") as output:
        json.dump(values, output, indent=2, ensure_ascii=False)
    making.replace(file)

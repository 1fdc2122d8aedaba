"""How people sign in: password, second factor, recovery codes, and the failures that make them wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg.rows import class_row, dict_row
from psycopg_pool import ConnectionPool

from services.runtime.database import transaction

_SQL = Path(__file__).parent / "sql"


@dataclass(frozen=True, slots=True)
class SignIn:
    """What somebody signs in with. ``password`` is an argon2id hash, ``totp`` sealed, ``recovery`` holds digests."""

    person: str
    password: str | None
    one_time: bool
    expires_at: datetime | None
    totp: str | None
    totp_step: int
    recovery: Sequence[str]
    changed_at: datetime
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class Failures:
    """How often in a row a subject (an account, an address) has failed, and when it last did."""

    subject: str
    failures: int
    last_at: datetime


class SignInRepository:
    """Sign-ins in PostgreSQL."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def get(self, person: str) -> SignIn | None:
        """Return what somebody signs in with, None for who has never been given anything."""
        with transaction(self._pool) as connection, connection.cursor(row_factory=class_row(SignIn)) as cursor:
            return cursor.execute(_read("sign_in_get"), (person,)).fetchone()

    def everybody(self) -> dict[str, dict[str, Any]]:
        """Return by person whether they have a password and a second factor, and when they last signed in."""
        with transaction(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            return {row["person"]: row for row in cursor.execute(_read("sign_in_everybody"))}

    def set_password(self, person: str, password: str, *, expires_at: datetime | None = None) -> None:
        """Keep a hash; with an end it is a one-time password, to be changed at the first sign-in."""
        values = {"person": person, "password": password, "one_time": expires_at is not None, "expires_at": expires_at}
        self._execute("sign_in_password", values)

    def set_totp(self, person: str, totp: str | None, step: int, recovery: Sequence[str]) -> None:
        """Keep a sealed second factor with its recovery codes' digests, or remove it."""
        values = {"person": person, "totp": totp, "step": step, "recovery": list(recovery)}
        self._execute("sign_in_totp", values)

    def use_step(self, person: str, step: int) -> bool:
        """Use up a time step of the second factor; False when it, or a later one, was used already."""
        return self._execute("sign_in_step", {"person": person, "step": step}) == 1

    def use_recovery(self, person: str, digest: str) -> bool:
        """Use up a recovery code; False when there is no such one."""
        return self._execute("sign_in_recovery", {"person": person, "digest": digest}) == 1

    def succeeded(self, person: str, at: datetime) -> None:
        """Note a sign-in."""
        self._execute("sign_in_succeeded", {"person": person, "at": at})

    def failures(self, subjects: Iterable[str]) -> Mapping[str, Failures]:
        """Return the failures of those subjects that have any."""
        with transaction(self._pool) as connection, connection.cursor(row_factory=class_row(Failures)) as cursor:
            return {row.subject: row for row in cursor.execute(_read("failure_list"), (list(subjects),))}

    def failed(self, subjects: Iterable[str], at: datetime, forgotten: datetime) -> None:
        """Count a failure for each subject; what failed last before ``forgotten`` begins anew."""
        with transaction(self._pool) as connection:
            connection.execute(_read("failure_forget"), (forgotten,))
            for subject in subjects:
                values = {"subject": subject, "at": at, "forgotten": forgotten}
                connection.execute(_read("failure_add"), values)

    def forgive(self, subject: str) -> bool:
        """Forget a subject's failures; tell whether there were any."""
        return self._execute("failure_forgive", (subject,)) == 1

    def _execute(self, name: str, values: Mapping[str, Any] | Sequence[Any]) -> int:
        with transaction(self._pool) as connection:
            return connection.execute(_read(name), values).rowcount


def _read(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()

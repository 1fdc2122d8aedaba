"""Passwords: which are good enough, how they are kept (argon2id), and those that work once."""

from __future__ import annotations

import re
import secrets
import threading
from itertools import pairwise
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from services.identity.people import Person

SHORTEST, LONGEST = 12, 200
_COMMON = Path(__file__).parent / "common_passwords.txt"
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_FILLING = re.compile(r"[\d\W_]+$|^[\d\W_]+")
_DISTINCT = 5


class Passwords:
    """Hashes and checks; a few at once at most, since each takes 19 MiB (OWASP's figures for argon2id)."""

    def __init__(self, at_once: int = 2) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._turns = threading.BoundedSemaphore(at_once)
        self._nobody = self._hasher.hash(secrets.token_urlsafe(16))

    def hash(self, password: str) -> str:
        """Return what is kept of a password."""
        with self._turns:
            return self._hasher.hash(password)

    def fits(self, kept: str | None, password: str) -> bool:
        """Tell whether a password is the kept one; who has none takes as long to be refused."""
        if len(password) > LONGEST:
            return False
        with self._turns:
            try:
                return self._hasher.verify(kept or self._nobody, password) and kept is not None
            except (VerificationError, InvalidHashError):
                return False


def one_time_password() -> str:
    """Return a password to be read out and typed in once: 59 bits in three groups."""
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(4)) for _ in range(3))


def weakness(password: str, person: Person) -> str | None:
    """Return what is wrong with a chosen password, None for a good one."""
    if len(password) < SHORTEST:
        return f"至少 {SHORTEST} 个字符，一句话也可以 (at least {SHORTEST} characters; a sentence will do)"
    if len(password) > LONGEST:
        return f"至多 {LONGEST} 个字符 (at most {LONGEST} characters)"
    lowered = password.casefold()
    if len(set(lowered)) < _DISTINCT:
        return "字符过于单一 (too few different characters)"
    if person.id.casefold() in lowered or person.name.casefold() in lowered:
        return "不能含有账号或姓名 (it must not hold the account or the name)"
    if _is_common(lowered):
        return "这是常见密码，请换一个 (this is a common password: choose another)"
    return None


def _is_common(lowered: str) -> bool:
    """Tell whether a password is a common one, or one of them filled up with digits and signs or said twice."""
    common = set(_COMMON.read_text(encoding="utf-8").split())
    bare = _FILLING.sub("", lowered)
    halves = {lowered[: len(lowered) // 2]} if lowered[: len(lowered) // 2] * 2 == lowered else set()
    return bool({lowered, bare, *halves} & common) or _is_sequence(lowered)


def _is_sequence(lowered: str) -> bool:
    """Tell whether a password goes on along the alphabet or the digits: abcdefgh…, 123456…"""
    steps = {ord(after) - ord(before) for before, after in pairwise(lowered)}
    ups_and_wraps = {1, -9, -25}
    return steps <= ups_and_wraps or steps <= {-step for step in ups_and_wraps}

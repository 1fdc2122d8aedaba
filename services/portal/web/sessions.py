"""Who is signed in. What was read lately is remembered, so that people go on reading while PostgreSQL is away."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from services.identity.people import Person
from services.identity.portal_sessions import Session, SessionRepository
from services.portal.web.cookies import new_token
from services.portal.web.outages import DATABASE, Outages
from services.runtime.clock import Clock
from services.runtime.errors import DatabaseUnavailableError

TOUCH_EVERY = timedelta(seconds=20)
REMEMBERED = 5000
AGENT_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session lasts without being used, and at most."""

    idle: timedelta
    absolute: timedelta

    def over(self, session: Session, now: datetime) -> bool:
        """Tell whether a session has ended by itself."""
        return now - session.seen_at >= self.idle or now - session.created_at >= self.absolute


class Sessions:
    """Begins, finds and ends sessions."""

    def __init__(self, repository: SessionRepository, clock: Clock, limits: Limits, outages: Outages) -> None:
        self._repository = repository
        self._clock = clock
        self.limits = limits
        self._outages = outages
        self._known: OrderedDict[str, Session] = OrderedDict()
        self._ended: set[str] = set()
        self._lock = threading.Lock()

    def begin(self, person: Person, address: str, agent: str, method: Literal["password", "oidc"] = "password") -> str:
        """Begin a session and return the token that only its browser holds; a token from before is never used on."""
        token, now = new_token(), self._clock.now()
        self._repository.expire(now - self.limits.idle, now - self.limits.absolute)
        session = Session(_digest(token), person, new_token(), now, now, address, agent[:AGENT_LENGTH], method)
        self._repository.add(session)
        return token

    def find(self, token: str, *, touch: bool) -> Session | None:
        """Return the session of a token, None where there is none any more. ``touch``: it is used just now."""
        found = self._current(_digest(token))
        if found is None or not touch:
            return found
        now = self._clock.now()
        self._remember(replace(found, seen_at=now))
        if now - found.seen_at >= TOUCH_EVERY or now < found.seen_at:
            self._kept(found.digest, now)
        return found

    def still(self, digest: str) -> bool:
        """Tell whether a session goes on."""
        return self._current(digest) is not None

    def of(self, person: str) -> list[Session]:
        """Return somebody's sessions, the newest first."""
        now = self._clock.now()
        return [one for one in self._repository.of(person) if not self.limits.over(one, now)]

    def end(self, digest: str) -> None:
        """End a session. While PostgreSQL is away it is ended here, and there as soon as it is back."""
        with self._lock:
            self._known.pop(digest, None)
            self._ended.add(digest)
        self._settle()

    def end_all(self, person: str, but: str = "") -> int:
        """End all of somebody's sessions but one, and return how many; raises DatabaseUnavailableError."""
        ended = self._repository.end_all(person, but)
        with self._lock:
            for digest in ended:
                self._known.pop(digest, None)
        return len(ended)

    def _current(self, digest: str) -> Session | None:
        if digest in self._ended:
            return None
        try:
            found = None if self._outages.is_away(DATABASE) else self._repository.get(digest)
            away = self._outages.is_away(DATABASE)
        except DatabaseUnavailableError as error:
            self._outages.missed(DATABASE, str(error))
            found, away = None, True
        with self._lock:
            known = self._known.get(digest)
            if away:
                found = known
            elif found is None:
                self._known.pop(digest, None)
            elif known is not None and known.seen_at > found.seen_at:
                found = replace(found, seen_at=known.seen_at)
        if found is None or found.person.state != "active":
            return None
        if self.limits.over(found, self._clock.now()):
            self.end(digest)
            return None
        self._remember(found)
        return found

    def _remember(self, session: Session) -> None:
        with self._lock:
            self._known[session.digest] = session
            self._known.move_to_end(session.digest)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)

    def _kept(self, digest: str, now: datetime) -> None:
        self._settle()
        if self._outages.is_away(DATABASE):
            return
        try:
            self._repository.touch(digest, now)
        except DatabaseUnavailableError as error:
            self._outages.missed(DATABASE, str(error))

    def _settle(self) -> None:
        """End in PostgreSQL what was ended here."""
        ended = set(self._ended)
        if not ended or self._outages.is_away(DATABASE):
            return
        try:
            self._repository.end(ended)
        except DatabaseUnavailableError as error:
            self._outages.missed(DATABASE, str(error))
            return
        with self._lock:
            self._ended -= ended


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

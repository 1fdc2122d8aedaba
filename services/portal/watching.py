"""The newest lag snapshot, kept in memory with its age: asked of the monitor again and again by a thread of its own.

A page never waits for the monitor. While the monitor or Kafka is away the last snapshot stands, and says how old it is.
"""

from __future__ import annotations

import http.client
import threading
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson
import structlog

from services.delivery.lag import SNAPSHOT_PATH, AgencyLag, Snapshot
from services.runtime.clock import Clock
from services.runtime.direct import open_direct

PERIOD_S = 0.5
"""Short, since it comes on top of the monitor's own period."""
ANSWER_S = 2.0
LEDGER = "ledger"
STALE_S = 10.0
"""A snapshot that is older than this is marked with its age."""
BEHIND_S = 3.0
"""What is behind by less is on its way: a page says nothing of it, unless it found nothing."""

log = structlog.get_logger()
Fetch = Callable[[], Snapshot]


class NoSnapshotError(Exception):
    """The monitor gave none; the text says why."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the ledger reached when it was measured ``at``: what was on the log ``until`` then is in it.

    ``records`` were not in it yet. ``until`` is None where it was never measured; ``stale``: what is now is not known.
    """

    at: datetime | None = None
    until: datetime | None = None
    records: int = 0
    stale: bool = True

    @property
    def behind(self) -> bool:
        """Tell whether the ledger lacks what it should have by now, or that this is not known."""
        if self.stale or self.at is None or self.until is None:
            return True
        return self.records > 0 and (self.at - self.until).total_seconds() >= BEHIND_S

    @property
    def whole(self) -> bool:
        """Tell whether nothing was missing: what is not found is not there."""
        return not self.behind and self.records == 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen last: the snapshot, None before the first, and since when none newer came and why."""

    snapshot: Snapshot | None = None
    since: datetime | None = None
    why: str = ""

    @property
    def at(self) -> datetime | None:
        """Return when the snapshot was measured."""
        return datetime.fromisoformat(self.snapshot.at) if self.snapshot else None

    def age_s(self, now: datetime) -> float | None:
        """Return how old the snapshot is."""
        return max(0.0, (now - self.at).total_seconds()) if self.at else None

    def stale(self, now: datetime) -> bool:
        """Tell whether what was seen last is no longer what is."""
        age_s = self.age_s(now)
        return age_s is None or age_s > STALE_S

    def reach(self, now: datetime) -> Reach:
        """Return how far the ledger reached on the topics that it is filled from, as it was seen last."""
        groups = [one for one in self.snapshot.groups if one.group == LEDGER] if self.snapshot else []
        if self.at is None or not groups:
            return Reach(self.at)
        delay = timedelta(seconds=max(one.delay_s if one.lag else 0.0 for one in groups))
        return Reach(self.at, self.at - delay, sum(one.lag for one in groups), self.stale(now))

    def agency(self, name: str) -> AgencyLag | None:
        """Return an agency's lag as it was seen last."""
        return self.snapshot.agency(name) if self.snapshot else None


class Watch:
    """Looks at the monitor until told to stop. What was seen is read from any thread."""

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._seen = Seen()

    @property
    def seen(self) -> Seen:
        """Return what was seen last."""
        return self._seen

    def look(self) -> None:
        """Look once. What can't be had leaves the last snapshot as it was."""
        try:
            self._seen = Seen(self._fetch())
        except NoSnapshotError as error:
            last = self._seen
            if last.since is None:
                log.warning("snapshot_missed", error=str(error))
            self._seen = Seen(last.snapshot, last.since or self._clock.now(), str(error))

    def run(self, stop: threading.Event) -> None:
        """Look every period."""
        while True:
            self.look()
            if stop.wait(PERIOD_S):
                return


def from_monitor(url: str, answer_s: float = ANSWER_S) -> Fetch:
    """Return how a snapshot is asked of the monitor at this address; it raises NoSnapshotError."""

    def fetch() -> Snapshot:
        try:
            with open_direct(url + SNAPSHOT_PATH, answer_s) as answer:
                return Snapshot.from_json(orjson.loads(answer.read()))
        except urllib.error.HTTPError as error:
            with error:
                raise NoSnapshotError(f"监视进程答复 {error.code} (the monitor answered {error.code})") from error
        except (OSError, http.client.HTTPException) as error:
            raise NoSnapshotError("监视进程没有应答 (the monitor does not answer)") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NoSnapshotError("监视进程的答复不是延迟快照 (the monitor's answer is no snapshot)") from error

    return fetch

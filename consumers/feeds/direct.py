"""Opens Kafka itself to agencies that read it directly, and closes it while something of theirs is stopped.

A reader of Kafka can't be kept from single events, so its whole feed is closed: its rights to the topic and to its
group are taken away, which the broker goes by at its next fetch, its clients are put out of the group, and the rights
are given back when nothing stands against it. What it has not read lies in the feed, and can be had by pulling, event
by event. Who takes the feed by another channel has no right either.

It is opened only once its group stands where the channel before it ended: a client that never stops trying would join
the moment it may, and read from wherever its group stands.
"""

from __future__ import annotations

from concurrent.futures import Future, wait
from contextlib import closing, suppress
from functools import partial
from random import random
from typing import Literal, NamedTuple

import structlog

from consumers.feeds.lanes import THREADS, Lanes
from consumers.feeds.telling import tell
from schemas.topics import Topics
from services.delivery.cursors import CALL_S, Cursors
from services.delivery.retry import RetryPolicy
from services.identity.access import Access
from services.runtime.alerts import Alert, AlertKind
from services.runtime.clock import Clock
from services.runtime.errors import ConflictError, HongyanError, NoAuthoriserError, UnavailableError
from services.runtime.kafka.port import Admin, Kafka
from services.subscriptions.control import ControlView
from services.subscriptions.stopping import closed_to_direct_reading

LOOK_S = 0.3
"""For so long a look waits for what it has begun; what takes longer goes on, and nobody else waits for it."""
SLOW_S = 1.0
OPENINGS = THREADS // 2
"""So much may be under way when an opening is begun: whatever is to be closed finds a thread."""
REFUSED = RetryPolicy(1.0, 60.0)
"""When a right that the broker refused to give or to take away is asked for again."""
TELL_AT = 5
"""So many looks in a row at clients that can't be put out of a group are one too many: somebody is told."""

log = structlog.get_logger()


class Want(NamedTuple):
    """What an agency's access should be: at which version of its entry, and open or not."""

    version: int
    open: bool


class Refused(NamedTuple):
    """What the broker refuses to do, how often it has in a row, and when it is asked again (monotonic seconds)."""

    want: Want
    times: int
    again_at: float


class DirectReading:
    """Looks at the agencies that have a Kafka user; each change is settled once, with what has changed of access."""

    def __init__(self, view: ControlView, kafka: Kafka, topics: Topics, cursors: Cursors, clock: Clock) -> None:
        self._view = view
        self._kafka = kafka
        self._topics = topics
        self._cursors = cursors
        self._clock = clock
        self._settled: dict[str, Want] = {}
        self._refused: dict[str, Refused] = {}
        self._conflicts: dict[str, int] = {}
        self._told: dict[str, Want] = {}
        self._lanes = Lanes("direct", SLOW_S)
        self._begun: list[Future[None]] = []

    def settle(self, within_s: float = LOOK_S) -> None:
        """Let each such agency read its feed, or not: first what is to be closed, and none waits for another.

        What can't be done now is done next time; what was begun and takes longer than this goes on.
        """
        begun = []
        for agency, want in sorted(self._due(), key=lambda one: one[1].open):
            if not want.open or self._lanes.under_way() < OPENINGS:
                with suppress(UnavailableError):
                    begun.append(self._lanes.begin(agency, partial(self._settle, agency)))
        wait(begun, within_s)
        self._begun += begun
        ended = [one for one in self._begun if one.done()]
        self._begun = [one for one in self._begun if one not in ended]
        for one in ended:
            one.result()

    def close(self) -> None:
        """Begin nothing more, and wait for nobody."""
        self._lanes.close()

    def _due(self) -> list[tuple[str, Want]]:
        """Return what is to be done now: what was refused has a rest, unless something else is wanted."""
        now, found = self._clock.monotonic(), []
        for agency in list(self._view.access):
            want, _ = self._wanted(agency)
            refused = self._refused.get(agency)
            rests = refused is not None and refused.want == want and now < refused.again_at
            if want is not None and self._settled.get(agency) != want and not rests:
                found.append((agency, want))
        return found

    def _wanted(self, agency: str) -> tuple[Want | None, str | None]:
        """Return what is wanted for an agency, None for one that Kafka is no matter of, and why it is closed."""
        access = self._view.access.get(agency, Access(agency))
        if access.channel == "kafka":
            why = closed_to_direct_reading(self._view, agency, self._clock.now())
        elif access.kafka_user or agency in self._told:
            why = f"渠道是 {access.channel} (another channel is in use)"
        else:
            return None, None
        return Want(access.version, why is None), why

    def _settle(self, agency: str) -> None:
        """Give the rights or take them away, and alert somebody where that can't be done; then it is tried again."""
        want, why = self._wanted(agency)
        if want is None:
            return
        try:
            with closing(self._kafka.admin(timeout_s=CALL_S)) as admin:
                refused = self._open(admin, agency, want) if why is None else self._shut(admin, agency)
            if isinstance(refused, NoAuthoriserError) and not self._guarded(agency):
                refused = None
            self._tell(agency, want, why or "未能给予读权 (no right was given)", refused)
        except ConflictError as error:
            self._conflicting(agency, want, error)
        except UnavailableError as error:
            log.debug("direct_reading_unsettled", agency=agency, error=str(error))
        else:
            self._conflicts.pop(agency, None)
            self._note(agency, want, refused)

    def _guarded(self, agency: str) -> bool:
        """Tell whether it matters that there are no rights at all: to who reads directly, or has a user who could."""
        access = self._view.access.get(agency, Access(agency))
        return access.channel == "kafka" or access.kafka_user

    def _note(self, agency: str, want: Want, refused: HongyanError | None) -> None:
        """Take in that this is settled; where it was refused only if there is nothing to ask for again."""
        before = self._refused.pop(agency, None)
        if refused is None or isinstance(refused, NoAuthoriserError):
            self._settled[agency] = want
            return
        self._settled.pop(agency, None)
        times = before.times + 1 if before is not None and before.want == want else 1
        self._refused[agency] = Refused(want, times, self._clock.monotonic() + REFUSED.delay_s(times, random))

    def _open(self, admin: Admin, agency: str, want: Want) -> HongyanError | None:
        """Let the agency's group stand where the channel before ended, then give the rights; return what refused them.

        Raises HandoverError while a pusher holds the feed, ConflictError while clients can't be put out of the group.
        """
        try:
            self._cursors.begin_own(agency)
        except ConflictError:
            self._shut(admin, agency)
            admin.evict_members(self._topics.agency_group(agency))  # before they join again
            self._cursors.begin_own(agency)
        if self._wanted(agency)[0] != want:
            raise UnavailableError("其间又有变动 (it was decided otherwise meanwhile)")
        user = self._topics.agency_group(agency)
        try:
            admin.allow_reading(user, self._topics.feed(agency), user)
        except UnavailableError:
            raise
        except HongyanError as error:
            return error
        return None

    def _shut(self, admin: Admin, agency: str) -> HongyanError | None:
        """Take the rights away, and put the agency's clients out of its group; return what refused that.

        Where there are no rights they would join again at once, and whoever takes the feed over waits for them to
        leave: put out, they would look as if they had.
        """
        user, refused = self._topics.agency_group(agency), None
        try:
            admin.forbid_reading(user, self._topics.feed(agency), user)
        except UnavailableError:
            raise
        except HongyanError as error:
            refused = error
        if not isinstance(refused, NoAuthoriserError):
            admin.evict_members(user)
        return refused

    def _conflicting(self, agency: str, want: Want, error: ConflictError) -> None:
        """Tell, once, of clients that stay in the group: its cursor can't be set, and the feed stays closed to it."""
        self._conflicts[agency] = looks = self._conflicts.get(agency, 0) + 1
        if looks >= TELL_AT:
            try:
                self._tell(agency, want, "游标不能交接，直连尚未开放 (its group can't be set yet)", error)
            except UnavailableError as away:
                log.debug("conflict_untold", agency=agency, error=str(away))

    def _tell(self, agency: str, want: Want, what: str, refused: HongyanError | None) -> None:
        """Say that this is settled, or, once, what is not."""
        if refused is None:
            self._send(agency, "已处理 (settled)", "closed")
            self._told.pop(agency, None)
            log.info("direct_reading_settled", agency=agency, open=want.open)
        elif self._told.get(agency) != want:
            self._send(agency, f"{what}；{refused}", "open")
            self._told[agency] = want
            log.warning("direct_reading_unsettled", agency=agency, open=want.open, error=str(refused))

    def _send(self, agency: str, detail: str, state: Literal["open", "closed"]) -> None:
        at = self._clock.now().isoformat()
        tell(self._kafka, self._topics, Alert(AlertKind.FEED_UNGUARDED, agency, at, detail[:2000], state))

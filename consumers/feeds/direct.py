"""Opens Kafka itself to agencies that read it directly, and closes it while something of theirs is stopped.

A reader of Kafka can't be kept from single events, so its whole feed is closed: its rights to the topic and to its
group are taken away, which the broker goes by at its next fetch, its clients are put out of the group, and the rights
are given back when nothing stands against it. What it has not read lies in the feed, and can be had by pulling, event
by event. Who takes the feed by another channel has no right either.

It is opened only once its group stands where the channel before it ended: a client that never stops trying would join
the moment it may, and read from wherever its group stands.
"""

from __future__ import annotations

from contextlib import closing

import structlog

from schemas.topics import Topics
from services.delivery.cursors import Cursors
from services.runtime.alerts import Alert, AlertKind
from services.runtime.clock import Clock
from services.runtime.errors import ConflictError, HongyanError, UnavailableError
from services.runtime.kafka.port import Admin, Kafka
from services.subscriptions.control import ControlView
from services.subscriptions.stopping import closed_to_direct_reading

ALERT_S = 10.0
TELL_AT = 5
"""So many looks in a row at clients that can't be put out of a group are one too many: somebody is told."""

log = structlog.get_logger()


class DirectReading:
    """Looks at the agencies that have a Kafka user; each change is settled once, with what has changed of access."""

    def __init__(self, view: ControlView, kafka: Kafka, topics: Topics, cursors: Cursors, clock: Clock) -> None:
        self._view = view
        self._kafka = kafka
        self._topics = topics
        self._cursors = cursors
        self._clock = clock
        self._settled: dict[str, tuple[int, bool]] = {}
        self._conflicts: dict[str, int] = {}

    def settle(self) -> None:
        """Let each such agency read its feed, or not; what can't be done now is done next time."""
        for agency, access in list(self._view.access.items()):
            if access.channel == "kafka":
                why = closed_to_direct_reading(self._view, agency, self._clock.now())
            elif access.kafka_user:
                why = f"渠道是 {access.channel} (another channel is in use)"
            else:
                continue
            wanted = access.version, why is None
            if self._settled.get(agency) != wanted and self._settle(agency, why):
                self._settled[agency] = wanted
                self._conflicts.pop(agency, None)

    def _settle(self, agency: str, why: str | None) -> bool:
        """Give the rights or take them away, and alert somebody where that can't be done; False to try again."""
        try:
            with closing(self._kafka.admin()) as admin:
                refused = self._open(admin, agency) if why is None else self._shut(admin, agency)
            self._tell(agency, why, refused)
        except ConflictError as error:
            return self._conflicting(agency, error)
        except UnavailableError as error:
            log.debug("direct_reading_unsettled", agency=agency, error=str(error))
            return False
        return True

    def _open(self, admin: Admin, agency: str) -> HongyanError | None:
        """Let the agency's group stand where the channel before ended, then give the rights; return what refused them.

        Raises HandoverError while a pusher holds the feed, ConflictError while clients can't be put out of the group.
        """
        try:
            self._cursors.begin_own(agency)
        except ConflictError:
            self._shut(admin, agency)
            self._cursors.begin_own(agency)
        user = self._topics.agency_group(agency)
        try:
            admin.allow_reading(user, self._topics.feed(agency), user)
        except UnavailableError:
            raise
        except HongyanError as error:
            return error
        return None

    def _shut(self, admin: Admin, agency: str) -> HongyanError | None:
        """Take the rights away, and put the agency's clients out of its group; return what refused that."""
        user, refused = self._topics.agency_group(agency), None
        try:
            admin.forbid_reading(user, self._topics.feed(agency), user)
        except UnavailableError:
            raise
        except HongyanError as error:
            refused = error
        admin.evict_members(user)
        return refused

    def _conflicting(self, agency: str, error: ConflictError) -> bool:
        """Tell, once, of clients that stay in the group: its cursor can't be set, and the feed stays closed to it."""
        self._conflicts[agency] = looks = self._conflicts.get(agency, 0) + 1
        if looks == TELL_AT:
            try:
                self._tell(agency, "游标不能交接，直连尚未开放 (its group can't be set yet)", error)
            except UnavailableError as away:
                log.debug("conflict_untold", agency=agency, error=str(away))
                self._conflicts[agency] -= 1
        return False

    def _tell(self, agency: str, why: str | None, refused: HongyanError | None) -> None:
        if refused is None:
            log.info("direct_reading_settled", agency=agency, closed=why)
        else:
            log.warning("direct_reading_unsettled", agency=agency, closed=why, error=str(refused))
        open_ = refused is not None and why is not None
        detail = f"{why}；{refused}" if open_ else "已处理 (settled)"
        at = self._clock.now().isoformat()
        alert = Alert(AlertKind.FEED_UNGUARDED, agency, at, detail[:2000], "open" if open_ else "closed")
        producer = self._kafka.producer(client_id="feeds-alerts")
        try:
            producer.send(self._topics.alerts, key=alert.key.encode(), value=alert.to_bytes()).result(ALERT_S)
        finally:
            producer.close()

"""Closes Kafka itself to agencies that read it directly, while something of theirs is stopped.

A reader of Kafka can't be kept from single events, so its whole feed is closed: its right to read the topic is taken
away, which the broker goes by at its next fetch, and given back when nothing stands against it. What it has not read
lies in the feed, and can be had by pulling, event by event.
"""

from __future__ import annotations

import structlog

from schemas.topics import Topics
from services.runtime.clock import Clock
from services.runtime.errors import HongyanError, UnavailableError
from services.runtime.kafka.port import Kafka
from services.subscriptions.control import ControlView
from services.subscriptions.stopping import closed_to_direct_reading

log = structlog.get_logger()


class DirectReading:
    """Looks at the agencies whose channel is Kafka; each change is settled once, with what has changed of access."""

    def __init__(self, view: ControlView, kafka: Kafka, topics: Topics, clock: Clock) -> None:
        self._view = view
        self._kafka = kafka
        self._topics = topics
        self._clock = clock
        self._settled: dict[str, tuple[int, bool]] = {}

    def settle(self) -> None:
        """Let each such agency read its feed, or not; what can't be done now is done next time."""
        for agency, access in list(self._view.access.items()):
            if access.channel != "kafka":
                self._settled.pop(agency, None)
                continue
            why = closed_to_direct_reading(self._view, agency, self._clock.now())
            wanted = access.version, why is None
            if self._settled.get(agency) != wanted and self._settle(agency, why):
                self._settled[agency] = wanted

    def _settle(self, agency: str, why: str | None) -> bool:
        user, feed = self._topics.agency_group(agency), self._topics.feed(agency)
        try:
            admin = self._kafka.admin()
            try:
                if why is None:
                    admin.allow_reading(user, feed, user)
                else:
                    admin.forbid_reading(user, feed)
            finally:
                admin.close()
        except UnavailableError as error:
            log.debug("direct_reading_unsettled", agency=agency, error=str(error))
            return False
        except HongyanError as error:
            log.warning("direct_reading_unguarded", agency=agency, error=str(error))
        else:
            log.info("direct_reading_settled", agency=agency, closed=why)
        return True

"""Closes Kafka itself to agencies that read it directly, while something of theirs is stopped.

A reader of Kafka can't be kept from single events, so its whole feed is closed: its right to read the topic is taken
away, which the broker goes by at its next fetch, and given back when nothing stands against it. What it has not read
lies in the feed, and can be had by pulling, event by event. Who takes the feed by another channel has no right either.
"""

from __future__ import annotations

import structlog

from schemas.topics import Topics
from services.runtime.alerts import Alert, AlertKind
from services.runtime.clock import Clock
from services.runtime.errors import HongyanError, UnavailableError
from services.runtime.kafka.port import Kafka
from services.subscriptions.control import ControlView
from services.subscriptions.stopping import closed_to_direct_reading

ALERT_S = 10.0

log = structlog.get_logger()


class DirectReading:
    """Looks at the agencies that have a Kafka user; each change is settled once, with what has changed of access."""

    def __init__(self, view: ControlView, kafka: Kafka, topics: Topics, clock: Clock) -> None:
        self._view = view
        self._kafka = kafka
        self._topics = topics
        self._clock = clock
        self._settled: dict[str, tuple[int, bool]] = {}

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

    def _settle(self, agency: str, why: str | None) -> bool:
        """Give the right or take it away, and alert somebody where Kafka refuses to take it; False to try again."""
        user, feed = self._topics.agency_group(agency), self._topics.feed(agency)
        refused: HongyanError | None = None
        try:
            admin = self._kafka.admin()
            try:
                if why is None:
                    admin.allow_reading(user, feed, user)
                else:
                    admin.forbid_reading(user, feed)
            except UnavailableError:
                raise
            except HongyanError as error:
                refused = error
            finally:
                admin.close()
            self._tell(agency, why, refused)
        except UnavailableError as error:
            log.debug("direct_reading_unsettled", agency=agency, error=str(error))
            return False
        return True

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

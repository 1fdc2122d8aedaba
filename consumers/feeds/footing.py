"""Whether an agency that pulls stands on its feed's log.

A cursor beyond the log's end is of another log: the topic was made anew, or Kafka was restored from a backup. The
agency would be given nothing until as much has come again, and then go on as if it had had all of that. So it is
answered 409 from the first such question on, also once the log is as long, until somebody decides where it goes on
(``hongyan feed go-on``); an alert stands meanwhile.
"""

from __future__ import annotations

import asyncio

import structlog

from consumers.feeds.asking import Asking
from consumers.feeds.feeds import Feeds
from consumers.feeds.telling import tell
from consumers.pusher.note import WHY_CHARS, Note
from consumers.pusher.placing import Bounds, astray_why, is_astray, is_decided
from schemas.topics import Topics
from services.delivery.cursors import reached, undecided
from services.runtime.alerts import Alert, AlertKind
from services.runtime.clock import Clock
from services.runtime.errors import ConflictError
from services.runtime.kafka.port import Committed, Kafka

log = structlog.get_logger()


class Footing:
    """Looks where agencies that pull stand. Lives in one event loop."""

    def __init__(self, kafka: Kafka, topics: Topics, feeds: Feeds, cursors: Asking, clock: Clock) -> None:
        self._kafka = kafka
        self._topics = topics
        self._feeds = feeds
        self._cursors = cursors
        self._clock = clock
        self._told: dict[str, bool] = {}

    async def at(self, agency: str) -> int:
        """Return the offset that the agency has not taken yet.

        Raises ConflictError where that is not on its feed's log, HandoverError while a pusher holds the feed.
        """
        pushed, own = await self._cursors.both(agency)
        cursor = reached(pushed, own)
        if not undecided(pushed, own) and await self._feeds.reaches(agency, cursor):
            if self._told.get(agency) or (is_decided(own) and agency not in self._told):
                await self._tell(agency, f"从游标 {cursor} 续取 (it goes on from there)", closed=True)
            return cursor
        kept = await self._feeds.history.bounds(agency)
        why = astray_why(cursor, Bounds(kept.earliest, kept.end))
        if not is_astray(own):
            note = Note(self._clock.now(), why[:WHY_CHARS], astray=True)
            await self._cursors.put(agency, Committed(own.offset, note.to_text()))
        if not self._told.get(agency):
            await self._tell(agency, why)
        raise ConflictError(
            f"{why}；请联系平台。现存的可先取用：从 after={kept.earliest - 1} 读起，决定之前不收回执"
            f" (ask the platform; meanwhile what is kept can be read after={kept.earliest - 1})"
        )

    async def _tell(self, agency: str, detail: str, *, closed: bool = False) -> None:
        log.warning("feed_out_of_place", agency=agency, detail=detail, over=closed)
        at = self._clock.now().isoformat()
        alert = Alert(AlertKind.FEED_GAP, agency, at, detail[:2000], "closed" if closed else "open")
        await asyncio.to_thread(tell, self._kafka, self._topics, alert)
        self._told[agency] = not closed

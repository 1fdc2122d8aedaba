"""Feeds that wait: for their agency's own Kafka clients to leave, or for a broker that can't tell where they begin.

Who still reads a feed itself gets it by no webhook. An agency that took its feed from Kafka itself and has a webhook
now may have clients that go on reading and committing under its own group, where the broker keeps nobody out. What was
pushed beside them would come twice, and their commits would move the cursor under the line.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress

import structlog

from schemas.topics import Topics
from services.runtime.errors import UnavailableError, UnknownTopicError
from services.runtime.kafka.port import Admin, Kafka, Partition

CALL_S = 5.0
ROUND_S = 10.0
"""For so long one round of questions goes on; who is not reached is asked first in the next."""

log = structlog.get_logger()


def members(admin: Admin, topics: Topics, feeds: Collection[Partition]) -> dict[Partition, int]:
    """Return how many members the own group of each feed's agency has; raises UnavailableError."""
    groups = {topics.agency_group(topics.agency_of(feed.topic)): feed for feed in feeds}
    return {groups[group]: number for group, number in admin.groups_members(list(groups)).items()}


def waits_why(number: int) -> str | None:
    """Return why a line waits, None where the agency has no client of its own in its group."""
    if not number:
        return None
    return (
        f"单位自己的 {number} 个 Kafka 客户端还在消费组里，停下它们后自动开始推送"
        " (the agency's own Kafka clients are still in its group; it is pushed once they have left)"
    )


def untold_why(error: UnavailableError) -> str:
    """Return why a line waits of which a broker can't tell where it begins."""
    return f"Kafka 答不上这个队列从哪里开始，答上来自动开始推送 (a broker can't tell of this feed yet): {error}"


class Leaving:
    """Asks, beside the thread that reads and commits, which of the feeds that wait may begin.

    Each is asked about by itself: of one a broker may not be able to tell.
    """

    def __init__(self, kafka: Kafka, topics: Topics) -> None:
        self._kafka = kafka
        self._topics = topics
        self._thread = ThreadPoolExecutor(1, "own-clients")
        self._asked: Future[Mapping[Partition, int]] | None = None
        self._untold: set[Partition] = set()

    def left(self, waiting: Collection[Partition]) -> set[Partition]:
        """Return those of these feeds that could begin when it was asked last, and ask again."""
        found: Mapping[Partition, int] = {}
        if self._asked is not None and self._asked.done():
            try:
                found = self._asked.result()
            except UnavailableError as error:
                log.debug("waiting_feeds_unknown", error=str(error))  # no answer is not that they have left
            self._asked = None
        left = {feed for feed in waiting if found.get(feed) == 0}
        if self._asked is None and (asked := set(waiting) - left):
            self._asked = self._thread.submit(self._ask, asked)
        return left

    def _ask(self, feeds: Collection[Partition]) -> Mapping[Partition, int]:
        """Return how many clients of its own each feed's agency has; a feed of which too little is told is left out."""
        found: dict[Partition, int] = {}
        ends_at = time.monotonic() + ROUND_S
        with closing(self._kafka.admin(timeout_s=CALL_S)) as admin:
            # What was asked in vain comes last: it may take a time-out each.
            for feed in sorted(feeds, key=lambda one: one in self._untold):
                if time.monotonic() >= ends_at:
                    break
                try:
                    found |= self._told(admin, feed)
                    self._untold.discard(feed)
                except UnavailableError as error:
                    log.debug("waiting_feed_unknown", feed=feed.topic, error=str(error))
                    self._untold.add(feed)
        self._untold &= set(feeds)
        return found

    def _told(self, admin: Admin, feed: Partition) -> dict[Partition, int]:
        """Ask all that a line asks that begins."""
        found = members(admin, self._topics, [feed])
        if not found[feed]:
            admin.groups_offsets([self._topics.agency_group(self._topics.agency_of(feed.topic))])
            with suppress(UnknownTopicError):  # then it begins with an empty one
                admin.log_ends([feed])
        return found

    def close(self) -> None:
        """Ask no more, and wait for no answer."""
        self._thread.shutdown(wait=False, cancel_futures=True)

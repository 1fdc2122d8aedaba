"""Feeds that wait for their agency's own Kafka clients to leave: who still reads a feed itself gets it by no webhook.

An agency that took its feed from Kafka itself and has a webhook now may have clients that go on reading and committing
under its own group, where the broker keeps nobody out. What was pushed beside them would come twice, and their commits
would move the cursor under the line.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import structlog

from schemas.topics import Topics
from services.runtime.errors import UnavailableError
from services.runtime.kafka.port import Admin, Kafka, Partition

CALL_S = 5.0

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


class Leaving:
    """Asks, beside the thread that reads and commits, who of those that lines wait for has left."""

    def __init__(self, kafka: Kafka, topics: Topics) -> None:
        self._kafka = kafka
        self._topics = topics
        self._thread = ThreadPoolExecutor(1, "own-clients")
        self._asked: Future[Mapping[Partition, int]] | None = None

    def left(self, waiting: Collection[Partition]) -> set[Partition]:
        """Return those of these feeds whose agency had no client left when it was asked last, and ask again."""
        found: Mapping[Partition, int] = {}
        if self._asked is not None and self._asked.done():
            try:
                found = self._asked.result()
            except UnavailableError as error:
                log.debug("own_clients_unknown", error=str(error))  # no answer is not that they have left
            self._asked = None
        left = {feed for feed in waiting if found.get(feed) == 0}
        if self._asked is None and (asked := set(waiting) - left):
            self._asked = self._thread.submit(self._ask, asked)
        return left

    def _ask(self, feeds: Collection[Partition]) -> Mapping[Partition, int]:
        with closing(self._kafka.admin(timeout_s=CALL_S)) as admin:
            return members(admin, self._topics, feeds)

    def close(self) -> None:
        """Ask no more, and wait for no answer."""
        self._thread.shutdown(wait=False, cancel_futures=True)

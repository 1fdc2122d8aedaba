"""An agency's cursor, whichever channel moved it last.

The pusher's group holds it while the agency takes a webhook, and the agency's own group otherwise. Both only rise, so
the greater one is the cursor, and a change of channel has nothing to copy.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, LifoQueue

from schemas.topics import LEFT, Topics
from services.runtime.errors import ConflictError, UnavailableError
from services.runtime.kafka.port import Admin, Committed, Kafka, Partition


class HandoverError(UnavailableError):
    """推送尚未交出这个队列，请稍后重试 (the pusher has not let go of this feed yet; try again)"""


class Cursors:
    """Reads and moves cursors from any thread: one question of an agency at a time, each over an admin client of its
    own. The broker of one agency's group may be slow; who asks of others does not wait for it."""

    def __init__(self, kafka: Kafka, topics: Topics) -> None:
        self._kafka = kafka
        self._topics = topics
        self._turns: dict[str, threading.Lock] = {}
        self._free: LifoQueue[Admin] = LifoQueue()

    def get(self, agency: str) -> int:
        """Return the offset that the agency has not taken yet, 0 when it has taken nothing."""
        with self._asking(agency) as admin:
            return self._reached(admin, agency)

    def handed_over(self, agency: str) -> int:
        """Return the agency's cursor; raises HandoverError while a pusher holds the feed and may have events under way.

        A pusher commits a feed's cursor before its first delivery, and again, with a note, when it has let go.
        """
        with self._asking(agency) as admin:
            return max(self._pushed(admin, agency), self._own(admin, agency))

    def check_free(self, agency: str) -> None:
        """Raise ConflictError while the agency's own clients are members of its group: nobody else may move it then."""
        group = self._topics.agency_group(agency)
        with self._asking(agency) as admin:
            if admin.group_members(group):
                detail = f"消费组 {group} 里还有单位自己的 Kafka 客户端，停下它们才能移动游标"
                raise ConflictError(f"{detail} (stop the agency's own Kafka clients first)")

    def move(self, agency: str, offset: int) -> None:
        """Let the agency's own group stand here; raises ConflictError while the agency's clients are members of it.

        It never goes back: where another process has moved it further meanwhile, it stays there.
        """
        with self._asking(agency) as admin:
            self._put(admin, agency, max(offset, self._own(admin, agency)))

    def renew(self, agency: str) -> None:
        """Commit an agency's cursor again: Kafka forgets those of a group without members when they are a week old.

        Raises ConflictError while the agency's clients are members of its group: then Kafka forgets nothing.
        """
        with self._asking(agency) as admin:
            reached = self._reached(admin, agency)
            if reached:
                self._put(admin, agency, reached)

    def begin_own(self, agency: str) -> None:
        """Let the agency's own group stand where its feed was pushed to, before its own clients join.

        Raises HandoverError while a pusher holds the feed, ConflictError when they have joined already.
        """
        with self._asking(agency) as admin:
            pushed = self._pushed(admin, agency)
            if self._own(admin, agency) < pushed:
                self._put(admin, agency, pushed)

    def _pushed(self, admin: Admin, agency: str) -> int:
        """Return where a pusher has let go of the feed; raises HandoverError while one holds it."""
        feed, group = Partition(self._topics.feed(agency), 0), self._topics.group("pusher")
        held = admin.group_offsets(group, [feed]).get(feed, Committed(0, LEFT))
        if held.note != LEFT and admin.group_assignment(group):
            raise HandoverError
        return held.offset

    def _own(self, admin: Admin, agency: str) -> int:
        feed, group = Partition(self._topics.feed(agency), 0), self._topics.agency_group(agency)
        return admin.group_offsets(group, [feed]).get(feed, Committed(0)).offset

    def _reached(self, admin: Admin, agency: str) -> int:
        return cursor_of(admin, self._topics, Partition(self._topics.feed(agency), 0), agency)

    def _put(self, admin: Admin, agency: str, offset: int) -> None:
        feed = Partition(self._topics.feed(agency), 0)
        admin.set_group_offsets(self._topics.agency_group(agency), {feed: Committed(offset)})

    @contextmanager
    def _asking(self, agency: str) -> Iterator[Admin]:
        with self._turns.setdefault(agency, threading.Lock()):
            try:
                admin = self._free.get_nowait()
            except Empty:
                admin = self._kafka.admin()
            try:
                yield admin
            finally:
                self._free.put(admin)

    def close(self) -> None:
        """Close the clients that nobody uses now."""
        while not self._free.empty():
            self._free.get().close()


def cursor_of(admin: Admin, topics: Topics, feed: Partition, agency: str) -> int:
    """Return the greatest offset that any channel's group has committed for a feed."""
    groups = (topics.group("pusher"), topics.agency_group(agency))
    return max(admin.group_offsets(group, [feed]).get(feed, Committed(0)).offset for group in groups)

"""An agency's cursor, whichever channel moved it last.

The pusher's group holds it while the agency takes a webhook, and the agency's own group otherwise. Both only rise, so
the greater one is the cursor, and a change of channel has nothing to copy.
"""

from __future__ import annotations

import threading

from schemas.topics import LEFT, Topics
from services.runtime.errors import UnavailableError
from services.runtime.kafka.port import Admin, Committed, Kafka, Partition


class HandoverError(UnavailableError):
    """推送尚未交出这个队列，请稍后重试 (the pusher has not let go of this feed yet; try again)"""


class Cursors:
    """Reads and moves cursors over one admin client, from any thread."""

    def __init__(self, kafka: Kafka, topics: Topics) -> None:
        self._kafka = kafka
        self._topics = topics
        self._lock = threading.Lock()
        self._admin: Admin | None = None

    def get(self, agency: str) -> int:
        """Return the offset that the agency has not taken yet, 0 when it has taken nothing."""
        with self._lock:
            return self._reached(agency)

    def handed_over(self, agency: str) -> int:
        """Return the agency's cursor; raises HandoverError while a pusher holds the feed and may have events under way.

        A pusher commits a feed's cursor before its first delivery, and again, with a note, when it has let go.
        """
        with self._lock:
            return max(self._pushed(agency), self._own(agency))

    def move(self, agency: str, offset: int) -> None:
        """Let the agency's own group stand here; raises ConflictError while the agency's clients are members of it.

        It never goes back: where another process has moved it further meanwhile, it stays there.
        """
        with self._lock:
            self._put(agency, max(offset, self._own(agency)))

    def renew(self, agency: str) -> None:
        """Commit an agency's cursor again: Kafka forgets those of a group without members when they are a week old.

        Raises ConflictError while the agency's clients are members of its group: then Kafka forgets nothing.
        """
        with self._lock:
            reached = self._reached(agency)
            if reached:
                self._put(agency, reached)

    def begin_own(self, agency: str) -> None:
        """Let the agency's own group stand where its feed was pushed to, before its own clients join.

        Raises HandoverError while a pusher holds the feed, ConflictError when they have joined already.
        """
        with self._lock:
            pushed = self._pushed(agency)
            if self._own(agency) < pushed:
                self._put(agency, pushed)

    def _pushed(self, agency: str) -> int:
        """Return where a pusher has let go of the feed; raises HandoverError while one holds it."""
        feed, group = Partition(self._topics.feed(agency), 0), self._topics.group("pusher")
        admin = self._connected()
        held = admin.group_offsets(group, [feed]).get(feed, Committed(0, LEFT))
        if held.note != LEFT and admin.group_assignment(group):
            raise HandoverError
        return held.offset

    def _own(self, agency: str) -> int:
        feed, group = Partition(self._topics.feed(agency), 0), self._topics.agency_group(agency)
        return self._connected().group_offsets(group, [feed]).get(feed, Committed(0)).offset

    def _reached(self, agency: str) -> int:
        return cursor_of(self._connected(), self._topics, Partition(self._topics.feed(agency), 0), agency)

    def _put(self, agency: str, offset: int) -> None:
        feed = Partition(self._topics.feed(agency), 0)
        self._connected().set_group_offsets(self._topics.agency_group(agency), {feed: Committed(offset)})

    def _connected(self) -> Admin:
        if self._admin is None:
            self._admin = self._kafka.admin()
        return self._admin

    def close(self) -> None:
        """Close the client."""
        if self._admin is not None:
            self._admin.close()


def cursor_of(admin: Admin, topics: Topics, feed: Partition, agency: str) -> int:
    """Return the greatest offset that any channel's group has committed for a feed."""
    groups = (topics.group("pusher"), topics.agency_group(agency))
    return max(admin.group_offsets(group, [feed]).get(feed, Committed(0)).offset for group in groups)

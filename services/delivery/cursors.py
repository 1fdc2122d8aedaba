"""An agency's cursor, whichever channel moved it last.

The pusher's group holds it while the agency takes a webhook, and the agency's own group otherwise. Both only rise, so
the greater one is the cursor, and a change of channel has nothing to copy. But for a log that is not the one that was
read to there: then somebody decides, and what is noted beside the agency's own cursor says which of the pusher's that
passes over.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from queue import Empty, LifoQueue
from typing import Any

import orjson

from schemas.topics import LEFT, Topics
from services.runtime.errors import ConflictError, UnavailableError
from services.runtime.kafka.port import Admin, Committed, Kafka, Partition

CALL_S = 5.0
"""For so long one answer of a broker is waited for: whoever asks is asked to come again, or looks again."""
TABLES = "tables"
BEGUN = "direct"
"""The group, one without members, that keeps which cursor of the pusher's each agency's own clients began from."""


class HandoverError(UnavailableError):
    """推送尚未交出这个队列，请稍后重试 (the pusher has not let go of this feed yet; try again)"""


class UndecidedError(UnavailableError):
    """队列的游标与日志对不上，须由人决定从何处续 (the cursor is not on the feed's log; somebody must decide)"""


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
        Raises UndecidedError while somebody must decide where to go on.
        """
        with self._asking(agency) as admin:
            return _decided(self._pushed(admin, agency), self._own(admin, agency))

    def both(self, agency: str) -> tuple[Committed, Committed]:
        """Return the pusher's cursor and the agency's own with its note; raises HandoverError."""
        with self._asking(agency) as admin:
            return self._pushed(admin, agency), self._own(admin, agency)

    def log_end(self, agency: str) -> int:
        """Return the offset after the last record of the agency's feed."""
        feed = Partition(self._topics.feed(agency), 0)
        with self._asking(agency) as admin:
            return admin.log_ends([feed])[feed]

    def put(self, agency: str, cursor: Committed) -> None:
        """Have the agency's own group say this, whatever it said; raises ConflictError while it has members."""
        with self._asking(agency) as admin:
            self._put(admin, agency, cursor)

    def check_free(self, agency: str) -> None:
        """Raise ConflictError while the agency's own clients are members of its group: nobody else may move it then."""
        group = self._topics.agency_group(agency)
        with self._asking(agency) as admin:
            if admin.group_members(group):
                detail = f"消费组 {group} 里还有单位自己的 Kafka 客户端，停下它们才能移动游标"
                raise ConflictError(f"{detail} (stop the agency's own Kafka clients first)")

    def move(self, agency: str, offset: int, *, by_tables: bool = False) -> None:
        """Let the agency's own group stand here; raises ConflictError while the agency's clients are members of it.

        It never goes back: where another process has moved it further meanwhile, it stays there. ``by_tables``: what is
        below it is in the agency's tables, by their own cursor.
        """
        with self._asking(agency) as admin:
            own = self._own(admin, agency)
            note = {name: value for name, value in _read(own.note).items() if name in {"passes", "of"}}
            # Where another channel has come further, that is not in the tables.
            if by_tables and (offset >= own.offset or moved_by_tables(own.note)):
                note["by"] = TABLES
            written = orjson.dumps(note).decode() if note else ""
            self._put(admin, agency, Committed(max(offset, own.offset), written))

    def renew(self, agency: str, *, direct: bool = False) -> None:
        """Commit an agency's cursor again: Kafka forgets those of a group without members when they are a week old.

        With ``direct``, its own clients move it: once they have begun, where they have gone back to is where they stay.
        Raises ConflictError while the agency's clients are members of its group: then Kafka forgets nothing.
        """
        with self._asking(agency) as admin:
            own, begun = self._committed(admin, agency, self._topics.agency_group(agency)), None
            if direct and (begun := self._begun(admin, agency)) is not None:
                self._note_begun(admin, agency, begun)
            pushed = self._committed(admin, agency, self._topics.group("pusher")) or Committed(0)
            if own is not None and (_noted(own.note) or pushed.offset == begun):
                self._put(admin, agency, own)
            elif found := reached(pushed, own or Committed(0)):
                same = own is not None and own.offset == found and moved_by_tables(own.note)
                self._put(admin, agency, own if own is not None and same else Committed(found))

    def begin_own(self, agency: str) -> None:
        """Let the agency's own group stand where its feed was pushed to, before its own clients join.

        Once for each time that it was pushed to: where its clients go back to later on, there they stay.
        Raises HandoverError while a pusher holds the feed, UndecidedError while somebody must decide where to go on,
        ConflictError when they have joined already.
        """
        with self._asking(agency) as admin:
            pushed, own = self._pushed(admin, agency), self._committed(admin, agency, self._topics.agency_group(agency))
            if own is not None and self._begun(admin, agency) == pushed.offset:
                return
            # With none committed, its clients would begin wherever they are set to: at the end, by most defaults.
            if _decided(pushed, own or Committed(0)) > (own.offset if own is not None else -1):
                self._put(admin, agency, Committed(pushed.offset))
            self._note_begun(admin, agency, pushed.offset)

    def _pushed(self, admin: Admin, agency: str) -> Committed:
        """Return where a pusher has let go of the feed; raises HandoverError while one holds it."""
        group = self._topics.group("pusher")
        held = self._committed(admin, agency, group) or Committed(0, LEFT)
        if not has_left(held.note) and admin.group_assignment(group):
            raise HandoverError
        return held

    def _own(self, admin: Admin, agency: str) -> Committed:
        return self._committed(admin, agency, self._topics.agency_group(agency)) or Committed(0)

    def _begun(self, admin: Admin, agency: str) -> int | None:
        """Return which cursor of the pusher's the agency's own clients have begun from, last."""
        found = self._committed(admin, agency, self._topics.group(BEGUN))
        return None if found is None else found.offset

    def _note_begun(self, admin: Admin, agency: str, pushed: int) -> None:
        feed = Partition(self._topics.feed(agency), 0)
        admin.set_group_offsets(self._topics.group(BEGUN), {feed: Committed(pushed)})

    def _committed(self, admin: Admin, agency: str, group: str) -> Committed | None:
        feed = Partition(self._topics.feed(agency), 0)
        return admin.group_offsets(group, [feed]).get(feed)

    def _reached(self, admin: Admin, agency: str) -> int:
        return cursor_of(admin, self._topics, Partition(self._topics.feed(agency), 0), agency)

    def _put(self, admin: Admin, agency: str, cursor: Committed) -> None:
        feed = Partition(self._topics.feed(agency), 0)
        admin.set_group_offsets(self._topics.agency_group(agency), {feed: cursor})

    @contextmanager
    def _asking(self, agency: str) -> Iterator[Admin]:
        with self._turns.setdefault(agency, threading.Lock()):
            try:
                admin = self._free.get_nowait()
            except Empty:
                admin = self._kafka.admin(timeout_s=CALL_S)
            try:
                yield admin
            finally:
                self._free.put(admin)

    def close(self) -> None:
        """Close the clients that nobody uses now."""
        while not self._free.empty():
            self._free.get().close()


def cursor_of(admin: Admin, topics: Topics, feed: Partition, agency: str) -> int:
    """Return the offset that the channels' groups have come to in a feed."""
    groups = (topics.group("pusher"), topics.agency_group(agency))
    pushed, own = (admin.group_offsets(group, [feed]).get(feed, Committed(0)) for group in groups)
    return reached(pushed, own)


def reached(pushed: Committed, own: Committed) -> int:
    """Return the greater cursor; the agency's own where it was decided that this one of the pusher's does not count."""
    return own.offset if passed_over(pushed, own) else max(pushed.offset, own.offset)


def passing_over(pushed: Committed, answers: str | None = None) -> str:
    """Return the note beside an agency's own cursor that says that this one of the pusher's does not count.

    It is about what the pusher noted then: once it has gone on, and come to the same cursor, that counts.
    """
    document = {"answers": answers, "passes": pushed.offset, "of": _moment(pushed.note)}
    return orjson.dumps({name: value for name, value in document.items() if value is not None}).decode()


def passed_over(pushed: Committed, own: Committed) -> bool:
    """Tell whether it was decided that this cursor of the pusher's does not count."""
    found = _read(own.note)
    return found.get("passes") == pushed.offset and found.get("of") == _moment(pushed.note)


def undecided(pushed: Committed, own: Committed) -> bool:
    """Tell whether whoever had the feed found its cursor not on the log, and nobody has decided where to go on."""
    return _astray(own) or (_astray(pushed) and not passed_over(pushed, own))


def has_left(note: str) -> bool:
    """Tell whether a note says that the pusher has let go of the feed."""
    return _read(note).get("left") is True


def left_note(at: datetime) -> str:
    """Return the note beside the pusher's cursor once it has given a feed up to another channel."""
    return orjson.dumps({"left": True, "at": at.isoformat()}).decode()


def _decided(pushed: Committed, own: Committed) -> int:
    if undecided(pushed, own):
        raise UndecidedError
    return reached(pushed, own)


def _astray(committed: Committed) -> bool:
    return _read(committed.note).get("astray") is True


def _moment(note: str) -> str | None:
    """Return what tells one note of the pusher's from a later one beside the same cursor."""
    found = _read(note)
    moment = found.get("held_since") or found.get("at")
    return moment if isinstance(moment, str) else None


def moved_by_tables(note: str) -> bool:
    """Tell whether an agency's tables have come to where its own cursor stands."""
    return _read(note).get("by") == TABLES


def _noted(note: str) -> bool:
    """Tell whether a note is ours, and stays until a cursor is moved or decided on."""
    return not _read(note).keys().isdisjoint({"passes", "astray"})


def _read(note: str) -> Mapping[str, Any]:
    """Read a note; an agency's own clients may write anything there."""
    with suppress(orjson.JSONDecodeError):
        found = orjson.loads(note)
        return found if isinstance(found, dict) else {}
    return {}

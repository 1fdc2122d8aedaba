"""What an agency has said of events already: a range said later is not about those, and the same again is no news.

The word stands on the log of receipts, so every process knows it, also after a restart. It is looked for from the
time of the oldest of these events on: nobody speaks of an event before it stands in the feed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field

import orjson

from consumers.feeds.entry import Entry
from consumers.feeds.history import History
from schemas.receipts import OWN_WORDS
from schemas.topics import RECEIPT_PARTITIONS, Topics
from services.runtime.errors import UnavailableError
from services.runtime.kafka.partitioning import partition_of
from services.runtime.kafka.port import Kafka, Partition, Record

READ_S = 5.0
READERS = 4
AGENCIES = 256
APART_MS = 3_600_000
"""So far apart the clocks of those who write feeds and receipts may be."""


@dataclass(frozen=True, slots=True)
class Word:
    """The newest word of an agency on an event."""

    event_id: str
    outcome: str
    reason: str | None


@dataclass(slots=True)
class _Known:
    """What an agency said of events from ``first`` on, with their ids: another log has others at the same cursors.

    The log of receipts was read from ``since_ms`` on.
    """

    first: int
    since_ms: int
    read_to: int
    words: dict[int, Word] = field(default_factory=dict)


class Spoken:
    """Reads receipts; what it knows of the least recently asked agencies is forgotten. Lives in one event loop."""

    def __init__(self, kafka: Kafka, topics: Topics) -> None:
        self._receipts = History(
            kafka,
            topics,
            lambda record: Entry(record.offset, {}, b"", record),
            READERS,
            lambda agency: Partition(topics.receipts, partition_of(agency.encode(), RECEIPT_PARTITIONS)),
        )
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def of(self, agency: str, entries: Collection[Entry]) -> dict[int, Word]:
        """Return by cursor what the agency has said last of those that it has accepted or rejected at some time.

        Only one at a time may ask for an agency. Raises UnavailableError while the log is not read to its end: asking
        again goes on with it.
        """
        if not entries:
            return {}
        known = await self._begun(agency, entries)

        def take(record: Record) -> None:
            if record.key == agency.encode():
                _note(known, record.value or b"")

        known.read_to, end = await self._receipts.follow(agency, known.read_to, take, READ_S)
        if known.read_to != end:
            if known.read_to > end:
                del self._known[agency]  # the log was made anew
            raise UnavailableError("正在核对已有的回执，请稍候再来 (looking at what was said before; ask again)")
        held = {entry.cursor: (known.words.get(entry.cursor), entry.attributes.get("id", "")) for entry in entries}
        return {cursor: word for cursor, (word, event_id) in held.items() if word and word.event_id == event_id}

    async def _begun(self, agency: str, entries: Collection[Entry]) -> _Known:
        """Return what is known, of no event before these: ranges move on."""
        first = min(entry.cursor for entry in entries)
        since_ms = min(entry.record.timestamp for entry in entries) - APART_MS
        known = self._known.get(agency)
        if known is None or first < known.first or since_ms < known.since_ms:
            known = _Known(first, since_ms, await self._receipts.at(agency, max(0, since_ms)))
            self._known[agency] = known
        else:
            known.first = first
            for passed in [cursor for cursor in known.words if cursor < first]:
                del known.words[passed]
        self._known.move_to_end(agency)
        while len(self._known) > AGENCIES:
            self._known.popitem(last=False)
        return known

    def close(self) -> None:
        """End the readers."""
        self._receipts.close()


def _note(known: _Known, value: bytes) -> None:
    """Take a record in. One that is no receipt stops nobody's; the ledger puts it aside, and tells."""
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError:
        return
    if not isinstance(document, dict):
        return
    cursor = document.get("cursor")
    if document.get("outcome") in OWN_WORDS and isinstance(cursor, int) and cursor >= known.first:
        reason = document.get("reason")
        said = None if reason is None else str(reason)
        known.words[cursor] = Word(str(document.get("event_id", "")), document["outcome"], said)

"""Parks what is kept back from an agency that pulls, and knows what was.

An agency that acknowledges a range can't tell what was kept back in it, and the grant may be resumed before it does. So
an event is parked before anything behind it is shown, and what lies in the parking place is in no range: whichever
process is asked, and after a restart.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import structlog

from consumers.feeds.entry import Entry
from consumers.feeds.history import History
from consumers.feeds.lanes import Lanes
from consumers.feeds.receipt import receipt_of
from schemas.envelope import PREFIX
from schemas.topics import Topics
from services.quarantine.aside import DECIDED, aside
from services.runtime.clock import Clock
from services.runtime.errors import UnavailableError
from services.runtime.kafka.port import Kafka, Partition, Producer, Record

SEND_S = 10.0
SLOW_S = 1.0
READ_S = 5.0
READERS = 4
STAGE = b"feeds"

log = structlog.get_logger()


@dataclass(slots=True)
class _Known:
    """What was kept back of one feed: the ids of events by their cursors. Another log has others at the same ones."""

    read_to: int = 0
    ids: dict[int, bytes] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def holds(self, entry: Entry) -> bool:
        return self.ids.get(entry.cursor) == _id(entry.record)


class Withholding:
    """The parking places as the feeds see them. Lives in one event loop; an agency waits for nobody but itself."""

    def __init__(self, kafka: Kafka, topics: Topics, clock: Clock) -> None:
        self._kafka = kafka
        self._topics = topics
        self._clock = clock
        self._places = History(
            kafka,
            topics,
            lambda r: Entry(r.offset, {}, b"", r),
            READERS,
            lambda agency: Partition(topics.parked(agency), 0),
        )
        self._known: dict[str, _Known] = {}
        self._lanes = Lanes("withholding", SLOW_S)
        self._lock = threading.Lock()
        self._producer: Producer | None = None

    async def parked(self, agency: str, entries: Iterable[Entry]) -> set[int]:
        """Return the cursors of those that were kept back at some time; raises UnavailableError."""
        known = self._known.setdefault(agency, _Known())
        async with known.turn:
            await self._read(agency, known)
            return {entry.cursor for entry in entries if known.holds(entry)}

    async def park(self, agency: str, stopped: Collection[tuple[Entry, str]]) -> None:
        """Park these, each with why; what is parked already stays as it is. Raises UnavailableError."""
        known = self._known.setdefault(agency, _Known())
        async with known.turn:
            if all(known.holds(entry) for entry, _ in stopped):
                return
            await self._read(agency, known)
            left = [(entry, why) for entry, why in stopped if not known.holds(entry)]
            if left:
                putting = self._lanes.begin(agency, lambda: self._put(agency, left))
                await asyncio.shield(asyncio.wrap_future(putting))

    async def _read(self, agency: str, known: _Known) -> None:
        feed = self._topics.feed(agency).encode()

        def take(record: Record) -> None:
            headers = dict(record.headers)
            withheld = headers.get("hongyan-stage") == STAGE or DECIDED in headers
            if withheld and headers.get("hongyan-original-topic") == feed:
                known.ids[int(headers["hongyan-original-offset"])] = _id(record)

        known.read_to, end = await self._places.follow(agency, known.read_to, take, READ_S)
        if known.read_to > end:
            known.read_to, known.ids = 0, {}  # the place was made anew
        if known.read_to < end:
            raise UnavailableError("正在核对停放的事件，请稍候再来 (looking at what is parked; ask again)")

    def _put(self, agency: str, stopped: Collection[tuple[Entry, str]]) -> None:
        """Put the receipts on the log, then the events into their place: killed in between, both are done again."""
        at, sending = self._clock.now().isoformat(), self._sending()
        receipts = [receipt_of(agency, "pull", entry, "parked", why, at).to_bytes() for entry, why in stopped]
        sent = [sending.send(self._topics.receipts, key=agency.encode(), value=value) for value in receipts]
        for one in sent:
            one.result(SEND_S)
        sent = []
        for entry, why in stopped:
            ours = [("hongyan-stage", STAGE), ("hongyan-parked-at", at.encode()), ("hongyan-refusal", why.encode())]
            put, topic = aside(entry.record, ours), self._topics.parked(agency)
            sent.append(sending.send(topic, key=put.key, value=put.value, headers=put.headers, partition=0))
        for one in sent:
            one.result(SEND_S)

    def _sending(self) -> Producer:
        with self._lock:
            if self._producer is None:
                self._producer = self._kafka.producer(client_id="feeds-parking", acknowledge_timeout_s=SEND_S)
            return self._producer

    def close(self) -> None:
        """Begin nothing more, and close the clients."""
        self._lanes.close()
        self._places.close()
        if self._producer is not None:
            try:
                self._producer.close()
            except UnavailableError as error:
                log.debug("producer_close_failed", error=str(error))


def _id(record: Record) -> bytes:
    return dict(record.headers).get(f"{PREFIX}id", b"")

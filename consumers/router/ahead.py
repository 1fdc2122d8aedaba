"""Reads ahead for a backfill, in a thread of its own: live work never waits for what lies in the past.

A :class:`Stretch` is filled here and emptied by the router: the records of a part of one partition, and which of them
the ledger says need no delivery. No more is read ahead than a few pieces.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

import orjson
import structlog

from schemas.topics import Topics
from services.runtime.errors import UnavailableError
from services.runtime.kafka.port import Consumer, Kafka, Partition, Record

POLL_S = 0.05
READ = 50
AHEAD = 200
IDLE_S = 0.02

log = structlog.get_logger()


class Marks:
    """A set of offsets that lie close together, a byte each."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._held = bytearray()

    def add(self, offset: int) -> None:
        """Take in an offset that is not before the first."""
        place = offset - self._first
        if place >= len(self._held):
            self._held.extend(bytes(max(place + 1, 2 * len(self._held)) - len(self._held)))
        self._held[place] = 1

    def __contains__(self, offset: int) -> bool:
        place = offset - self._first
        return 0 <= place < len(self._held) and self._held[place] == 1


@dataclass(slots=True)
class Said:
    """What the ledger says of a partition's offsets: those that never went live, and what these agencies have."""

    first: int
    read_to: int | None = None
    skip: Marks = field(init=False)
    has: dict[str, Marks] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.skip = Marks(self.first)


@dataclass(eq=False, slots=True)
class Stretch:
    """The part ``[start, end)`` of one partition; without a start it begins with what is not older than ``since_ms``.

    The ledger is read to ``ledger_to`` at least before a record is given out.
    """

    partition: Partition
    start: int | None
    end: int
    since_ms: int
    agencies: Collection[str]
    ledger_to: int
    said: Said | None = None
    ready: bool = False
    failed: UnavailableError | None = None
    _read_to: int = -1
    _records: deque[Record] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, limit: int) -> tuple[list[Record], int]:
        """Return the next records, so many at most, and the offset up to which that is everything."""
        with self._lock:
            taken = [self._records.popleft() for _ in range(min(limit, len(self._records)))]
            return taken, self._records[0].offset if self._records else self._read_to

    def put(self, records: Collection[Record], read_to: int) -> None:
        """Take in what was read."""
        with self._lock:
            self._records.extend(record for record in records if record.offset < self.end)
            self._read_to = min(read_to, self.end)

    def offers(self) -> bool:
        """Tell whether there is something to take: records, or the end."""
        return self.ready and (bool(self._records) or self._read_to >= self.end)

    def waiting(self) -> bool:
        """Tell whether there is nothing to read for it now."""
        return self.failed is not None or (self.ready and (self._read_to >= self.end or len(self._records) >= AHEAD))


class Ahead:
    """The thread that reads ahead, with the clients that it keeps from one stretch to the next."""

    def __init__(self, kafka: Kafka, topics: Topics, client_id: str) -> None:
        self._kafka = kafka
        self._topics = topics
        self._client_id = client_id
        self._wanted: Stretch | None = None
        self._stop: threading.Event | None = None

    def open(self, stretch: Stretch) -> None:
        """Read this one from now on, and no other."""
        self._wanted = stretch
        if self._stop is None:
            self._stop = threading.Event()
            threading.Thread(target=self._run, args=(self._stop,), name="backfill", daemon=True).start()

    def leave(self) -> None:
        """Read nothing for now."""
        self._wanted = None

    def close(self) -> None:
        """Let the thread end, and close its clients."""
        self._wanted = None
        if self._stop is not None:
            self._stop.set()
        self._stop = None

    def _run(self, stop: threading.Event) -> None:
        readers: _Readers | None = None
        while not stop.is_set():
            stretch = self._wanted
            if stretch is None or stretch.waiting():
                stop.wait(IDLE_S)
                continue
            try:
                readers = readers or self._connect()
                readers.read(stretch)
            except UnavailableError as error:
                stretch.failed = error
                _close(readers)
                readers = None
        _close(readers)

    def _connect(self) -> _Readers:
        source = self._kafka.consumer(None, client_id=f"{self._client_id}-source")
        ledger = self._kafka.consumer(None, client_id=f"{self._client_id}-ledger")
        return _Readers(source, ledger, self._topics.ledger_routed)


@dataclass(slots=True)
class _Readers:
    source: Consumer
    ledger: Consumer
    ledger_topic: str
    at: Stretch | None = None

    def read(self, stretch: Stretch) -> None:
        """Read on a little in the ledger, and once that is known in the partition itself."""
        if self.at is not stretch:
            self._begin(stretch)
            self.at = stretch
        elif not stretch.ready:
            self._read_ledger(stretch)
        else:
            records = self.source.poll(POLL_S, READ).get(stretch.partition, ())
            stretch.put(records, records[-1].offset + 1 if records else self.source.position(stretch.partition))

    def _begin(self, stretch: Stretch) -> None:
        self.source.assign([stretch.partition])
        if stretch.start is None:
            found = self.source.offsets_at([stretch.partition], stretch.since_ms)
            stretch.start = min(found.get(stretch.partition, stretch.end), stretch.end)
        self.source.seek(stretch.partition, stretch.start)
        stretch.put([], stretch.start)
        ledger = Partition(self.ledger_topic, stretch.partition.partition)
        self.ledger.assign([ledger])
        # A commit's mark may come onto the log after the commit was answered: what the router wrote itself it knows.
        stretch.ledger_to = max(stretch.ledger_to, self.ledger.end_offsets([ledger])[ledger])
        if stretch.said is None:
            stretch.said = Said(stretch.start)
        if stretch.said.read_to is None:
            # The ledger's records carry the times of the events' records: what is older tells of nothing in here.
            found = self.ledger.offsets_at([ledger], stretch.since_ms)
            stretch.said.read_to = found.get(ledger, stretch.ledger_to)
        self.ledger.seek(ledger, stretch.said.read_to)
        stretch.ready = stretch.said.read_to >= stretch.ledger_to

    def _read_ledger(self, stretch: Stretch) -> None:
        ledger, said = Partition(self.ledger_topic, stretch.partition.partition), stretch.said
        if said is None:
            return
        for record in self.ledger.poll(POLL_S, READ).get(ledger, ()):
            entry = orjson.loads(record.value or b"{}")
            offset = entry.get("offset")
            if entry.get("topic") != stretch.partition.topic or offset is None or offset < said.first:
                continue
            if entry["verdict"] in {"routed", "backfilled"}:
                for agency in {*entry["agencies"], *entry["follow_up"]}.intersection(stretch.agencies):
                    said.has.setdefault(agency, Marks(said.first)).add(offset)
            elif entry["verdict"] != "withheld":
                said.skip.add(offset)
        said.read_to = self.ledger.position(ledger)
        stretch.ready = said.read_to >= stretch.ledger_to
        if stretch.ready:
            self.ledger.assign([])


def _close(readers: _Readers | None) -> None:
    """Close the clients; a broker that is away can't be told."""
    for client in (readers.source, readers.ledger) if readers is not None else ():
        try:
            client.close()
        except UnavailableError as error:
            log.debug("backfill_close_failed", error=str(error))

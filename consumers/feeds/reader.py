"""One Kafka reader for all feeds that somebody reads now, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from consumers.feeds.entry import Entry
from schemas.topics import Topics
from services.runtime.clock import Clock
from services.runtime.errors import RegistryUnavailableError
from services.runtime.kafka.port import Consumer, Kafka, Partition, Record
from services.runtime.lifecycle import outlast

POLL_S = 0.05
POLL_RECORDS = 500
IDLE_S = 0.02
SCHEMA_RETRY_S = 0.1

Opened = Callable[[str, int], None]
Arrived = Callable[[Mapping[str, Sequence[Entry]]], None]


class TailReader:
    """Reads the ends of the feeds that are wanted; ``opened`` and ``arrived`` are called from its thread.

    A feed whose next event is in a schema that can't be had now waits for it by itself; the others are read on.

    ``opened`` names a feed's agency and the offset from which on everything will come.
    """

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        render: Callable[[Record], Entry],
        clock: Clock,
        opened: Opened,
        arrived: Arrived,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._render = render
        self._clock = clock
        self._opened = opened
        self._arrived = arrived
        self._wanted: Mapping[str, int] = {}
        self._opened_as: dict[Partition, int] = {}
        self._positions: dict[Partition, int] = {}
        self._paused: dict[Partition, float] = {}
        self.working = False

    def want(self, agencies: Mapping[str, int]) -> None:
        """Read these agencies' feeds from now on, and no others; one with a new number is opened anew."""
        self._wanted = dict(agencies)

    def run(self, stop: threading.Event) -> None:
        """Read until ``stop``; whatever is away is waited for."""
        outlast("feeds", lambda: self._session(stop), stop, on_outage=self._interrupted)

    def _interrupted(self) -> None:
        self.working = False

    def _session(self, stop: threading.Event) -> None:
        consumer = self._kafka.consumer(None, client_id="feeds")
        self._paused.clear()
        try:
            following: Mapping[str, int] = {}
            while not stop.is_set():
                if following != self._wanted:
                    following = self._wanted
                    self._follow(consumer, following)
                self.working = True
                if following:
                    self._read_on(consumer)
                    self._take(consumer, consumer.poll(POLL_S, POLL_RECORDS))
                else:
                    stop.wait(IDLE_S)
        finally:
            consumer.close()

    def _follow(self, consumer: Consumer, agencies: Mapping[str, int]) -> None:
        """Go on where known feeds stand, and open the new ones at their ends."""
        feeds = {Partition(self._topics.feed(agency), 0): agency for agency in agencies}
        consumer.assign(list(feeds))
        consumer.resume([partition for partition in self._paused if partition in feeds])
        self._paused.clear()
        known = {p: at for p, at in self._positions.items() if p in feeds and self._opened_as[p] == agencies[feeds[p]]}
        fresh = [partition for partition in feeds if partition not in known]
        ends = consumer.end_offsets(fresh) if fresh else {}
        self._positions = known | ends
        self._opened_as = {partition: agencies[agency] for partition, agency in feeds.items()}
        for partition, at in self._positions.items():
            consumer.seek(partition, at)
        for partition, at in ends.items():
            self._opened(feeds[partition], at)

    def _take(self, consumer: Consumer, found: Mapping[Partition, Sequence[Record]]) -> None:
        """Hand over what came; what can't be rendered now is read again."""
        arrived: dict[str, Sequence[Entry]] = {}
        for partition, records in found.items():
            entries: list[Entry] = []
            try:
                entries.extend(self._render(record) for record in records)
            except RegistryUnavailableError:
                at = records[len(entries)].offset
                consumer.seek(partition, at)
                consumer.pause([partition])
                self._paused[partition] = self._clock.monotonic() + SCHEMA_RETRY_S
            else:
                at = records[-1].offset + 1
            self._positions[partition] = at
            if entries:
                arrived[self._topics.agency_of(partition.topic)] = entries
        if arrived:
            self._arrived(arrived)

    def _read_on(self, consumer: Consumer) -> None:
        now = self._clock.monotonic()
        for partition in [one for one, until in self._paused.items() if now >= until]:
            del self._paused[partition]
            consumer.resume([partition])

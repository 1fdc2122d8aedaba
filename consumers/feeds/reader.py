"""One Kafka reader for all feeds that somebody reads now, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

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
LOOK_S = 1.0


class Opening(NamedTuple):
    """A feed that is followed from an offset on; opened again, it has another number."""

    agency: str
    number: int
    start: int


Arrived = Callable[[Mapping[Opening, Sequence[Entry]]], None]


class TailReader:
    """Reads the ends of the feeds that are wanted; ``arrived`` is called from its thread.

    A feed whose next event is in a schema that can't be had now waits for it by itself; the others are read on. It asks
    the broker for nothing but records: what is wrong with one feed's topic holds up no other.
    """

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        render: Callable[[Record], Entry],
        clock: Clock,
        arrived: Arrived,
        remade: Callable[[Collection[Opening]], None] = lambda _: None,
    ) -> None:
        """``remade`` is called from its thread too, with feeds whose topic was deleted and made anew meanwhile."""
        self._kafka = kafka
        self._topics = topics
        self._render = render
        self._clock = clock
        self._arrived = arrived
        self._remade = remade
        self._ids: dict[Opening, str] = {}
        self._look_at = 0.0
        self._wanted: frozenset[Opening] = frozenset()
        self._openings: dict[Partition, Opening] = {}
        self._positions: dict[Partition, int] = {}
        self._paused: dict[Partition, float] = {}
        self.working = False

    def want(self, openings: Collection[Opening]) -> None:
        """Read these from now on, and no others; one with a new number begins at its start."""
        self._wanted = frozenset(openings)

    def run(self, stop: threading.Event) -> None:
        """Read until ``stop``; whatever is away is waited for."""
        outlast("feeds", lambda: self._session(stop), stop, on_outage=self._interrupted)

    def _interrupted(self) -> None:
        self.working = False

    def _session(self, stop: threading.Event) -> None:
        consumer = self._kafka.consumer(None, client_id="feeds")
        self._paused.clear()
        try:
            following: frozenset[Opening] = frozenset()
            while not stop.is_set():
                if following != self._wanted:
                    following = self._wanted
                    self._follow(consumer, following)
                self.working = True
                if following:
                    self._read_on(consumer)
                    self._look(consumer)
                    self._take(consumer, consumer.poll(POLL_S, POLL_RECORDS))
                else:
                    stop.wait(IDLE_S)
        finally:
            consumer.close()

    def _follow(self, consumer: Consumer, wanted: Collection[Opening]) -> None:
        """Go on where known feeds stand, and begin the new ones at their starts."""
        openings = {Partition(self._topics.feed(one.agency), 0): one for one in wanted}
        consumer.assign(list(openings))
        consumer.resume([partition for partition in self._paused if partition in openings])
        self._paused.clear()
        known = {p: at for p, at in self._positions.items() if openings.get(p) == self._openings[p]}
        self._positions = {p: one.start for p, one in openings.items()} | known
        self._openings = openings
        for partition, at in self._positions.items():
            consumer.seek(partition, at)

    def _take(self, consumer: Consumer, found: Mapping[Partition, Sequence[Record]]) -> None:
        """Hand over what came; what can't be rendered now is read again."""
        arrived: dict[Opening, Sequence[Entry]] = {}
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
                arrived[self._openings[partition]] = entries
        if arrived:
            self._arrived(arrived)

    def _look(self, consumer: Consumer) -> None:
        """See, now and then, whether a followed topic is the one that was opened, by what the metadata says."""
        now = self._clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        ids = consumer.topic_ids({partition.topic for partition in self._openings})
        found = {one: ids[p.topic] for p, one in self._openings.items() if p.topic in ids}
        remade = [one for one, made in found.items() if self._ids.get(one, made) != made]
        self._ids = {one: self._ids.get(one, made) for one, made in found.items()}
        if remade:
            self._remade(remade)

    def _read_on(self, consumer: Consumer) -> None:
        now = self._clock.monotonic()
        for partition in [one for one, until in self._paused.items() if now >= until]:
            del self._paused[partition]
            consumer.resume([partition])

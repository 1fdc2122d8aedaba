"""Measures lag from Kafka alone: cursors, feeds and receipts. The monitor and ``hongyan lag`` use the same meter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from itertools import islice

import orjson

from consumers.monitor.snapshot import AgencyLag, GroupLag, Snapshot, Undelivered, agency_lag, group_lag
from consumers.monitor.tally import Tally, published_at
from consumers.monitor.window import Window
from schemas.topics import EVENT_PARTITIONS, Topics
from services.runtime.clock import Clock
from services.runtime.errors import KafkaUnavailableError
from services.runtime.kafka.port import Admin, Committed, Consumer, Kafka, Partition

WINDOW_S = 15 * 60
POLL_RECORDS = 2000
IDLE_POLLS = 20
RECEIPT_PARTITIONS = 6

Offsets = Mapping[Partition, int]


class LagMeter:
    """Reads what is needed for a snapshot; what it has seen is not read again, so that a repeated measure is cheap."""

    def __init__(self, kafka: Kafka, topics: Topics, domains: Collection[str], clock: Clock) -> None:
        self._topics = topics
        self._clock = clock
        events = [Partition(topics.events(domain), n) for domain in domains for n in range(EVENT_PARTITIONS)]
        receipts = [Partition(topics.receipts, n) for n in range(RECEIPT_PARTITIONS)]
        routed = [Partition(topics.ledger_routed, n) for n in range(EVENT_PARTITIONS)]
        self._followed = {
            "router": events,
            "statistics": [*events, *receipts],
            "ledger": [*events, *routed, *receipts],
        }
        self._admin: Admin = kafka.admin()
        self._feeds: Consumer = kafka.consumer(None, client_id="lag-feeds")
        self._receipts: Consumer = kafka.consumer(None, client_id="lag-receipts")
        self._windows: defaultdict[str, Window] = defaultdict(Window)
        self._tallies: dict[str, Tally] = {}
        self._unreadable = 0
        self._begin_receipts(receipts)

    def measure(self, agencies: Collection[str], pulled: Collection[str] = ()) -> Snapshot:
        """Return everyone's lag now; raises KafkaUnavailableError. ``pulled`` names those whose own group may lead."""
        self._read_receipts()
        # Committed positions before the ends: the other way round lag would be hidden.
        committed = {name: self._admin.group_offsets(self._topics.group(name)) for name in (*self._followed, "pusher")}
        cursors = self._cursors(agencies, committed["pusher"], pulled)
        starts, ends = self._bounds([*self._followed["ledger"], *cursors])
        now = self._clock.now()
        found = [
            self._agency(agency, feed, cursors[feed], starts, ends, now)
            for agency in sorted(agencies)
            if (feed := self._feed(agency)) in ends
        ]
        for gone in self._tallies.keys() - {one.agency for one in found}:
            del self._tallies[gone]
        groups = [
            lag
            for name, followed in self._followed.items()
            for lag in _lags(name, followed, committed[name], starts, ends)
        ]
        return Snapshot(now.isoformat(), WINDOW_S, found, groups, self._unreadable)

    def close(self) -> None:
        """Close the clients."""
        self._feeds.close()
        self._receipts.close()
        self._admin.close()

    def _feed(self, agency: str) -> Partition:
        return Partition(self._topics.feed(agency), 0)

    def _cursors(
        self, agencies: Collection[str], pushed: Mapping[Partition, Committed], pulled: Collection[str]
    ) -> dict[Partition, Committed]:
        """Return each feed's cursor: the greater one of the pusher's and, where the agency takes it, its own."""
        cursors = {feed: pushed.get(feed, Committed(0)) for feed in map(self._feed, agencies)}
        for agency in set(pulled) & set(agencies):
            feed = self._feed(agency)
            own = self._admin.group_offsets(self._topics.agency_group(agency)).get(feed, Committed(0))
            cursors[feed] = max(cursors[feed], own, key=lambda held: held.offset)
        return cursors

    def _bounds(self, partitions: Collection[Partition]) -> tuple[Offsets, Offsets]:
        """Return the first and the last offset of those whose topics exist, all asked at once."""
        existing = self._admin.list_topics()
        asked = [partition for partition in partitions if partition.topic in existing]
        return self._feeds.beginning_offsets(asked), self._feeds.end_offsets(asked)

    def _begin_receipts(self, partitions: Collection[Partition]) -> None:
        self._receipts.assign(partitions)
        since = int((self._clock.now().timestamp() - WINDOW_S) * 1000)
        starts = self._receipts.offsets_at(partitions, since)
        ends = self._receipts.end_offsets(partitions)
        for partition in partitions:
            self._receipts.seek(partition, starts.get(partition, ends[partition]))

    def _read_receipts(self) -> None:
        ends = self._receipts.end_offsets(self._receipts.assignment())
        for _, value in _read_to(self._receipts, ends):
            try:
                self._take_receipt(value)
            except (ValueError, TypeError, KeyError, AttributeError):
                self._unreadable += 1
        horizon = self._clock.now().timestamp() - WINDOW_S
        for window in self._windows.values():
            window.forget_before(horizon)

    def _take_receipt(self, value: bytes) -> None:
        """Note how long a delivery took; raises ValueError or the like for what tells no such thing."""
        document = orjson.loads(value)
        if document.get("outcome") != "delivered" or not document.get("published_at"):
            return
        done, published = map(datetime.fromisoformat, (document["last_at"], document["published_at"]))
        latency_ms = max(0.0, (done - published).total_seconds() * 1000)
        self._windows[document["agency"]].add(done.timestamp(), latency_ms)

    def _agency(
        self, agency: str, feed: Partition, cursor: Committed, starts: Offsets, ends: Offsets, now: datetime
    ) -> AgencyLag:
        undelivered = self._undelivered(agency, feed, max(cursor.offset, starts[feed]), ends[feed])
        return agency_lag(agency, now, undelivered, self._windows[agency], _note(cursor.note))

    def _undelivered(self, agency: str, feed: Partition, cursor: int, end: int) -> Undelivered:
        """Count the events beyond the cursor: only what came since the last time is read, and of the oldest its age."""
        tally = self._tallies.setdefault(agency, Tally())
        tally.move(cursor)
        wanted = tally.wanted(end)
        if wanted is not None:
            start, room = wanted
            tally.count((offset for offset, _ in islice(self._read(feed, start, end), room)), end)
        return tally.undelivered(lambda offset: self._published(feed, offset, end))

    def _published(self, feed: Partition, offset: int, end: int) -> datetime:
        self._feeds.assign([feed])
        self._feeds.seek(feed, offset)
        for _ in range(IDLE_POLLS):
            for records in self._feeds.poll(0.1, 1).values():
                published, readable = published_at(records[0])
                self._unreadable += not readable
                return published
        raise KafkaUnavailableError(f"{feed} gave no record at {offset}, before {end}")

    def _read(self, feed: Partition, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        self._feeds.assign([feed])
        self._feeds.seek(feed, start)
        return _read_to(self._feeds, {feed: end})


def _read_to(reader: Consumer, ends: Offsets) -> Iterator[tuple[int, bytes]]:
    """Give offset and value of what stands between the reader's positions and these ends.

    Raises KafkaUnavailableError when nothing comes: what was not read must not count as read.
    """
    idle = 0
    while any(reader.position(p) < end for p, end in ends.items()):
        found = reader.poll(0.1, POLL_RECORDS)
        idle = 0 if found else idle + 1
        if idle > IDLE_POLLS:
            raise KafkaUnavailableError("Kafka 没有应答 (no answer)")
        for records in found.values():
            for record in records:
                yield record.offset, record.value or b""


def _lags(
    group: str,
    followed: Collection[Partition],
    committed: Mapping[Partition, Committed],
    starts: Offsets,
    ends: Offsets,
) -> list[GroupLag]:
    """Return a group's lag on each topic that exists, from its first record where nothing is committed."""
    by_topic: defaultdict[str, list[Partition]] = defaultdict(list)
    for partition in followed:
        if partition in ends:
            by_topic[partition.topic].append(partition)
    return [
        group_lag(
            group,
            topic,
            [max(committed.get(p, Committed(0)).offset, starts[p]) for p in partitions],
            [ends[p] for p in partitions],
        )
        for topic, partitions in by_topic.items()
    ]


def _note(text: str) -> Mapping[str, str | None]:
    """Return what the pusher noted beside a cursor; an agency's own clients may write anything there."""
    try:
        found = orjson.loads(text or b"{}")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}

"""Measures lag from Kafka alone: cursors, feeds and receipts. The monitor and ``hongyan lag`` use the same meter."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice

import orjson

from consumers.monitor.snapshot import AgencyLag, GroupLag, Snapshot, Undelivered, agency_lag, group_lag
from schemas.topics import EVENT_PARTITIONS, Topics
from services.runtime.clock import Clock
from services.runtime.kafka.port import Admin, Committed, Consumer, Kafka, Partition, Record

WINDOW_S = 15 * 60
COUNT_LIMIT = 5000
SAMPLE_LIMIT = 5000
POLL_RECORDS = 2000
IDLE_POLLS = 20


class LagMeter:
    """Reads what is needed for a snapshot; keeps the receipts of the window, so that a repeated measure is cheap."""

    def __init__(self, kafka: Kafka, topics: Topics, domains: Collection[str], clock: Clock) -> None:
        self._topics = topics
        self._clock = clock
        self._inputs = [topics.events(domain) for domain in domains]
        self._statistics_inputs = [topics.events("window")]
        self._admin: Admin = kafka.admin()
        self._feeds: Consumer = kafka.consumer(None, client_id="lag-feeds")
        self._receipts: Consumer = kafka.consumer(None, client_id="lag-receipts")
        self._latencies: defaultdict[str, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=SAMPLE_LIMIT))
        self._begin_receipts()

    def measure(self, agencies: Collection[str], elsewhere: Collection[str] = ()) -> Snapshot:
        """Return everyone's lag now; raises KafkaUnavailableError.

        ``elsewhere`` names the agencies whose cursor another channel than the webhook may have moved.
        """
        self._read_receipts()
        groups = self._groups()
        cursors = self._admin.group_offsets(self._topics.group("pusher"))
        cursors |= self._moved(cursors, [agency for agency in elsewhere if agency in agencies])
        now = self._clock.now()
        found = [self._agency(agency, cursors, now) for agency in sorted(agencies)]
        return Snapshot(now.isoformat(), WINDOW_S, found, groups)

    def _moved(self, cursors: Mapping[Partition, Committed], agencies: Collection[str]) -> dict[Partition, Committed]:
        """Return the cursors that another channel has moved beyond the pusher's."""
        moved: dict[Partition, Committed] = {}
        for agency in agencies:
            feed = Partition(self._topics.feed(agency), 0)
            own = self._admin.group_offsets(self._topics.agency_group(agency)).get(feed)
            if own is not None and own.offset > cursors.get(feed, Committed(0)).offset:
                moved[feed] = own
        return moved

    def close(self) -> None:
        """Close the clients."""
        self._feeds.close()
        self._receipts.close()
        self._admin.close()

    def _begin_receipts(self) -> None:
        partitions = [Partition(self._topics.receipts, n) for n in range(6)]
        self._receipts.assign(partitions)
        since = int((self._clock.now().timestamp() - WINDOW_S) * 1000)
        starts = self._receipts.offsets_at(partitions, since)
        ends = self._receipts.end_offsets(partitions)
        for partition in partitions:
            self._receipts.seek(partition, starts.get(partition, ends[partition]))

    def _read_receipts(self) -> None:
        for record in _read_to_end(self._receipts):
            receipt = orjson.loads(record.value or b"{}")
            if receipt.get("outcome") != "delivered" or not receipt.get("published_at"):
                continue
            done = datetime.fromisoformat(receipt["last_at"])
            published = datetime.fromisoformat(receipt["published_at"])
            latency_ms = max(0.0, (done - published).total_seconds() * 1000)
            self._latencies[receipt["agency"]].append((done.timestamp(), latency_ms))
        horizon = self._clock.now().timestamp() - WINDOW_S
        for samples in self._latencies.values():
            while samples and samples[0][0] < horizon:
                samples.popleft()

    def _agency(self, agency: str, cursors: Mapping[Partition, Committed], now: datetime) -> AgencyLag:
        feed = Partition(self._topics.feed(agency), 0)
        cursor = cursors.get(feed, Committed(0))
        undelivered = self._undelivered(feed, cursor.offset)
        note = orjson.loads(cursor.note) if cursor.note.startswith("{") else {}
        latencies = [latency for _, latency in self._latencies[agency]]
        return agency_lag(agency, now, undelivered, latencies, note)

    def _undelivered(self, feed: Partition, cursor: int) -> Undelivered:
        """Count the events beyond the cursor. Offsets alone would lie: transaction markers take some."""
        self._feeds.assign([feed])
        end = self._feeds.end_offsets([feed])[feed]
        start = max(cursor, self._feeds.beginning_offsets([feed])[feed])
        if start >= end:
            return Undelivered()
        self._feeds.seek(feed, start)
        records = list(islice(_read_to_end(self._feeds), COUNT_LIMIT))
        oldest = _published(records[0]) if records else None
        return Undelivered(len(records), len(records) < COUNT_LIMIT, oldest)

    def _groups(self) -> list[GroupLag]:
        followed = [("router", topic) for topic in self._inputs]
        followed += [("statistics", topic) for topic in self._statistics_inputs]
        return [self._group(process, topic) for process, topic in followed]

    def _group(self, process: str, topic: str) -> GroupLag:
        partitions = [Partition(topic, n) for n in range(EVENT_PARTITIONS)]
        committed = self._admin.group_offsets(self._topics.group(process))
        ends = self._feeds.end_offsets(partitions)
        starts = self._feeds.beginning_offsets(partitions)
        at = [max(committed[p].offset if p in committed else 0, starts[p]) for p in partitions]
        return group_lag(process, topic, at, [ends[p] for p in partitions])


def _read_to_end(reader: Consumer) -> Iterator[Record]:
    """Give what stands between the reader's positions and the ends of its partitions."""
    partitions = reader.assignment()
    ends = reader.end_offsets(partitions)
    idle = 0
    while idle < IDLE_POLLS and any(reader.position(p) < ends[p] for p in partitions):
        found = reader.poll(0.1, POLL_RECORDS)
        idle = 0 if found else idle + 1
        for records in found.values():
            yield from records


def _published(record: Record) -> datetime:
    """Return when an event was published: its recorded time, or the record's own time where a producer gave none."""
    recorded = dict(record.headers).get("ce_recordedtime")
    if recorded is not None:
        try:
            return datetime.fromisoformat(recorded.decode())
        except ValueError:
            pass  # a foreign producer's text; the log's own time stands in
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)

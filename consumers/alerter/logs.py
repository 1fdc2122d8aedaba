"""The alerter's side towards Kafka, in a thread of its own: what it follows, and what it writes.

It follows ``ops.alerts``, what was kept of an earlier process, silences, parked events, dead letters and corrections.
Whatever is written waits here while Kafka is away, in order, and is lost by nothing but the end of the process.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import islice

import orjson
import structlog

from schemas.topics import DEADLETTER_STAGES, Topics
from services.alerting.kept import COUNTS, SILENCE, STATE, Kept
from services.alerting.rules import Waiting
from services.quarantine.aside import DECIDED
from services.quarantine.parked import REPLAYED
from services.runtime.alerts import Alert
from services.runtime.clock import Clock
from services.runtime.kafka.port import Admin, Consumer, Kafka, Partition, Producer, Record
from services.runtime.kafka.scanning import scan
from services.runtime.lifecycle import outlast

OURS = "hongyan-alerter"
"""The header of alerts that this process has written itself, and taken in when it did."""
POLL_S = 0.1
"""Short: what was told is written between two polls, and what was not written is told again after a kill."""
LOOK_S = 2.0
ANSWERED_S = 5.0
TOPICS_S = 10.0
BATCH = 500
WAIT_S = 10.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Arrived:
    """An alert of the log; ``ours``: it is known already, and only its place is new."""

    offset: int
    alert: Alert
    ours: bool


@dataclass(frozen=True, slots=True)
class Writing:
    """A record to write."""

    topic: str
    key: str
    value: bytes | None
    partition: int = 0
    ours: bool = False


class Logs:
    """What Kafka tells. ``contact_at`` is when it answered last (monotonic seconds)."""

    def __init__(self, kafka: Kafka, topics: Topics, agencies: Callable[[], Collection[str]], clock: Clock) -> None:
        self.kept = Kept()
        self.ready = threading.Event()
        """Everything that stood on the log at the start is taken in."""
        self.contact_at = clock.monotonic()
        self.arrived: deque[Arrived] = deque()
        self._kafka = kafka
        self._topics = topics
        self._agencies = agencies
        self._clock = clock
        self._writing: deque[Writing] = deque()
        self._waiting: dict[Partition, dict[int, Waiting]] = {}
        self._letters: dict[str, set[int]] = {stage: set() for stage in DEADLETTER_STAGES}
        self._corrected: set[str] = set()
        self._positions: dict[Partition, int] = {}
        self._lock = threading.Lock()

    def start(self, stop: threading.Event) -> threading.Thread:
        """Follow until ``stop``, in the background; what waits to be written then still is."""
        thread = threading.Thread(target=self.run, args=(stop,), name="logs", daemon=True)
        thread.start()
        return thread

    def run(self, stop: threading.Event) -> None:
        """Follow until ``stop``; an absent Kafka is waited for."""
        outlast("alerter_logs", lambda: self._session(stop), stop)

    def write(self, *records: Writing) -> None:
        """Have records written, in order."""
        self._writing.extend(records)

    def unwritten(self) -> int:
        """Return how many records wait to be written."""
        return len(self._writing)

    def unwritten_keys(self) -> set[str]:
        """Return the keys of the records that wait to be written now; none while Kafka does not answer."""
        answers = self._clock.monotonic() - self.contact_at < ANSWERED_S
        return {one.key for one in list(self._writing)} if answers else set()

    def parked(self) -> list[Waiting]:
        """Return the parked events that wait for somebody."""
        with self._lock:
            return [one for held in self._waiting.values() for one in held.values()]

    def parked_numbers(self) -> Mapping[str, int]:
        """Return how many parked events of each agency wait for somebody."""
        numbers = Counter(one.agency for one in self.parked())
        return {agency: numbers[agency] for agency in list(self._agencies())}

    def letters(self) -> Mapping[str, int]:
        """Return how many dead letters of each stage are not corrected."""
        with self._lock:
            return {
                stage: sum(f"{stage}/{offset}" not in self._corrected for offset in offsets)
                for stage, offsets in self._letters.items()
            }

    def _session(self, stop: threading.Event) -> None:
        admin = self._kafka.admin()
        try:
            admin.ensure_topics([self._topics.alerts_spec(), self._topics.alerting_spec()])
            self._take_up()
            producer = self._kafka.producer(client_id="alerter", acknowledge_timeout_s=WAIT_S)
            consumer = self._kafka.consumer(None, client_id="alerter")
            try:
                self._follow(admin, consumer, producer, stop)
            finally:
                consumer.close()
                producer.close()
        finally:
            admin.close()

    def _take_up(self) -> None:
        """Read what an earlier process kept, once."""
        if self._positions:
            return
        kept = Kept()
        state = [Partition(self._topics.control_alerting, number) for number in (STATE, COUNTS)]
        ends: dict[Partition, int] = dict.fromkeys(state, 0)
        for record in scan(self._kafka, state, client_id="alerter-kept"):
            kept.take((record.key or b"").decode(errors="replace"), record.value)
            ends[Partition(record.topic, record.partition)] = record.offset + 1
        self.kept = kept
        self._positions = {state[STATE]: ends[state[STATE]], Partition(self._topics.alerts, 0): kept.position}

    def _follow(self, admin: Admin, consumer: Consumer, producer: Producer, stop: threading.Event) -> None:
        look_at = topics_at = self._clock.monotonic()
        followed: list[Partition] = []
        while not stop.is_set():
            now = self._clock.monotonic()
            if now >= topics_at:
                topics_at = now + TOPICS_S
                followed = self._assign(admin, consumer, followed)
            for records in consumer.poll(POLL_S, BATCH).values():
                for record in records:
                    self._take(record)
            self._flush(producer)
            if now >= look_at:
                look_at = now + LOOK_S
                ends = consumer.end_offsets(followed)
                self.contact_at = self._clock.monotonic()
                if all(consumer.position(one) >= end for one, end in ends.items()):
                    self.ready.set()
        while self._writing:
            self._flush(producer)

    def _assign(self, admin: Admin, consumer: Consumer, followed: list[Partition]) -> list[Partition]:
        """Follow the parking places of agencies that have come meanwhile too."""
        existing = admin.list_topics()
        names = [
            self._topics.control_alerting,
            self._topics.alerts,
            self._topics.control_corrections,
            *(self._topics.deadletter(stage) for stage in DEADLETTER_STAGES),
            *(self._topics.parked(agency) for agency in self._agencies()),
        ]
        wanted = [Partition(name, 0) for name in names if name in existing]
        if wanted == followed:
            return followed
        consumer.assign(wanted)
        firsts = consumer.beginning_offsets(wanted)
        for partition in wanted:
            consumer.seek(partition, max(self._positions.get(partition, 0), firsts[partition]))
        return wanted

    def _flush(self, producer: Producer) -> None:
        """Write what waits, so many at a time and together: each acknowledgement is a word from Kafka too."""
        sent = []
        for one in list(islice(self._writing, BATCH)):
            headers, key = [(OURS, b"1")] if one.ours else [], one.key.encode()
            sent.append(producer.send(one.topic, key=key, value=one.value, headers=headers, partition=one.partition))
        for acknowledged in sent:
            acknowledged.result(WAIT_S)
            self._writing.popleft()
            self.contact_at = self._clock.monotonic()

    def _take(self, record: Record) -> None:
        topics, topic = self._topics, record.topic
        self._positions[Partition(topic, record.partition)] = record.offset + 1
        key = (record.key or b"").decode(errors="replace")
        if topic == topics.alerts:
            self._take_alert(record)
        elif topic == topics.control_alerting:
            if key.startswith(SILENCE):
                self.kept.take(key, record.value)
        elif topic == topics.control_corrections:
            with self._lock:
                self._corrected.add(key)
        elif topic.startswith(topics.parked("")):
            self._take_parked(topic.removeprefix(topics.parked("")), record)
        else:
            with self._lock:
                self._letters[topic.removeprefix(topics.deadletter(""))].add(record.offset)

    def _take_alert(self, record: Record) -> None:
        try:
            alert = Alert.from_bytes(record.value)
        except (ValueError, orjson.JSONDecodeError) as error:
            log.error("alert_unreadable", offset=record.offset, error=str(error))
            return
        # What an earlier process of ours has written may not be in what it kept: it is taken in as anybody's.
        ours = self.ready.is_set() and any(name == OURS for name, _ in record.headers)
        self.arrived.append(Arrived(record.offset, alert, ours))

    def _take_parked(self, agency: str, record: Record) -> None:
        headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
        with self._lock:
            held = self._waiting.setdefault(Partition(record.topic, 0), {})
            if REPLAYED in headers:
                held.pop(int(headers[REPLAYED]), None)
            elif headers.get(DECIDED) != "1":
                held[record.offset] = Waiting(
                    agency,
                    headers.get("hongyan-original-offset", "?"),
                    headers.get("ce_id", ""),
                    headers.get("hongyan-parked-at", ""),
                    headers.get("hongyan-refusal", ""),
                    decodable=bool(headers.get("hongyan-status")) or headers.get("hongyan-stage") != "pusher",
                )

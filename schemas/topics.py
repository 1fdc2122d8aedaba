"""Every topic, consumer group and transactional id of Hongyan, spelled once.

A :class:`Topics` is made per installation; its prefix keeps several installations (or tests) apart on one cluster.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

DAY_MS = 24 * 60 * 60 * 1000
THREE_YEARS_MS = 3 * 366 * DAY_MS
EVENT_PARTITIONS = 12
"""Partition count of every event topic and of ``ledger.routed``: the router's state is partitioned like its input."""

RECEIPT_PARTITIONS = 6

PROBE_DOMAIN = "probe"
PROBE_AGENCY = "hongyan-probe"
PROBE_SOURCE = "urn:hongyan:probe"
"""The monitor's probe: an event type, a publisher and a receiver of the system's own, kept out of what people count."""

SHARES = 60
"""Into how many shares the feeds are divided among pushers: a number that two to six of them divide evenly."""

LEFT = '{"left": true}'
"""The note beside the pusher's cursor once it has given a feed up to another channel."""

EVENT_MAX_BYTES = 5 * 1024 * 1024 // 4
"""What one event may take of an event topic. What Hongyan writes of it later has more headers, and must fit too."""
STORED_MAX_BYTES = 2 * 1024 * 1024
"""What one record may take of any other topic: an event of the largest size, with what is said of it beside."""

BATCH_BYTES = 128
PART_BYTES = 10


def record_bytes(key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> int:
    """Return how many bytes of its topic a record takes, at most: every part with the lengths that go before it."""
    parts = sum([len(name.encode()) + len(text or b"") + PART_BYTES for name, text in headers])
    return BATCH_BYTES + len(key or b"") + len(value or b"") + parts


DEADLETTER_STAGES = ("router", "pusher", "statistics", "ledger")
"""The stages that put aside what they can never work on."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is created: its partition count, cleanup policy, retention (milliseconds, -1 for ever), and the
    largest record batch (bytes), as it is or ``uncompressed``: counted so however its producer has packed it.
    A record bears its producer's time, or, where it is ``arrival_timed``, the broker's at which it came.
    """

    name: str
    partitions: int
    retention_ms: int = THREE_YEARS_MS
    compacted: bool = False
    max_message_bytes: int = STORED_MAX_BYTES
    uncompressed: bool = False
    arrival_timed: bool = False

    def config(self) -> dict[str, str]:
        """Return the broker's topic configuration."""
        return {**self.fixed_config(), "retention.ms": str(self.retention_ms)}

    def fixed_config(self) -> dict[str, str]:
        """Return the part of it that Hongyan relies on; how long a topic is kept is its operator's to change."""
        fixed = {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "max.message.bytes": str(self.max_message_bytes),
        }
        fixed |= {"compression.type": "uncompressed"} if self.uncompressed else {}
        return fixed | ({"message.timestamp.type": "LogAppendTime"} if self.arrival_timed else {})


class Topics:
    """Names and specifications of the topics of one installation."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.receipts = f"{prefix}receipts"
        self.ledger_routed = f"{prefix}ledger.routed"
        self.control_subscriptions = f"{prefix}control.subscriptions"
        self.control_identities = f"{prefix}control.identities"
        self.control_schemas = f"{prefix}control.schemas"
        self.control_requests = f"{prefix}control.requests"
        self.control_relay = f"{prefix}control.relay"
        self.control_corrections = f"{prefix}control.corrections"
        self.control_backfill = f"{prefix}control.backfill"
        self.control_shares = f"{prefix}control.shares"
        self.alerts = f"{prefix}ops.alerts"
        self.control_alerting = f"{prefix}control.alerting"

    def events(self, domain: str) -> str:
        """Return the topic of a domain's events, e.g. ``events.health.v1``."""
        return f"{self.prefix}events.{domain}.v1"

    def feed(self, agency: str) -> str:
        """Return an agency's feed: one partition, whose offset is the agency's cursor."""
        return f"{self.prefix}feed.{agency}"

    def parked(self, agency: str) -> str:
        """Return the topic of events that an agency refused for good."""
        return f"{self.prefix}parked.{agency}"

    def deadletter(self, stage: str) -> str:
        """Return the dead-letter topic of a stage (see :data:`DEADLETTER_STAGES`)."""
        return f"{self.prefix}deadletter.{stage}"

    def group(self, process: str) -> str:
        """Return the consumer group of a process."""
        return f"{self.prefix}{process}"

    def agency_group(self, agency: str) -> str:
        """Return the group that holds an agency's cursor while it takes its feed by other channels than the webhook."""
        return f"{self.prefix}agency.{agency}"

    def transactional_id(self, process: str, slot: str) -> str:
        """Return the transactional id of one slot of a process: stable over restarts, so a zombie is fenced."""
        return f"{self.prefix}{process}-{slot}"

    def agency_of(self, feed: str) -> str:
        """Return the agency that a feed belongs to; raises ValueError for another topic."""
        start = f"{self.prefix}feed."
        if not feed.startswith(start):
            raise ValueError(f"{feed} is not a feed")
        return feed.removeprefix(start)

    def parked_by(self, topic: str) -> str | None:
        """Return the agency whose parked events are on a topic, None for another topic."""
        start = f"{self.prefix}parked."
        return topic.removeprefix(start) if topic.startswith(start) else None

    def event_spec(self, domain: str) -> TopicSpec:
        """Return the specification of a domain's event topic.

        How long an event is kept, here and in the ledger, is counted from its time on the log: a publisher whose clock
        is wrong must not have it let go at once.
        """
        return TopicSpec(
            self.events(domain),
            EVENT_PARTITIONS,
            max_message_bytes=EVENT_MAX_BYTES,
            uncompressed=True,
            arrival_timed=True,
        )

    def relay_spec(self) -> TopicSpec:
        """Return the specification of the topic in which each outbox relay keeps what it published last."""
        return TopicSpec(self.control_relay, 1, retention_ms=-1, compacted=True)

    def poller_spec(self, name: str) -> TopicSpec:
        """Return the specification of the topic in which a table poller keeps what it knows: rows 0, rejects 1."""
        return TopicSpec(f"{self.prefix}control.poller.{name}", 2, retention_ms=-1, compacted=True)

    def shares_spec(self) -> TopicSpec:
        """Return the specification of the topic whose partitions the pushers share out; nothing is written to it."""
        return TopicSpec(self.control_shares, SHARES)

    def alerts_spec(self) -> TopicSpec:
        """Return the specification of the alerts' topic."""
        return TopicSpec(self.alerts, 1)

    def alerting_spec(self) -> TopicSpec:
        """Return the specification of the topic of what was told to whom (0), and of what was counted for it (1)."""
        return TopicSpec(self.control_alerting, 2, retention_ms=-1, compacted=True)

    def share_of(self, agency: str) -> int:
        """Return the share that an agency's feed belongs to: whoever has that partition delivers it."""
        return zlib.crc32(agency.encode()) % SHARES

    def agency_specs(self, agency: str) -> list[TopicSpec]:
        """Return the topics that an agency needs: its feed and its parking place."""
        return [TopicSpec(self.feed(agency), 1), TopicSpec(self.parked(agency), 1)]

    def probe_specs(self) -> list[TopicSpec]:
        """Return the topics of the probe's receiver: nobody asks for what is older than a day."""
        return [replace(spec, retention_ms=DAY_MS) for spec in self.agency_specs(PROBE_AGENCY)]

    def base_specs(self, domains: list[str]) -> list[TopicSpec]:
        """Return every topic that exists before the first agency does."""
        return [
            *(self.event_spec(domain) for domain in domains),
            replace(self.event_spec(PROBE_DOMAIN), retention_ms=DAY_MS),
            TopicSpec(self.receipts, RECEIPT_PARTITIONS),
            TopicSpec(self.ledger_routed, EVENT_PARTITIONS),
            TopicSpec(self.control_subscriptions, 1, retention_ms=-1, compacted=True),
            TopicSpec(self.control_identities, 1, retention_ms=-1, compacted=True),
            TopicSpec(self.control_schemas, 1, retention_ms=-1),
            TopicSpec(self.control_requests, 1),
            self.relay_spec(),
            TopicSpec(self.control_corrections, 1),
            TopicSpec(self.control_backfill, 1, retention_ms=-1, compacted=True),
            self.shares_spec(),
            self.alerts_spec(),
            self.alerting_spec(),
            *(TopicSpec(self.deadletter(stage), 1) for stage in DEADLETTER_STAGES),
        ]

"""A fake cluster with one agency, and what is put on it for the monitor to measure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from consumers.monitor.meter import LagMeter
from schemas.contracts import load_contracts
from schemas.receipts import REACHED_BY, Channel, Outcome, Receipt
from schemas.topics import Topics
from services.delivery.lag import AgencyLag
from services.runtime.kafka.port import Committed, Partition
from tests.fakes.hand_clock import NOW, HandClock
from tests.fakes.kafka import FakeAdmin, FakeConsumer, FakeKafka, FakeRecord

TOPICS = Topics()
ISSUED = "cn.gov.sc.health.medical-ad-certificate.issued"
MARKET: Mapping[str, Channel] = {"market": "webhook"}


class CountedReads(FakeKafka):
    """The same cluster, with a count of the records that are read and a note of the groups that are asked for."""

    def __init__(self, cluster: FakeKafka) -> None:
        vars(self).update(vars(cluster))
        self.records = 0
        self.asked: list[str] = []

    def consumer(
        self,
        group: str | None,
        *,
        client_id: str = "hongyan",
        instance: str | None = None,
        from_end: bool = False,
        bulk: bool = False,
        exact: bool = False,
    ) -> FakeConsumer:
        """Make a consumer that counts."""
        made = super().consumer(
            group, client_id=client_id, instance=instance, from_end=from_end, bulk=bulk, exact=exact
        )
        poll = made.poll

        def counted(timeout_s: float, max_records: int) -> Mapping[Partition, Sequence[FakeRecord]]:
            found = poll(timeout_s, max_records)
            self.records += sum(map(len, found.values()))
            return found

        made.poll = counted  # type: ignore[method-assign]
        return made

    def admin(self, *, timeout_s: float = 30.0) -> FakeAdmin:
        """Make an admin client that notes."""
        made = super().admin(timeout_s=timeout_s)
        ask = made.groups_offsets

        def noted(groups: Collection[str]) -> dict[str, dict[Partition, Committed]]:
            self.asked.extend(groups)
            return ask(groups)

        made.groups_offsets = noted  # type: ignore[method-assign]
        return made


class StalledReads(FakeKafka):
    """The same cluster, which gives no records for now."""

    def __init__(self, cluster: FakeKafka) -> None:
        vars(self).update(vars(cluster))
        self.stalled = True

    def consumer(
        self,
        group: str | None,
        *,
        client_id: str = "hongyan",
        instance: str | None = None,
        from_end: bool = False,
        bulk: bool = False,
        exact: bool = False,
    ) -> FakeConsumer:
        """Make a consumer that waits in vain."""
        made = super().consumer(
            group, client_id=client_id, instance=instance, from_end=from_end, bulk=bulk, exact=exact
        )
        poll = made.poll
        made.poll = lambda timeout_s, max_records: {} if self.stalled else poll(timeout_s, max_records)  # type: ignore[method-assign]
        return made


class GappedKafka(FakeKafka):
    """The same cluster, where some partitions end with so many ends of transactions."""

    def __init__(self, cluster: FakeKafka, markers: Mapping[Partition, int]) -> None:
        vars(self).update(vars(cluster))
        self.markers = markers

    def consumer(
        self,
        group: str | None,
        *,
        client_id: str = "hongyan",
        instance: str | None = None,
        from_end: bool = False,
        bulk: bool = False,
        exact: bool = False,
    ) -> FakeConsumer:
        """Make a consumer that sees the end behind them, and passes them when it polls."""
        made = super().consumer(
            group, client_id=client_id, instance=instance, from_end=from_end, bulk=bulk, exact=exact
        )
        ends, position, known = made.end_offsets, made.position, made.positions

        def further(partitions: Collection[Partition]) -> dict[Partition, int]:
            return {p: end + self.markers.get(p, 0) for p, end in ends(partitions).items()}

        def passed(partition: Partition) -> int:
            at = position(partition)
            return at + self.markers.get(partition, 0) if at >= len(self.logs[partition]) else at

        made.end_offsets = further  # type: ignore[method-assign]
        made.position = passed  # type: ignore[method-assign]
        made.positions = lambda: {p: passed(p) for p in known()}  # type: ignore[method-assign]
        return made


class BusyKafka(FakeKafka):
    """The same cluster, where something happens just before ends are told, once."""

    def __init__(self, cluster: FakeKafka, happens: Callable[[], None]) -> None:
        vars(self).update(vars(cluster))
        self.happens = happens

    def consumer(
        self,
        group: str | None,
        *,
        client_id: str = "hongyan",
        instance: str | None = None,
        from_end: bool = False,
        bulk: bool = False,
        exact: bool = False,
    ) -> FakeConsumer:
        """Make a consumer before whose answer it happens."""
        made = super().consumer(
            group, client_id=client_id, instance=instance, from_end=from_end, bulk=bulk, exact=exact
        )
        ends = made.end_offsets

        def later(partitions: Collection[Partition]) -> dict[Partition, int]:
            if client_id == "lag-feeds":
                happens, self.happens = self.happens, lambda: None
                happens()
            return ends(partitions)

        made.end_offsets = later  # type: ignore[method-assign]
        return made


def publish(
    kafka: FakeKafka,
    count: int,
    seconds_ago: float,
    recorded: bytes | None = None,
    *,
    kind: bytes = b"t",
    why: bytes = b"match",
) -> None:
    """Put events into the feed that were published a while ago, by their own word or by the log's."""
    at = NOW - timedelta(seconds=seconds_ago)
    headers = [("ce_recordedtime", recorded or at.isoformat().encode()), ("ce_type", kind), (REACHED_BY, why)]
    for _ in range(count):
        kafka.producer().send(
            TOPICS.feed("market"),
            key=b"k",
            value=b"v",
            headers=headers,
            partition=0,
            timestamp_ms=int(at.timestamp() * 1000),
        )


def deliver(kafka: FakeKafka, milliseconds: float, outcome: Outcome = "delivered", **more: Any) -> None:
    """Write the receipt of a delivery that ended a minute ago; each is of another event, unless ``cursor`` is given."""
    done = NOW - timedelta(minutes=1)
    receipt = Receipt(
        "market",
        sum(len(log) for partition, log in kafka.logs.items() if partition.topic == TOPICS.receipts),
        "e-1",
        "urn:test",
        ISSUED,
        "k",
        outcome,
        done.isoformat(),
        published_at=(done - timedelta(milliseconds=milliseconds)).isoformat(),
    )
    kafka.producer().send(
        TOPICS.receipts,
        key=b"market",
        value=replace(receipt, **more).to_bytes(),
        timestamp_ms=int(done.timestamp() * 1000),
    )


def commit(kafka: FakeKafka, offset: int, note: str = "") -> None:
    """Move the agency's cursor."""
    consumer = kafka.consumer(TOPICS.group("pusher"))
    consumer.commit({Partition(TOPICS.feed("market"), 0): Committed(offset, note)})


def meter_of(kafka: FakeKafka, clock: HandClock | None = None) -> LagMeter:
    """Return a meter."""
    return LagMeter(kafka, TOPICS, load_contracts(), clock or HandClock())


def market(meter: LagMeter, channel: Channel = "webhook") -> AgencyLag:
    """Return the agency's lag."""
    return meter.measure({"market": channel}).agencies[0]


def cluster_with_one_agency() -> FakeKafka:
    """Return a cluster with all that exists before the first agency does, and one agency's topics."""
    kafka = FakeKafka()
    kafka.admin().ensure_topics([*TOPICS.base_specs(load_contracts().domains()), *TOPICS.agency_specs("market")])
    return kafka

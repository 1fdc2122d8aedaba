"""Records on their way to Kafka: whatever a send says, none is lost, and the callback comes once it is on the log."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from consumers.pusher.outbox import Outbox, Outgoing
from schemas.topics import TopicSpec
from services.runtime.errors import HongyanError, KafkaUnavailableError, RecordTooLargeError
from services.runtime.kafka.port import HeaderList, Partition, Placed, Sent
from tests.fakes.kafka import FakeKafka

TOPIC = "parked.market"


class Refusing:
    """A producer that refuses some records, at once or later, before it writes any."""

    def __init__(self, cluster: FakeKafka, refusals: list[HongyanError], at_once: bool) -> None:
        self._producer = cluster.producer()
        self._refusals = refusals
        self._at_once = at_once

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: HeaderList = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Sent:
        """Refuse, or write."""
        if not self._refusals:
            return self._producer.send(topic, key=key, value=value, headers=headers)
        error = self._refusals.pop()
        if self._at_once:
            raise error
        return Failed(error)

    def ready(self, topic: str) -> bool:
        """Tell that nothing is waited for."""
        return True

    def flush(self, timeout_s: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Failed:
    """A record that was not written."""

    def __init__(self, error: HongyanError) -> None:
        self._error = error

    def result(self, timeout_s: float) -> Placed:
        """Raise why."""
        raise self._error

    def then(self, on_done: Callable[[Placed | None, Exception | None], None]) -> None:
        """Say why."""
        on_done(None, self._error)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("error", "written"),
    [(KafkaUnavailableError("no right to write"), b"long"), (RecordTooLargeError("long"), b"short")],
)
def test_a_refused_record_is_kept_until_it_is_written(at_once: bool, error: HongyanError, written: bytes) -> None:
    """One too large gives way to its short form; its event is ended only then."""
    cluster = FakeKafka()
    cluster.admin().ensure_topics([TopicSpec(TOPIC, 1)])
    outbox, acknowledged = Outbox(lambda call: call()), []
    outbox.attach(Refusing(cluster, [error], at_once))
    short = Outgoing(TOPIC, b"k", b"short", [])
    outbox.put(Outgoing(TOPIC, b"k", b"long", [], short), lambda: acknowledged.append(True))
    assert (len(outbox), acknowledged) == (1, [])
    outbox.flush()
    assert (len(outbox), acknowledged) == (0, [True])
    reader = cluster.consumer(None)
    reader.assign([Partition(TOPIC, 0)])
    assert [record.value for found in reader.poll(0, 10).values() for record in found] == [written]

"""Which of several alerters tells people, while Kafka can say so and while it can't."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from consumers.alerter.duty import Duty
from schemas.topics import Topics
from tests.conditions import eventually
from tests.fakes.hand_clock import HandClock
from tests.fakes.kafka import FakeKafka

TOPICS = Topics()
AWAY_S = 5.0


class CountingKafka(FakeKafka):
    """A cluster that counts how often it was asked in vain."""

    refused = 0

    def check(self) -> None:
        """Count."""
        self.refused += self.away
        super().check()


@contextmanager
def serving(duty: Duty) -> Iterator[None]:
    """Have it serve in the background, with work that lasts until its duty ends."""
    stop = threading.Event()
    thread = threading.Thread(target=duty.serve, args=(lambda over: over.wait(30), stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


def test_who_is_started_while_kafka_is_away_tells_and_stands_back_for_who_has_the_duty() -> None:
    """Twice is better than not at all."""
    kafka, clock = FakeKafka(), HandClock()
    kafka.admin().ensure_topics([TOPICS.alerts_spec()])
    other = kafka.consumer(TOPICS.group("alerter"))
    other.subscribe([TOPICS.alerts], lambda _: None, lambda _: None)
    kafka.away = True
    duty = Duty(kafka, TOPICS, clock, AWAY_S)
    with serving(duty):
        assert duty.state == "asking"
        clock.seconds = AWAY_S + 1
        eventually(lambda: duty.state == "on-duty", 10)
        kafka.away = False
        eventually(lambda: duty.state == "standby", 10)


def test_who_is_on_duty_stays_so_while_kafka_is_away() -> None:
    """It is what tells people of that."""
    kafka, clock = CountingKafka(), HandClock()
    duty = Duty(kafka, TOPICS, clock, AWAY_S)
    with serving(duty):
        eventually(lambda: duty.state == "on-duty", 10)
        kafka.away = True
        clock.seconds = 6.0
        eventually(lambda: kafka.refused > 2, 10, "it was asked for again and again")
        assert (duty.state, duty.sure()) == ("on-duty", True)

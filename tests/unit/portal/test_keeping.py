"""What a page has shown last is shown again while its server is away, with the time that it is of."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.portal.web.keeping import MOST, Kept
from services.portal.web.outages import Away, Outages
from services.runtime.errors import KafkaUnavailableError, NotFoundError
from tests.fakes.virtual_time import START, VirtualClock


def away() -> str:
    """Fail as a reading does while Kafka is away."""
    raise KafkaUnavailableError


def test_the_last_answer_is_shown_with_its_time() -> None:
    """And only to whom it was given: another key has nothing kept, and says that the server is away."""
    clock = VirtualClock()
    kept = Kept("kafka", Outages(clock), clock)
    assert kept.get("market", lambda: "three") == ("three", START)
    clock.seconds += 60
    assert kept.get("market", away) == ("three", START)
    with pytest.raises(KafkaUnavailableError):
        kept.get("another", away)
    assert kept.get("market", lambda: "two") == ("two", START + timedelta(seconds=60))


def test_a_server_that_is_known_to_be_away_is_not_waited_for() -> None:
    """Nothing is asked of it; what was never asked before is."""
    clock = VirtualClock()
    outages = Outages(clock)
    kept = Kept("kafka", outages, clock)
    kept.get("a", lambda: 1)
    outages.add("kafka", lambda: Away("kafka", START, "closed"))
    assert kept.get("a", lambda: 2) == (1, START)
    assert kept.get("b", lambda: 3) == (3, START)


def test_other_errors_are_told_and_old_answers_are_forgotten() -> None:
    """What is not there is not there; so many answers are kept."""
    clock = VirtualClock()
    kept = Kept("kafka", Outages(clock), clock)
    kept.get(0, lambda: "x")

    def gone() -> str:
        raise NotFoundError("gone")

    with pytest.raises(NotFoundError):
        kept.get(0, gone)
    for key in range(1, MOST + 1):
        kept.get(key, lambda: "x")
    with pytest.raises(KafkaUnavailableError):
        kept.get(0, away)

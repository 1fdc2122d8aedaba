"""What a page has shown last is shown again while its server is away, with the time that it is of."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from services.portal.web.outages import DATABASE, KAFKA, LATE_S, Away, Outages
from services.portal.web.remembering import MOST, PATIENT_S, SLOW, Held, Kept
from services.runtime.errors import DatabaseUnavailableError, KafkaUnavailableError, NotFoundError, UnavailableError
from tests.conditions import eventually
from tests.fakes.virtual_time import START, VirtualClock

FRESH = timedelta(seconds=5)


def away() -> str:
    """Fail as a reading does while Kafka is away."""
    raise KafkaUnavailableError("no answer")


def test_the_last_answer_is_shown_with_its_time() -> None:
    """And only to whom it was given: another key has nothing kept, and says that the server is away."""
    clock = VirtualClock()
    kept = Kept(clock)
    assert kept.get("market", lambda: "three") == Held("three", START)
    clock.seconds += 60
    assert kept.get("market", away) == Held("three", START, "no answer")
    with pytest.raises(KafkaUnavailableError):
        kept.get("another", away)
    assert kept.get("market", lambda: "two") == Held("two", START + timedelta(seconds=60))


def test_what_is_fresh_is_not_read_again_unless_it_has_changed() -> None:
    """After a change the next reader reads; while that fails what was read last stays, and is tried again."""
    clock, numbers = VirtualClock(), iter(range(1, 9))
    kept = Kept(clock)

    def read() -> int:
        return next(numbers)

    assert [kept.get("n", read, FRESH).value for _ in range(2)] == [1, 1]
    kept.forget("n")
    assert kept.get("n", away, FRESH) == Held(1, START, "no answer")
    assert kept.get("n", read, FRESH).value == 2
    clock.seconds += 6
    assert kept.get("n", read, FRESH).value == 3


def test_many_who_ask_at_once_have_it_read_once() -> None:
    """The others wait for the one who reads."""
    kept, read = Kept(VirtualClock()), []
    with ThreadPoolExecutor(8) as askers:
        found = list(askers.map(lambda _: kept.get("n", lambda: read.append(1) or "x", FRESH).value, range(8)))
    assert (found, len(read)) == (["x"] * 8, 1)


def test_one_slow_reading_holds_up_nobody_else() -> None:
    """Whoever asks meanwhile gets what was read last, marked with its time, or is told so; a second later at once."""
    clock, go_on, reading = VirtualClock(), threading.Event(), threading.Event()
    kept = Kept(clock)
    kept.get("n", lambda: "old", FRESH)
    clock.seconds += 60

    def slowly() -> str:
        reading.set()
        return "new" if go_on.wait(20) else "never"

    with ThreadPoolExecutor(2) as readers:
        known, first = (readers.submit(kept.get, key, slowly, FRESH) for key in ("n", "m"))
        assert reading.wait(10)
        eventually(lambda: all(place.begun_s for place in kept._places.values()), 10, "both being read")
        clock.seconds += PATIENT_S
        began = time.monotonic()
        try:
            assert [kept.get("n", lambda: "x", FRESH) for _ in range(50)] == [Held("old", START, SLOW)] * 50
            with pytest.raises(UnavailableError, match=re.escape(SLOW)):
                kept.get("m", lambda: "x", FRESH)
            kept.forget("n")
            assert time.monotonic() - began < PATIENT_S
        finally:
            go_on.set()
        assert (known.result(10).value, first.result(10).value) == ("new", "new")
    assert kept.get("n", lambda: "changed", FRESH).value == "changed"


def test_other_errors_are_told_and_old_answers_are_forgotten() -> None:
    """What is not there is not there; so many answers are kept."""
    kept = Kept(VirtualClock())
    kept.get(0, lambda: "x")

    def gone() -> str:
        raise NotFoundError("gone")

    with pytest.raises(NotFoundError):
        kept.get(0, gone)
    for key in range(1, MOST + 1):
        kept.get(key, lambda: "x")
    with pytest.raises(KafkaUnavailableError):
        kept.get(0, away)


def test_a_server_that_hangs_is_away_since_it_last_answered_and_nobody_waits_for_it() -> None:
    """It has not refused, but it owes an answer for too long; another server is not hidden by it."""
    clock, go_on, asked = VirtualClock(), threading.Event(), threading.Event()
    outages = Outages(clock)

    def hang() -> bool:
        asked.set()
        return go_on.wait(10)

    severed: list[bool] = []
    outages.watch(KAFKA, hang, lambda: severed.append(True))
    outages.watch(DATABASE, lambda: True)
    looking = threading.Thread(target=outages.look, args=(KAFKA,))
    clock.seconds += 2
    looking.start()
    assert asked.wait(10)
    assert outages.away() == []
    outages.missed(KAFKA, "a page was told so first")
    clock.seconds += LATE_S + 1
    outages.look(DATABASE)
    assert outages.away() == [Away(KAFKA, START, "a page was told so first")]
    with pytest.raises(KafkaUnavailableError, match="Kafka 没有应答"):
        outages.check(KAFKA)
    assert severed == [True]
    outages.check(DATABASE)
    go_on.set()
    looking.join(10)
    assert outages.away() == []
    outages.watch(DATABASE, lambda: False)
    outages.look(DATABASE)
    with pytest.raises(DatabaseUnavailableError):
        outages.check(DATABASE)

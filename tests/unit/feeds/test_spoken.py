"""What an agency has given its word on: found for any range, and of the event that stands at the cursor now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from consumers.feeds.entry import Entry
from consumers.feeds.history import History
from consumers.feeds.receipt import receipt_of
from consumers.feeds.spoken import APART_MS, Spoken, Word
from schemas.receipts import Outcome
from schemas.topics import Topics
from services.runtime.errors import UnavailableError
from tests.fakes.kafka import FakeKafka, FakeRecord

TOPICS = Topics()
AT_MS = 10 * APART_MS


@pytest.fixture
def kafka() -> FakeKafka:
    """Return a cluster with the topic of receipts."""
    kafka = FakeKafka()
    kafka.admin().ensure_topics(TOPICS.base_specs([]))
    return kafka


@pytest.fixture
def spoken(kafka: FakeKafka) -> Iterator[Spoken]:
    """Look at its receipts."""
    found = Spoken(kafka, TOPICS)
    yield found
    found.close()


def entry(cursor: int, event: str | None = None) -> Entry:
    """Return the event at a cursor; each came an hour after the one before it."""
    record = FakeRecord(TOPICS.feed("a"), 0, cursor, AT_MS + cursor * APART_MS, b"k", b"v", [])
    return Entry(cursor, {"id": event or f"e-{cursor}"}, b"", record)


def back_in_time(one: Entry, by_ms: int) -> Entry:
    """Return an event that bears an earlier time than those before it."""
    before = one.record
    record = FakeRecord(before.topic, 0, one.cursor, before.timestamp - 2 * by_ms, before.key, before.value, [])
    return replace(one, record=record)


def say(kafka: FakeKafka, agency: str, outcome: Outcome, one: Entry) -> None:
    """Put a receipt on the log as soon as the event is in the feed."""
    receipt = receipt_of(agency, "pull", one, outcome, "x", "2026-01-05T09:00:00+08:00")
    kafka.producer().send(
        TOPICS.receipts, key=agency.encode(), value=receipt.to_bytes(), timestamp_ms=one.record.timestamp
    ).result(1)


def said_of(spoken: Spoken, *entries: Entry) -> set[int]:
    """Return the cursors of those of which something was said."""
    return set(asyncio.run(spoken.of("a", entries)))


def test_only_what_the_agency_said_itself_of_this_very_event_is_its_word(kafka: FakeKafka, spoken: Spoken) -> None:
    """Not our own receipts, nor another agency's, nor what was said of another event at the cursor."""
    say(kafka, "a", "rejected", entry(0))
    say(kafka, "a", "accepted", entry(1))
    say(kafka, "a", "delivered", entry(2))
    say(kafka, "a", "parked", entry(3))
    say(kafka, "b", "accepted", entry(4))
    say(kafka, "a", "accepted", entry(5, "of a feed that was made anew since"))
    assert said_of(spoken, *(entry(n) for n in range(6))) == {0, 1}


def test_the_newest_word_counts(kafka: FakeKafka, spoken: Spoken) -> None:
    """With its reason, by whichever process it was taken."""
    outcomes: tuple[Outcome, ...] = ("accepted", "rejected")
    for outcome in outcomes:
        say(kafka, "a", outcome, entry(0))
    assert asyncio.run(spoken.of("a", [entry(0)])) == {0: Word("e-0", "rejected", "x")}
    say(kafka, "a", "accepted", entry(0))
    assert asyncio.run(spoken.of("a", [entry(0)])) == {0: Word("e-0", "accepted", "x")}


@pytest.mark.parametrize("again", [range(2), range(6), range(3, 6)])
def test_a_range_is_looked_at_in_full_wherever_an_earlier_one_was(
    kafka: FakeKafka, spoken: Spoken, again: range
) -> None:
    """What lies before the last range is let go, and read again where somebody goes back."""
    for cursor in range(6):
        say(kafka, "a", "accepted", entry(cursor))
    assert said_of(spoken, entry(4), entry(5)) == {4, 5}
    assert said_of(spoken, *(entry(n) for n in again)) == set(again)
    say(kafka, "a", "accepted", entry(6))
    assert said_of(spoken, entry(6), entry(7)) == {6}


def test_the_log_is_read_once_though_events_bear_times_that_go_back(
    kafka: FakeKafka, spoken: Spoken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranges that move on ask for nothing that was read before."""
    for cursor in range(6):
        say(kafka, "a", "accepted", entry(cursor))
    assert said_of(spoken, entry(2), entry(3)) == {2, 3}
    assert said_of(spoken, entry(5)) == {5}
    begun: list[int] = []
    monkeypatch.setattr(History, "at", lambda _, __, since_ms: begun.append(since_ms))
    assert said_of(spoken, back_in_time(entry(6), APART_MS)) == set()
    assert begun == []


def test_a_record_that_is_no_receipt_stops_no_receipts(kafka: FakeKafka, spoken: Spoken) -> None:
    """Whatever stands there under the agency's key."""
    for value in (b"", b"no json", b"[1]", b'{"outcome": "accepted", "cursor": "0"}'):
        kafka.producer().send(TOPICS.receipts, key=b"a", value=value, timestamp_ms=AT_MS).result(1)
    say(kafka, "a", "accepted", entry(1))
    assert said_of(spoken, entry(0), entry(1)) == {1}


def test_a_log_that_was_made_anew_is_read_from_its_beginning(kafka: FakeKafka, spoken: Spoken) -> None:
    """Whoever asks then is told to come again, once."""
    say(kafka, "a", "accepted", entry(0))
    say(kafka, "b", "accepted", entry(0))
    assert said_of(spoken, entry(0)) == {0}
    for log in kafka.logs.values():
        log.clear()
    with pytest.raises(UnavailableError):
        said_of(spoken, entry(0))
    say(kafka, "a", "accepted", entry(0))
    assert said_of(spoken, entry(0)) == {0}

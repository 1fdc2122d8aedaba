"""One agency's line under any interleaving of answers, delays, commits and decisions, on a virtual clock."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.pusher.line import Delivery, Ended, Line, Receiver
from consumers.pusher.message import Message
from services.delivery.breaker import Breaker
from services.delivery.outcome import Delivered, Gone, Later, Outcome, Refused
from services.delivery.retry import RetryPolicy
from services.delivery.window import Window
from services.runtime.kafka.port import Partition
from tests.fakes.kafka import FakeRecord
from tests.fakes.virtual_time import VirtualClock, run

WINDOW = 6
CONCURRENCY = 3
HOLD_AFTER = 3
RECEIVER = Receiver("scjg", "http://127.0.0.1/", ("secret",))


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt comes to, after how many seconds."""

    outcome: Outcome
    seconds: float


@dataclass
class ScriptedOffice:
    """Answers each event's attempts by a script, then with 2xx, and checks the line's promises as it goes."""

    clock: VirtualClock
    keys: dict[int, bytes]
    scripts: dict[int, list[Attempt]]
    recording_s: float = 0.0
    line: Line = field(init=False)
    open: set[int] = field(default_factory=set)
    recorded: Counter[int] = field(default_factory=Counter)
    attempts: list[tuple[float, int]] = field(default_factory=list)
    most_open: int = 0
    gone_reasons: list[str] = field(default_factory=list)

    def build(self, delivery: Delivery) -> Message | Refused | Later:
        """Build a message that only names its event."""
        return Message(str(delivery.record.offset), "urn:test", "test", "", None, b"{}")

    async def send(self, receiver: Receiver, delivery: Delivery, message: Message) -> Outcome:
        """Take the scripted time and give the scripted answer."""
        offset = delivery.record.offset
        earlier = [o for o in self.keys if o < offset and self.keys[o] == self.keys[offset]]
        assert all(self.recorded[o] for o in earlier), "an earlier event of the key had not ended"
        assert not self.recorded[offset], "an event that had ended was sent again"
        assert offset < min(o for o in self.keys if not self.recorded[o]) + WINDOW * 3, "beyond the window"
        self.attempts.append((self.clock.seconds, offset))
        self.open.add(offset)
        self.most_open = max(self.most_open, len(self.open))
        script = self.scripts.get(offset, [])
        attempt = script.pop(0) if script else Attempt(Delivered(204), 0.01)
        await asyncio.sleep(attempt.seconds)
        self.open.discard(offset)
        return attempt.outcome

    def record(self, ended: Ended, on_recorded: Callable[[], None]) -> None:
        """Put an end on record after the scripted time; the cursor must not have passed it before."""
        offset = ended.delivery.record.offset
        assert self.line.to_commit().offset <= offset, "the cursor passed an event that had not ended"

        def recorded() -> None:
            self.recorded[offset] += 1
            on_recorded()
            unfinished = [o for o in self.keys if not self.recorded[o]]
            assert self.line.to_commit().offset <= min(unfinished, default=max(self.keys) + 1)

        asyncio.get_running_loop().call_later(self.recording_s, recorded)

    def gone(self, agency: str, reason: str) -> None:
        """Note that the agency is to be suspended."""
        self.gone_reasons.append(reason)


def office_with(keys: dict[int, bytes], scripts: dict[int, list[Attempt]], recording_s: float = 0.0) -> ScriptedOffice:
    """Return an office with a line of its own."""
    clock = VirtualClock()
    office = ScriptedOffice(clock, keys, scripts, recording_s)
    breaker = Breaker(RetryPolicy(1.0, 60.0), HOLD_AFTER, random.Random(7).random)
    office.line = Line(Partition("feed.scjg", 0), RECEIVER, office, Window(WINDOW, 0), breaker, clock, CONCURRENCY)
    return office


def record(offset: int, key: bytes) -> FakeRecord:
    """Return a record of the feed."""
    return FakeRecord("feed.scjg", 0, offset, 0, key, b"", [])


async def feed_until_ended(office: ScriptedOffice, limit_s: float = 100_000.0) -> None:
    """Give the line its events as it asks for them, and commit now and then, until all have ended."""
    coming = [record(offset, key) for offset, key in sorted(office.keys.items())]
    while sum(office.recorded.values()) < len(office.keys):
        assert office.clock.seconds < limit_s, "the line stands still"
        if coming and office.line.wants_more():
            count = max(1, len(coming) // 3)
            office.line.take(coming[:count])
            coming = coming[count:]
        office.line.committed(office.line.to_commit().offset)
        await asyncio.sleep(0.05)
    office.line.close()


outcomes = st.one_of(
    st.just(Delivered(200)),
    st.just(Refused("HTTP 400", 400)),
    st.builds(Later, st.just("HTTP 503"), st.just(503), st.sampled_from([0.0, 0.0, 5.0])),
    st.just(Later("connection refused")),
)
attempts = st.lists(st.builds(Attempt, outcomes, st.sampled_from([0.0, 0.001, 0.3, 10.0])), max_size=4)


@st.composite
def feeds(draw: st.DrawFn) -> tuple[dict[int, bytes], dict[int, list[Attempt]]]:
    """Return a feed with gaps between its cursors, and what the receiver answers to each event."""
    offset, keys, scripts = 0, {}, {}
    for _ in range(draw(st.integers(1, 20))):
        offset += draw(st.integers(1, 3))
        keys[offset] = draw(st.sampled_from([b"a", b"b", b"c", b"d"]))
        scripts[offset] = draw(attempts)
    return keys, scripts


@settings(max_examples=150, deadline=None)
@given(feeds(), st.sampled_from([0.0, 0.2]))
def test_every_event_ends_once_in_order_per_key_and_the_cursor_never_passes_an_open_one(
    feed: tuple[dict[int, bytes], dict[int, list[Attempt]]], recording_s: float
) -> None:
    """Whatever the receiver answers, and however slowly ends are recorded."""
    keys, scripts = feed
    office = office_with(keys, scripts, recording_s)
    run(office.clock, feed_until_ended(office))
    assert office.recorded == Counter(dict.fromkeys(keys, 1))
    assert office.most_open <= CONCURRENCY
    assert office.line.to_commit().offset == max(keys) + 1


def test_a_dead_receiver_is_probed_with_its_oldest_event_alone() -> None:
    """Once the line is held, attempts are one at a time, of the oldest event, ever further apart."""
    keys = {offset: str(offset).encode() for offset in range(3)}
    dead = Attempt(Later("connection refused"), 0.001)
    office = office_with(keys, {0: [dead] * 8, 1: [dead], 2: [dead]})

    async def body() -> None:
        office.line.take([record(offset, key) for offset, key in keys.items()])
        while sum(office.recorded.values()) < len(keys):
            await asyncio.sleep(1.0)
        office.line.close()

    run(office.clock, body())
    probes = office.attempts[3:10]
    assert [offset for _, offset in probes] == [0] * 7
    pauses = [b - a for (a, _), (b, _) in pairwise(probes)]
    assert pauses[-1] > pauses[0]
    assert max(pauses) < 61
    assert sorted(offset for _, offset in office.attempts[-3:]) == [0, 1, 2]


def test_a_held_line_says_since_when_and_why_until_it_flows_again() -> None:
    """The note beside the cursor keeps its beginning while the reason stays the same."""
    office = office_with({0: b"a", 1: b"b", 2: b"c"}, {0: [Attempt(Later("HTTP 503", 503), 0.0)] * 6})
    notes: list[str] = []

    async def watch() -> None:
        while sum(office.recorded.values()) < 3:
            if (note := office.line.note()) and note not in notes:
                notes.append(note)
            await asyncio.sleep(0.01)

    async def both() -> None:
        await asyncio.gather(feed_until_ended(office), watch())

    run(office.clock, both())
    assert [orjson.loads(note)["why"] for note in notes] == ["HTTP 503"]
    assert office.line.note() == ""


def test_retry_after_is_waited_for() -> None:
    """A receiver that asks for ten minutes gets them, from every event."""
    office = office_with({0: b"a", 1: b"b"}, {0: [Attempt(Later("HTTP 429", 429, 600.0), 0.0)]})

    async def body() -> None:
        office.line.take([record(0, b"a")])
        await asyncio.sleep(0.1)
        office.line.take([record(1, b"b")])
        while sum(office.recorded.values()) < 2:
            await asyncio.sleep(1.0)
        office.line.close()

    run(office.clock, body())
    assert [offset for _, offset in office.attempts] == [0, 0, 1]
    assert office.attempts[1][0] >= 600.0


def test_a_receiver_that_is_gone_gets_nothing_more_until_somebody_decides() -> None:
    """410 asks for the suspension and holds the line; another sink opens it, and the event is still there."""
    office = office_with({0: b"a"}, {0: [Attempt(Gone("HTTP 410"), 0.0)]})

    async def body() -> None:
        office.line.take([record(0, b"a")])
        await asyncio.sleep(3600.0)
        assert office.gone_reasons == ["HTTP 410"]
        assert len(office.attempts) == 1
        assert office.line.to_commit().offset == 0
        office.line.set_receiver(replace(RECEIVER, sink="http://127.0.0.1/new"))
        await asyncio.sleep(1.0)
        assert office.recorded == Counter({0: 1})
        office.line.close()

    run(office.clock, body())


def test_a_suspended_agency_keeps_its_events_and_its_place() -> None:
    """Held by a decision: nothing is sent, nothing is passed over; released: everything goes."""
    keys = dict.fromkeys(range(4), b"k")
    office = office_with(keys, {})

    async def body() -> None:
        office.line.set_receiver(replace(RECEIVER, held="suspended"))
        office.line.take([record(offset, b"k") for offset in keys])
        await asyncio.sleep(86_400.0)
        assert not office.attempts
        assert orjson.loads(office.line.note())["why"] == "suspended"
        office.line.set_receiver(RECEIVER)
        while sum(office.recorded.values()) < len(keys):
            await asyncio.sleep(0.1)
        office.line.close()

    run(office.clock, body())
    assert [offset for _, offset in office.attempts] == [0, 1, 2, 3]


def test_a_closed_line_records_nothing_of_what_was_under_way() -> None:
    """The next owner of the feed sends it again; two ends of one event never come from here."""
    office = office_with({0: b"a"}, {0: [Attempt(Delivered(204), 5.0)]})

    async def body() -> None:
        office.line.take([record(0, b"a")])
        await asyncio.sleep(1.0)
        assert office.line.busy()
        office.line.close()
        await asyncio.sleep(60.0)

    run(office.clock, body())
    assert not office.recorded
    assert office.line.to_commit().offset == 0

"""One agency's line under any interleaving of answers, delays, commits and decisions, on a virtual clock."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.pusher.line import Delivery, Ended, Line, Unready
from schemas.envelope import message_id_of
from services.delivery.breaker import Breaker
from services.delivery.cursors import has_left
from services.delivery.message import Format, Message
from services.delivery.outcome import Delivered, Gone, Later, Outcome, Refused
from services.delivery.profile import Bearer, Profile
from services.delivery.receiver import LiveKey, Receiver
from services.delivery.retry import RetryPolicy
from services.delivery.window import Window
from services.runtime.kafka.port import Committed, Partition
from services.subscriptions.control import ParkOrder
from tests.fakes.kafka import FakeRecord
from tests.fakes.virtual_time import START, VirtualClock, run

WINDOW = 6
CONCURRENCY = 3
HOLD_AFTER = 3
POLICY = RetryPolicy(1.0, 60.0)
PROFILE = Profile(WINDOW, CONCURRENCY, 30.0, 5.0, POLICY, HOLD_AFTER, catch_up_per_s=1e9)
RECEIVER = Receiver("scjg", "http://127.0.0.1/", (LiveKey("secret"),), PROFILE)


WORSE = (Delivered, Later, Refused, Gone)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt comes to, after how many seconds."""

    outcome: Outcome
    seconds: float


def delivery_body(deliveries: Sequence[Delivery], offset: int) -> bytes:
    """Return what one of the deliveries sends."""
    (message,) = [delivery.message for delivery in deliveries if delivery.record.offset == offset]
    assert message is not None
    return message.body


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
    requests: int = 0
    undecodable: set[int] = field(default_factory=set)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    gone_reasons: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)
    bound: int = WINDOW * 3
    unready: dict[int, asyncio.Future[None]] = field(default_factory=dict)
    formats: list[tuple[Format, int]] = field(default_factory=list)

    def build(self, delivery: Delivery, form: Format) -> Message | Refused | Unready:
        """Build a message that only names its event."""
        if delivery.record.offset in self.unready and not self.unready[delivery.record.offset].done():
            return Unready(self.unready[delivery.record.offset])
        if delivery.record.offset in self.undecodable:
            return Refused("undecodable")
        self.formats.append((form, delivery.record.offset))
        return Message("evt_0", str(delivery.record.offset), "urn:test", "test", "", None, form.encode())

    async def send(self, receiver: Receiver, deliveries: Sequence[Delivery]) -> Outcome:
        """Take the scripted time and give the scripted answer; a batch is answered as its worst event is."""
        offsets = [delivery.record.offset for delivery in deliveries]
        assert len({self.keys[offset] for offset in offsets}) == len(offsets) <= receiver.profile.batch
        for offset in offsets:
            self._check(offset)
            assert delivery_body(deliveries, offset) == receiver.profile.format.encode()
            self.attempts.append((self.clock.seconds, offset))
            self.open.add(offset)
        self.batches.append(offsets)
        self.requests += 1
        self.most_open = max(self.most_open, self.requests)
        scripts = [self.scripts.get(offset, []) for offset in offsets]
        found = [script[0] if script else Attempt(Delivered(204), 0.01) for script in scripts]
        worst = max(found, key=lambda attempt: WORSE.index(type(attempt.outcome)))
        for script in scripts:
            if script and (len(offsets) == 1 or not isinstance(worst.outcome, Refused)):
                script.pop(0)
        await asyncio.sleep(worst.seconds)
        self.open -= set(offsets)
        self.requests -= 1
        return worst.outcome

    def _check(self, offset: int) -> None:
        earlier = [o for o in self.keys if o < offset and self.keys[o] == self.keys[offset]]
        assert all(self.recorded[o] for o in earlier), "an earlier event of the key had not ended"
        assert not self.recorded[offset], "an event that had ended was sent again"
        assert offset < min(o for o in self.keys if not self.recorded[o]) + self.bound, "beyond the window"
        assert offset not in self.open, "an event was sent twice at once"

    def record(self, ended: Ended, on_recorded: Callable[[], None]) -> None:
        """Put an end on record after the scripted time; the cursor must not have passed it before."""
        offset = ended.delivery.record.offset
        self.outcomes[offset] = ended.outcome
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

    def held(self, agency: str, why: str) -> None:
        """Note that it was told."""
        self.told.append(f"held: {why}")

    def flows(self, agency: str, *, was_gone: bool) -> None:
        """Note that it was told."""
        self.told.append("flows, was gone" if was_gone else "flows")


def office_with(
    keys: dict[int, bytes],
    scripts: dict[int, list[Attempt]],
    recording_s: float = 0.0,
    receiver: Receiver = RECEIVER,
) -> ScriptedOffice:
    """Return an office with a line of its own."""
    clock = VirtualClock()
    office = ScriptedOffice(clock, keys, scripts, recording_s)
    breaker = Breaker(POLICY, HOLD_AFTER, random.Random(7).random)
    office.line = Line(Partition("feed.scjg", 0), receiver, office, Window(WINDOW, 0), breaker, clock)
    return office


def wanted(*offsets: int) -> dict[int, ParkOrder]:
    """Return orders to park these records."""
    return dict.fromkeys(offsets, ParkOrder("停放", message_id_of([])))


def record(offset: int, key: bytes, age_s: float = 0.0) -> FakeRecord:
    """Return a record of the feed, of this age at the start."""
    at = START - timedelta(seconds=age_s)
    return FakeRecord("feed.scjg", 0, offset, int(at.timestamp() * 1000), key, b"", [])


async def feed_until_ended(
    office: ScriptedOffice, limit_s: float = 100_000.0, old: Collection[int] = (), uncommitted: int = 0
) -> None:
    """Give the line its events as it asks for them, and commit now and then, until all have ended.

    ``uncommitted``: how many of the first commits fail.
    """
    coming = [record(offset, key, 3600.0 * (offset in old)) for offset, key in sorted(office.keys.items())]
    while sum(office.recorded.values()) < len(office.keys):
        assert office.clock.seconds < limit_s, "the line stands still"
        if coming and office.line.wants_more():
            count = max(1, len(coming) // 3)
            office.line.take(coming[:count])
            coming = coming[count:]
        cursor = office.line.to_commit().offset
        if uncommitted > 0:
            uncommitted -= 1
        else:
            office.line.committed(cursor)
        await asyncio.sleep(0.05)
    office.line.close()


async def disturb(office: ScriptedOffice, changes: Sequence[tuple[float, str]]) -> None:
    """Do to the line what people and other processes may do to it, and resume it wherever its receiver was gone."""
    line, told = office.line, 0
    todo = list(changes)
    while sum(office.recorded.values()) < len(office.keys):
        if len(office.gone_reasons) > told:
            told = len(office.gone_reasons)
            line.set_receiver(replace(line.receiver, held="suspended"))
            await asyncio.sleep(2.0)
            line.set_receiver(replace(line.receiver, held=None))
        pause, kind = todo.pop(0) if todo else (1.0, "nothing")
        await asyncio.sleep(pause)
        await change(office, kind)


async def change(office: ScriptedOffice, kind: str) -> None:
    """Make one change, and take back at once what would stop the line for good."""
    line = office.line
    profile = line.receiver.profile
    match kind:
        case "leave and stay":
            line.leave()
            await asyncio.sleep(1.0)
            line.stay()
        case "rebalance":
            line.winding_down = True
            await asyncio.sleep(0.3)
            line.resume()
        case "narrow":
            line.set_receiver(replace(line.receiver, profile=replace(profile, window=2, concurrency=1)))
        case "wide":
            line.set_receiver(replace(line.receiver, profile=PROFILE))
        case "another sink":
            line.set_receiver(replace(line.receiver, sink=f"{line.receiver.sink}x"))
        case "a token":
            line.set_receiver(replace(line.receiver, profile=replace(profile, auth=Bearer(token="t"))))
        case "another format":
            line.set_receiver(replace(line.receiver, profile=replace(profile, format="avro", batch=1)))
        case "suspended and resumed":
            line.set_receiver(replace(line.receiver, held="suspended"))
            await asyncio.sleep(1.0)
            line.set_receiver(replace(line.receiver, held=None))
        case "parked":
            unfinished = [offset for offset in office.keys if not office.recorded[offset]]
            line.set_receiver(replace(line.receiver, parks=wanted(*unfinished[:1])))


CHANGES = (
    "leave and stay",
    "rebalance",
    "narrow",
    "wide",
    "another sink",
    "a token",
    "another format",
    "suspended and resumed",
    "parked",
)


outcomes = st.one_of(
    st.just(Delivered(200)),
    st.just(Refused("HTTP 400", 400)),
    st.builds(Later, st.just("HTTP 503"), st.just(503), st.sampled_from([0.0, 0.0, 5.0])),
    st.just(Later("connection refused")),
    st.just(Gone("HTTP 410")),
)
changes = st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.7, 9.0]), st.sampled_from(CHANGES)), max_size=5)
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


@settings(max_examples=200, deadline=None)
@given(
    feeds(),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from([1, 3]),
    st.sampled_from([None, 2.0]),
    changes,
    st.integers(0, 9),
)
def test_every_event_ends_once_in_order_per_key_and_the_cursor_never_passes_an_open_one(
    feed: tuple[dict[int, bytes], dict[int, list[Attempt]]],
    recording_s: float,
    batch: int,
    rate: float | None,
    changes: list[tuple[float, str]],
    uncommitted: int,
) -> None:
    """Whatever the receiver answers, however slowly ends are recorded, singly or in batches, at a rate or without.

    Whatever people change meanwhile, and though commits fail.
    """
    keys, scripts = feed
    receiver = replace(RECEIVER, profile=replace(PROFILE, batch=batch, rate_per_s=rate))
    office = office_with(keys, scripts, recording_s, receiver)

    async def both() -> None:
        await asyncio.gather(feed_until_ended(office, uncommitted=uncommitted), disturb(office, changes))

    run(office.clock, both())
    assert office.recorded == Counter(dict.fromkeys(keys, 1))
    assert office.most_open <= CONCURRENCY
    assert office.line.to_commit().offset == max(keys) + 1
    if rate is not None and "wide" not in [kind for _, kind in changes]:
        times = [at for at, _ in office.attempts]
        assert all(sum(1 for at in times if first <= at < first + 0.999) <= rate + 1 for first in times)


def test_of_a_refused_batch_only_the_refused_event_is_parked() -> None:
    """The batch is taken apart: each of its events goes alone, and the others are delivered."""
    refused = Attempt(Refused("HTTP 422", 422), 0.0)
    keys = {offset: str(offset).encode() for offset in range(3)}
    receiver = replace(RECEIVER, profile=replace(PROFILE, batch=10))
    office = office_with(keys, {1: [refused]}, receiver=receiver)

    async def body() -> None:
        office.line.take([record(offset, key) for offset, key in keys.items()])
        while sum(office.recorded.values()) < len(keys):
            await asyncio.sleep(0.05)
        office.line.close()

    run(office.clock, body())
    assert office.batches == [[0, 1, 2], [0], [1], [2]]
    assert office.outcomes == {0: Delivered(204), 1: Refused("HTTP 422", 422), 2: Delivered(204)}


def test_a_rate_is_kept_to_and_a_full_backlog_goes_at_exactly_that_rate() -> None:
    """Ten events at two a second take four and a half seconds, evenly."""
    keys = {offset: str(offset).encode() for offset in range(10)}
    receiver = replace(RECEIVER, profile=replace(PROFILE, rate_per_s=2.0))
    office = office_with(keys, {}, receiver=receiver)
    run(office.clock, feed_until_ended(office))
    times = [at for at, _ in office.attempts]
    assert all(0.49 <= later - earlier <= 0.7 for earlier, later in pairwise(times))


def test_a_batch_holds_no_more_than_a_second_may_have_and_a_changed_rate_holds_at_once() -> None:
    """Fifty would fit in a batch, yet twenty a second are wanted; a slow rate that is lifted is not waited out."""
    receiver = replace(RECEIVER, profile=replace(PROFILE, window=200, batch=50, rate_per_s=20.0))
    keys = {offset: str(offset).encode() for offset in range(60)}
    office = office_with(keys, {}, receiver=receiver)
    office.line.window.size = 200
    office.bound = 200

    async def body() -> None:
        office.line.take([record(offset, key) for offset, key in keys.items()])
        await asyncio.sleep(1.5)
        assert [len(batch) for batch in office.batches] == [20, 20]
        office.line.set_receiver(replace(receiver, profile=replace(receiver.profile, rate_per_s=0.01)))
        await asyncio.sleep(60.0)
        assert len(office.batches) == 2
        office.line.set_receiver(receiver)
        await asyncio.sleep(0.01)
        assert [len(batch) for batch in office.batches] == [20, 20, 20]
        office.line.close()

    run(office.clock, body())


def test_a_backlog_is_caught_up_at_a_pace_and_what_is_fresh_is_not() -> None:
    """Of twenty events ten are an hour old: these go at two a second, the fresh ones as fast as they can."""
    keys = {offset: str(offset).encode() for offset in range(20)}
    receiver = replace(RECEIVER, profile=replace(PROFILE, catch_up_per_s=2.0))
    office = office_with(keys, {}, receiver=receiver)
    run(office.clock, feed_until_ended(office, old=range(10)))
    times = [at for at, _ in sorted(office.attempts, key=lambda attempt: attempt[1])]
    assert all(0.49 <= later - earlier <= 0.7 for earlier, later in pairwise(times[:10]))
    assert times[19] - times[10] < 1.0


def test_what_cannot_be_built_ends_without_the_receiver_and_opens_no_held_line() -> None:
    """An undecodable event is parked, yet the receiver is still away: its line stays held."""
    keys = {0: b"a", 1: b"b"}
    office = office_with(keys, {1: [Attempt(Later("refused"), 0.0)] * 5})
    office.undecodable = {0}

    async def body() -> None:
        office.line.take([record(1, b"b")])
        await asyncio.sleep(3.0)
        assert office.line.breaker.held
        office.line.close()

    run(office.clock, body())
    office = office_with(keys, {1: [Attempt(Later("refused"), 0.0)] * 5})
    office.undecodable = {0}
    run(office.clock, feed_until_ended(office))
    assert office.outcomes[0] == Refused("undecodable")
    assert [offset for _, offset in office.attempts] == [1] * 6
    assert office.told == ["held: refused", "flows"]


def test_people_are_told_when_a_line_is_held_and_when_it_flows_again() -> None:
    """Once each, however many attempts there were; also where another process had told that it was held."""
    dead = Attempt(Later("connection refused"), 0.001)
    office = office_with({0: b"a"}, {0: [dead] * 8})
    run(office.clock, feed_until_ended(office))
    assert office.told == ["held: connection refused", "flows"]
    office = office_with({0: b"a"}, {})
    office.line.troubled = True
    run(office.clock, feed_until_ended(office))
    assert office.told == ["flows"]


def test_a_dead_receiver_is_probed_with_its_oldest_event_alone() -> None:
    """Once the line is held, attempts are one at a time, of the oldest event, ever further apart."""
    keys = {offset: str(offset).encode() for offset in range(3)}
    dead = Attempt(Later("connection refused"), 0.001)
    office = office_with(keys, {0: [dead] * 10, 1: [dead] * 3, 2: [dead] * 3})

    async def body() -> None:
        office.line.take([record(offset, key) for offset, key in keys.items()])
        while sum(office.recorded.values()) < len(keys):
            await asyncio.sleep(1.0)
        office.line.close()

    run(office.clock, body())
    probes = office.attempts[9:16]
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


def test_a_polite_receiver_raises_no_alarm_and_is_noted_all_the_same() -> None:
    """A second's rest, again and again, is told of once it keeps the line as long as failures would."""
    polite = Later("HTTP 429", 429, 1.0)
    office = office_with({0: b"a", 1: b"b"}, {0: [Attempt(polite, 0.0)] * 2, 1: [Attempt(polite, 0.0)] * HOLD_AFTER})

    async def body() -> None:
        office.line.take([record(0, b"a")])
        await asyncio.sleep(0.5)
        assert orjson.loads(office.line.note())["why"] == "HTTP 429"
        while not office.recorded[0]:
            await asyncio.sleep(0.1)
        assert (office.told, office.line.note()) == ([], "")
        office.line.take([record(1, b"b")])
        while not office.recorded[1]:
            await asyncio.sleep(0.1)
        office.line.close()

    run(office.clock, body())
    assert office.told == ["held: HTTP 429", "flows"]


def test_a_wish_for_time_is_kept_whatever_else_the_receiver_says_and_over_a_restart() -> None:
    """One attempt asks for ten minutes; one beside it fails and a slow one succeeds: still nothing goes before."""
    wish = Attempt(Later("HTTP 429", 429, 600.0), 0.1)
    others = {1: [Attempt(Later("HTTP 503", 503), 0.2)], 2: [Attempt(Delivered(204), 5.0)]}
    keys = {offset: str(offset).encode() for offset in range(4)}
    office = office_with(keys, {0: [wish], **others})

    async def body() -> None:
        office.line.take([record(offset, key) for offset, key in keys.items()])
        await asyncio.sleep(300.0)
        assert office.recorded == Counter({2: 1})
        assert office.told == ["held: HTTP 429"]
        note, office.line.closed = office.line.note(), True
        again = office_with(keys, {})
        again.clock, again.line.clock = office.clock, office.clock
        again.line.seed(note)
        again.line.take([record(offset, keys[offset]) for offset in (0, 1, 3)])
        while sum(again.recorded.values()) < 3:
            await asyncio.sleep(1.0)
        assert 600.0 <= again.attempts[0][0] < 602.0
        assert again.told == ["flows"]

    run(office.clock, body())
    assert len(office.attempts) == 3


def test_a_new_address_owes_nothing_to_what_the_old_one_said() -> None:
    """Its wish for a day, its delays, and the answers that still come from it: the next event goes at once."""
    slow_refusal = Attempt(Refused("HTTP 405", 405), 20.0)
    office = office_with({0: b"a", 1: b"b"}, {0: [Attempt(Later("HTTP 503", 503, 86_400.0), 0.0)], 1: [slow_refusal]})

    async def body() -> None:
        office.line.take([record(0, b"a"), record(1, b"b")])
        await asyncio.sleep(10.0)
        office.line.set_receiver(replace(RECEIVER, sink="http://127.0.0.1/new"))
        while sum(office.recorded.values()) < 2:
            await asyncio.sleep(0.1)
        office.line.close()

    run(office.clock, body())
    assert office.outcomes == {0: Delivered(204), 1: Delivered(204)}
    assert office.clock.seconds < 21.0


def test_one_blip_of_a_busy_receiver_costs_one_delay() -> None:
    """Sixteen connections are reset at once by a restart of half a second: all is there after the first delays."""
    busy = replace(PROFILE, window=16, concurrency=16, retry=RetryPolicy(0.5, 60.0))
    keys = {offset: str(offset).encode() for offset in range(16)}
    reset = Attempt(Later("connection reset"), 0.01)
    office = office_with(keys, {offset: [reset] for offset in keys}, receiver=replace(RECEIVER, profile=busy))
    office.line.window.size, office.line.breaker.policy = 16, busy.retry

    async def body() -> None:
        office.line.take([record(offset, key) for offset, key in keys.items()])
        while sum(office.recorded.values()) < len(keys):
            await asyncio.sleep(0.01)
        office.line.close()

    run(office.clock, body())
    assert office.clock.seconds < 0.6
    assert not office.told


def test_what_waits_for_a_schema_says_nothing_of_the_receiver() -> None:
    """The registry hangs: events in known schemas go out, the line isn't held, and what waited goes once it may.

    A held line is probed with the oldest event that can be sent.
    """
    keys = {offset: str(offset).encode() for offset in range(3)}
    office = office_with(keys, {1: [Attempt(Later("HTTP 503", 503), 0.0)] * 5})

    async def body() -> None:
        office.unready = {0: asyncio.get_running_loop().create_future()}
        office.line.take([record(offset, key) for offset, key in keys.items()])
        await asyncio.sleep(3600.0)
        assert office.recorded == Counter({1: 1, 2: 1})
        assert office.told == ["held: HTTP 503", "flows"]
        assert office.line.to_commit() == Committed(0, "")
        office.unready[0].set_result(None)
        await asyncio.sleep(0.1)
        assert office.line.to_commit() == Committed(3, "")
        office.line.close()

    run(office.clock, body())
    assert [offset for _, offset in office.attempts].count(0) == 1


def test_a_receiver_that_is_gone_gets_nothing_more_until_somebody_decides() -> None:
    """410 asks for the suspension and holds the line; another sink opens it, and the event is still there."""
    office = office_with({0: b"a"}, {0: [Attempt(Gone("HTTP 410"), 0.0)]})

    async def body() -> None:
        office.line.take([record(0, b"a")])
        await asyncio.sleep(3600.0)
        assert office.gone_reasons == ["HTTP 410"]
        assert len(office.attempts) == 1
        assert office.line.to_commit().offset == 0
        office.line.set_receiver(replace(RECEIVER, parks=wanted(7), stops={"s": "stopped"}))
        await asyncio.sleep(3600.0)
        assert len(office.attempts) == 1
        office.line.set_receiver(replace(RECEIVER, sink="http://127.0.0.1/new"))
        await asyncio.sleep(1.0)
        assert office.recorded == Counter({0: 1})
        office.line.close()

    run(office.clock, body())


def test_that_a_receiver_was_gone_is_known_over_suspension_and_restart() -> None:
    """So that the alert of it closes once the agency is resumed and has answered."""
    office = office_with({0: b"a"}, {0: [Attempt(Gone("HTTP 410"), 0.0)]})
    again = office_with({0: b"a"}, {})
    again.line.receiver = replace(RECEIVER, held="suspended")

    async def body() -> None:
        office.line.take([record(0, b"a")])
        await asyncio.sleep(1.0)
        office.line.set_receiver(replace(RECEIVER, held="suspended"))
        again.line.seed(office.line.note())
        again.line.take([record(0, b"a")])
        again.line.set_receiver(RECEIVER)
        await asyncio.sleep(1.0)
        assert again.told == ["flows, was gone"]
        office.line.close()
        again.line.close()

    run(office.clock, body())


def test_a_receiver_that_was_gone_gets_nothing_after_a_restart_before_the_suspension_is_in_force() -> None:
    """The next owner asks for the suspension again, sends nothing, and goes on once somebody has decided."""
    office = office_with({0: b"a"}, {0: [Attempt(Gone("HTTP 410"), 0.0)]})
    again, moved = office_with({0: b"a"}, {}), office_with({0: b"a"}, {})
    moved.line.receiver = replace(RECEIVER, sink="http://127.0.0.1/new")

    async def body() -> None:
        office.line.take([record(0, b"a")])
        await asyncio.sleep(1.0)
        for other in (again, moved):
            other.line.seed(office.line.note())
            other.line.take([record(0, b"a")])
        await asyncio.sleep(1.0)
        assert (again.attempts, again.gone_reasons) == ([], ["HTTP 410"])
        assert again.line.note() == office.line.note()
        assert (moved.recorded, moved.gone_reasons) == (Counter({0: 1}), [])
        again.line.set_receiver(replace(RECEIVER, held="suspended"))
        again.line.set_receiver(RECEIVER)
        await asyncio.sleep(1.0)
        assert (again.recorded, again.told) == (Counter({0: 1}), ["flows, was gone"])
        for other in (office, again, moved):
            other.line.close()

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


def test_what_came_by_stopped_grants_ends_unsent_and_holds_nothing_back() -> None:
    """Two grants, one stopped while its event is being retried: the other's, and a follow-up, go out."""
    came_by = {0: b"s", 1: b"s", 2: b"t", 3: b"s,t", 4: b""}
    keys = {offset: str(offset).encode() for offset in came_by}
    office = office_with(keys, {0: [Attempt(Later("HTTP 503"), 0.01)] * 2})

    async def body() -> None:
        office.line.take([replace(record(0, b"0"), headers=[("hongyan-subscriptions", b"s")])])
        await asyncio.sleep(0.02)
        office.line.set_receiver(replace(RECEIVER, stops={"s": "s was stopped"}))
        office.line.take(
            [replace(record(o, keys[o]), headers=[("hongyan-subscriptions", by)]) for o, by in came_by.items() if o]
        )
        while sum(office.recorded.values()) < len(keys):
            await asyncio.sleep(0.1)
        assert office.line.to_commit() == Committed(5, "")
        office.line.close()

    run(office.clock, body())
    assert [offset for _, offset in office.attempts] == [0, 2, 3, 4]
    stopped = Refused("s was stopped", decided=True)
    assert {o for o, outcome in office.outcomes.items() if outcome == stopped} == {0, 1}


def test_an_event_that_somebody_wants_parked_lets_a_held_line_go_on() -> None:
    """The receiver fails on one event for ever, so that the line is held; parked, what follows under its key goes."""
    keys = {0: b"k", 1: b"k", 2: b"k"}
    office = office_with(keys, {0: [Attempt(Later("HTTP 500"), 0.01)] * 1000})

    async def body() -> None:
        office.line.take([record(offset, key) for offset, key in keys.items()])
        await asyncio.sleep(3600.0)
        assert office.line.breaker.held
        assert office.line.to_commit().offset == 0
        office.line.set_receiver(replace(RECEIVER, parks=wanted(0, 2)))
        await asyncio.sleep(61.0)
        assert office.line.to_commit() == Committed(3, "")
        office.line.close()

    run(office.clock, body())
    assert [office.outcomes[offset] for offset in keys] == [
        Refused("停放", decided=True),
        Delivered(204),
        Refused("停放", decided=True),
    ]


def test_an_order_to_park_an_event_is_not_about_another_that_stands_in_its_place() -> None:
    """Orders stay; when the feed was made anew, other events stand at their cursors."""
    office = office_with({0: b"a"}, {})
    office.line.receiver = replace(RECEIVER, parks={0: ParkOrder("停放", "evt_another")})

    async def body() -> None:
        office.line.take([record(0, b"a")])
        await asyncio.sleep(1.0)
        office.line.close()

    run(office.clock, body())
    assert office.outcomes[0] == Delivered(204)


def test_what_was_sent_in_a_format_that_is_no_longer_wanted_goes_again_in_the_new_one() -> None:
    """Its refusal or its time-out says nothing of the event: nothing is parked for it."""
    keys = {0: b"a", 1: b"b"}
    slow = [Attempt(Refused("HTTP 415", 415), 5.0)], [Attempt(Later("timed out"), 10.0)]
    avro = replace(RECEIVER, profile=replace(PROFILE, format="avro"))
    office = office_with(keys, {0: slow[0], 1: slow[1]}, receiver=avro)

    async def changed() -> None:
        await asyncio.sleep(1.0)
        office.line.set_receiver(replace(avro, profile=replace(avro.profile, format="json")))

    async def both() -> None:
        await asyncio.gather(feed_until_ended(office, 300.0), changed())

    run(office.clock, both())
    assert office.outcomes == dict.fromkeys(keys, Delivered(204))
    assert office.formats == [("avro", 0), ("avro", 1), ("json", 0), ("json", 1)]


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


def test_a_line_that_leaves_fills_the_gaps_below_what_it_began_and_begins_nothing_beyond() -> None:
    """Another channel goes on at the cursor, and no event beyond it has gone out."""
    keys = {0: b"a", 1: b"b", 2: b"c", 3: b"a", 4: b"d", 5: b"e"}
    office = office_with(keys, {0: [Attempt(Later("HTTP 503", 503), 0.1), Attempt(Delivered(204), 0.1)]})

    async def body() -> None:
        office.line.take([record(offset, key) for offset, key in keys.items()])
        await asyncio.sleep(0.05)
        office.line.leave()
        assert not office.line.has_left()
        while not office.line.has_left():
            await asyncio.sleep(0.05)

    run(office.clock, body())
    cursor = office.line.to_commit()
    assert (cursor.offset, has_left(cursor.note)) == (max(office.recorded) + 1, True)
    assert set(office.recorded) == set(range(cursor.offset))
    assert office.clock.seconds < 5


def test_a_line_that_leaves_retries_its_gap_though_fresh_events_stand_beyond() -> None:
    """The retry has a time of its own, and nothing else happens until then."""
    keys = {0: b"a", 1: b"b", 2: b"c", 3: b"d"}
    slow = {1: [Attempt(Delivered(204), 0.2)], 2: [Attempt(Delivered(204), 0.2)]}
    office = office_with(keys, {0: [Attempt(Later("HTTP 503", 503), 0.3)], **slow})
    office.line.set_receiver(replace(RECEIVER, profile=replace(PROFILE, concurrency=3)))

    async def body() -> None:
        office.line.take([record(offset, key) for offset, key in keys.items()])
        await asyncio.sleep(0.05)
        office.line.leave()
        while not office.line.has_left():
            await asyncio.sleep(0.05)

    run(office.clock, body())
    assert office.recorded == Counter({0: 1, 1: 1, 2: 1})
    assert office.clock.seconds < 3


def test_a_line_that_leaves_a_dead_receiver_does_not_wait_for_ever() -> None:
    """The other channel may be the way out of just that."""
    office = office_with({0: b"a", 1: b"b"}, {0: [Attempt(Later("refused"), 0.1)] * 99})

    async def body() -> None:
        office.line.take([record(0, b"a"), record(1, b"b")])
        await asyncio.sleep(0.5)
        office.line.leave()
        while not office.line.has_left():
            await asyncio.sleep(0.05)
        office.line.close()

    run(office.clock, body())
    assert office.line.to_commit().offset == 0
    assert office.clock.seconds < 20


def test_an_error_of_ours_leaves_nothing_dangling() -> None:
    """An attempt that crashes is made again, the line says why meanwhile, and every event still ends once."""
    keys = {0: b"a", 1: b"b"}
    office = office_with(keys, {})
    crashes = [RuntimeError("a mistake")] * 6
    send = office.send

    async def crashing(receiver: Receiver, deliveries: Sequence[Delivery]) -> Outcome:
        if crashes:
            raise crashes.pop()
        return await send(receiver, deliveries)

    office.send = crashing  # type: ignore[method-assign]
    run(office.clock, feed_until_ended(office))
    assert office.recorded == Counter({0: 1, 1: 1})
    assert office.told == ["held: 内部错误 (an error of ours): RuntimeError('a mistake')", "flows"]


def test_what_ended_unsent_does_not_end_again_where_the_rest_of_its_batch_crashes() -> None:
    """It is on record by then: parked a second time, its end would be one of an event that is not open."""
    keys = {0: b"a", 1: b"b"}
    office = office_with(keys, {}, receiver=replace(RECEIVER, profile=replace(PROFILE, batch=2)))
    office.undecodable = {0}
    crashes, send = [RuntimeError("a mistake")], office.send

    async def crashing(receiver: Receiver, deliveries: Sequence[Delivery]) -> Outcome:
        if crashes:
            await asyncio.sleep(0.5)
            assert office.recorded[0]
            raise crashes.pop()
        return await send(receiver, deliveries)

    async def body() -> None:
        office.line.take([record(offset, key) for offset, key in keys.items()])
        await asyncio.sleep(30.0)
        office.line.close()

    office.send = crashing  # type: ignore[method-assign]
    run(office.clock, body())
    assert (crashes, office.recorded) == ([], Counter({0: 1, 1: 1}))


def test_an_end_that_could_not_be_put_on_record_is_made_again() -> None:
    """Whether it was delivered, or somebody wants it parked: the event is not left standing for ever."""
    keys = {0: b"a", 1: b"b"}
    office = office_with(keys, {1: [Attempt(Later("HTTP 503", 503), 0.0)] * 9})
    crashes = [RuntimeError("a mistake")] * 2
    write = office.record

    def crashing(ended: Ended, on_recorded: Callable[[], None]) -> None:
        if crashes and ended.delivery.record.offset == len(crashes) % 2:
            raise crashes.pop()
        write(ended, on_recorded)

    office.record = crashing  # type: ignore[method-assign]

    async def body() -> None:
        office.line.take([record(offset, key) for offset, key in keys.items()])
        await asyncio.sleep(30.0)
        with suppress(RuntimeError):
            office.line.set_receiver(replace(RECEIVER, parks=wanted(1)))
        await asyncio.sleep(30.0)
        office.line.close()

    run(office.clock, body())
    assert not crashes
    assert office.recorded == Counter({0: 1, 1: 1})


def test_a_held_line_stays_held_since_the_same_moment_over_a_restart() -> None:
    """The next owner reads the note beside the cursor, and begins by probing."""
    note = orjson.dumps({"held_since": "2025-11-01T00:00:00+00:00", "why": "HTTP 503"}).decode()
    keys = {0: b"a", 1: b"b"}
    office = office_with(keys, {0: [Attempt(Later("HTTP 503", 503), 0.0)]})
    office.line.seed(note)
    assert office.line.note() == note

    async def body() -> None:
        office.line.take([record(0, b"a"), record(1, b"b")])
        await asyncio.sleep(0.1)
        assert [offset for _, offset in office.attempts] == [0]
        assert office.line.note() == note
        while sum(office.recorded.values()) < 2:
            await asyncio.sleep(0.05)

    run(office.clock, body())
    assert (office.line.note(), office.told) == ("", ["flows"])


def test_a_decision_holds_a_line_since_it_was_made() -> None:
    """Not since its receiver began to fail: these moments are evidence."""
    office = office_with({0: b"a"}, {0: [Attempt(Later("HTTP 503", 503), 0.0)] * 9})

    async def body() -> None:
        office.line.take([record(0, b"a")])
        await asyncio.sleep(100.0)
        failing = orjson.loads(office.line.note())
        office.line.set_receiver(replace(RECEIVER, held="suspended"))
        decided = orjson.loads(office.line.note())
        assert (failing["why"], decided["why"]) == ("HTTP 503", "suspended")
        assert decided["held_since"] == office.clock.now().isoformat() > failing["held_since"]
        office.line.close()

    run(office.clock, body())


def test_a_decision_taken_back_while_nobody_delivered_leaves_no_note() -> None:
    """An agency resumed while its pusher was down is not shown as suspended."""
    office = office_with({0: b"a"}, {})
    office.line.set_receiver(replace(RECEIVER, held="suspended"))
    note = office.line.note()
    again = office_with({0: b"a"}, {})
    again.line.seed(note)
    assert again.line.note() == ""
    suspended = office_with({0: b"a"}, {})
    suspended.line.receiver = replace(RECEIVER, held="suspended")
    suspended.line.seed(note)
    suspended.clock.seconds += 3600
    assert suspended.line.note() == note


class Passing(VirtualClock):
    """A clock that goes on while somebody looks at it, as a real one does."""

    step_s = 0.0

    def monotonic(self) -> float:
        """Return the seconds since the start."""
        self.seconds += self.step_s
        return self.seconds


@given(st.floats(0.001, 0.5))
def test_an_attempt_that_falls_due_while_the_line_looks_at_its_clock_is_made(step_s: float) -> None:
    """Nothing else may ever wake a line that nothing comes to and nobody commits."""
    office = office_with({0: b"a"}, {0: [Attempt(Later("HTTP 503", 503), 0.01)] * 2})
    clock = Passing()
    clock.step_s = step_s
    office.clock = office.line.clock = clock

    async def main() -> None:
        office.line.take([record(0, b"a")])
        while not office.recorded[0]:
            assert clock.seconds < 60.0, "the line stands still"
            await asyncio.sleep(0.05)
        office.line.close()

    run(clock, main())
    assert len(office.attempts) == 3

"""The newest events of a feed in memory: bounded, shared, and honest about what they reach back to."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from consumers.feeds.digest import digest_of
from consumers.feeds.entry import Entry
from consumers.feeds.tail import Tail
from tests.fakes.kafka import FakeRecord


def entry(cursor: int, size: int = 10) -> Entry:
    """Return an event of a size at a cursor."""
    return Entry(cursor, {"id": str(cursor)}, b"x" * size, FakeRecord("feed.a", 0, cursor, 0, b"k", b"", []))


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 40)), max_size=60),
    st.integers(1, 12),
    st.integers(20, 200),
    st.integers(0, 80),
    st.integers(1, 9),
)
def test_whatever_a_reader_asks_within_reach_is_what_the_feed_has(
    steps: list[tuple[int, int]], max_events: int, max_bytes: int, back: int, limit: int
) -> None:
    """For any gaps, sizes and limits: from ``start`` on nothing is missing, and the bounds hold."""
    tail = Tail(0, max_events, max_bytes, 0.0)
    feed: list[Entry] = []
    cursor = -1
    for gap, size in steps:
        cursor += gap
        feed.append(entry(cursor, size))
        tail.append([feed[-1]])
    after = max(tail.start - 1, cursor - back)
    assert tail.after(after, limit) == [one for one in feed if one.cursor > after][:limit]
    kept = tail.after(tail.start - 1, 1000)
    assert len(kept) <= max_events
    assert tail.bytes == sum(one.size for one in kept)
    assert tail.bytes <= max_bytes or len(kept) == 1
    assert tail.following == (feed[-1].cursor + 1 if feed else 0)


def test_what_comes_twice_after_an_outage_is_there_once() -> None:
    """The reader may read some records again."""
    tail = Tail(5, 10, 1000, 0.0)
    tail.append([entry(5), entry(6)])
    tail.append([entry(6), entry(7)])
    assert [one.cursor for one in tail.after(4, 10)] == [5, 6, 7]


def test_all_who_wait_are_woken_by_one_event() -> None:
    """A hundred readers wait on one tail."""

    async def wait() -> None:
        tail = Tail(0, 10, 1000, 0.0)
        waiting = [asyncio.ensure_future(tail.grow(30)) for _ in range(100)]
        await asyncio.sleep(0)
        tail.append([entry(0)])
        await asyncio.wait_for(asyncio.gather(*waiting), 5)

    asyncio.run(wait())


def test_a_digest_does_not_depend_on_order_or_repetition() -> None:
    """And it does on every event."""
    told = [("urn:a", "2", "k"), ("urn:a", "1", "k"), ("urn:a", "1", "k2"), ("urn:b", "1", "k")]
    assert digest_of(told) == digest_of([*reversed(told), told[0]])
    assert digest_of(told) != digest_of(told[1:])
    assert digest_of(told).count == 4
    assert digest_of([]).count == 0

"""What a router remembers of a business key: who got it under which policy since when, and whether it has ended."""

from __future__ import annotations

from pathlib import Path

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.router.backfill import Progress
from consumers.router.memory import NOTHING, First, Given, Held, Memory, Scope
from services.runtime.kafka.port import Partition

POLICIES = st.sampled_from(["", "aa", "bb", "aa+bb"])
AGENCIES = st.dictionaries(st.sampled_from(["market", "city-1", "police"]), POLICIES)
STEPS = st.lists(st.tuples(AGENCIES, st.integers(0, 50), st.sampled_from([None, "ends"]), st.booleans()), max_size=6)


@settings(deadline=None)
@given(STEPS)
def test_it_is_read_back_as_it_was_written(steps: list[tuple[dict[str, str], int, str | None, bool]]) -> None:
    """Whatever happened, and in whatever order it is told again: the fold of a ledger read twice is the same."""
    held = NOTHING
    for agencies, offset, effect, follows in steps:
        held = held.after(agencies, offset, effect, follows=follows)
        assert Held.from_bytes(held.to_bytes()) == held
    again = held
    for agencies, offset, effect, follows in reversed(steps):
        again = again.after(agencies, offset, effect, follows=follows)
    assert again == held


def test_what_was_got_under_two_policies_is_held_under_both() -> None:
    """Since the first; whole beats all."""
    held = NOTHING.after({"a": "p1"}, 7).after({"a": "p2"}, 3)
    assert (held.given["a"].policy, held.given["a"].since) == ("p1+p2", 3)
    assert held.after({"a": ""}, 9).given["a"].policy == ""


def test_what_is_restored_stands_again() -> None:
    """The end is forgotten, and comes again with the next one."""
    ended = NOTHING.after({}, 5, "ends")
    assert ended.ended == 5
    assert ended.after({}, 6, "restores").ended == -1
    assert ended.after({}, 6, "restores").after({}, 9, "ends").ended == 9


def test_a_store_of_an_earlier_version_is_read() -> None:
    """Agencies alone, parted by commas: whole events, since ever."""
    held = Held.from_bytes(b"chengdu,market")
    assert {name: (one.policy, one.since) for name, one in held.given.items()} == {
        "chengdu": ("", 0),
        "market": ("", 0),
    }


class Line:
    """A record of the ledger."""

    def __init__(self, at: int, key: bytes, **entry: object) -> None:
        self.topic, self.partition, self.offset, self.timestamp, self.headers = "l", 0, at, 0, ()
        self.key, self.value = key, orjson.dumps({"topic": "events", "config": at + 1, **entry})


def test_the_ledger_tells_everything_again(tmp_path: Path) -> None:
    """Identities, who got what, ends, seams and progress, and the newest configuration."""
    memory = Memory(tmp_path, {"corrected"})
    scope = Scope(Partition("events", 0))
    routed = {"verdict": "routed", "identity": "aa", "digest": "bb", "agencies": {"m": ["s"]}, "follow_up": ["c"]}
    routed["type"] = "issued"
    progress = Progress(9, 0, 4, None, 1, 0)
    memory.fold(
        [scope],
        [
            Line(0, b"k", offset=0, fields={"c": "p"}, **routed),
            Line(1, b"s", verdict="seam", subscription="s", progress=Progress(9).to_json()),
            Line(2, b"s", verdict="backfill", subscription="s", progress=progress.to_json()),
            Line(3, b"k", verdict="backfilled", offset=0, effect="ends", agencies={"x": ["s"]}, follow_up=[], type="t"),
            Line(4, b"k", offset=5, effect="ends", **{**routed, "agencies": {}, "follow_up": []}),
            Line(5, b"k", offset=6, **{**routed, "type": "corrected", "follow_up": []}),
            Line(6, b"k", offset=7, follows="e", **{**routed, "agencies": {"x": ["s"]}, "follow_up": []}),
        ],
    )
    identity, key, kept = memory.get([scope.identity(b"\xaa"), scope.key(b"k"), scope.backfill("s")])
    held = Held.from_bytes(key)
    assert identity is not None
    assert First.from_bytes(identity) == First(b"\xbb", 7)
    assert held.given == {"m": Given("", 0, 6), "c": Given("p", 0), "x": Given("", 0, 7)}
    assert (held.ended, Progress.of(kept), memory.checkpoint(scope), memory.config(scope)) == (5, progress, 7, 7)
    memory.close()

"""The delivery window against its invariants, whatever the interleaving."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.delivery.window import Window

SIZE = 5


class WindowMachine(RuleBasedStateMachine):
    """Admits, ends and commits in any order, beside a plain model."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(SIZE, 0)
        self.next_offset = 0
        self.admitted: list[tuple[int, bytes]] = []
        self.ended: set[int] = set()
        self.sendable: set[int] = set()
        self.committed = 0

    @precondition(lambda self: self.window.room() > 0)
    @rule(gap=st.integers(1, 3), key=st.sampled_from([b"a", b"b", b"c"]))
    def admit(self, gap: int, key: bytes) -> None:
        """Take in the next event; offsets have gaps."""
        offset = self.next_offset
        self.next_offset += gap
        self.admitted.append((offset, key))
        if self.window.admit(offset, key):
            self.sendable.add(offset)

    @precondition(lambda self: self.sendable)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """End any event that may be under way."""
        offset = data.draw(st.sampled_from(sorted(self.sendable)))
        self.sendable.remove(offset)
        self.ended.add(offset)
        following = self.window.end(offset)
        if following is not None:
            self.sendable.add(following)

    @rule()
    def commit(self) -> None:
        """Commit the cursor of the moment."""
        self.committed = self.window.cursor()
        self.window.commit(self.committed)

    @invariant()
    def the_cursor_passes_nothing_that_has_not_ended(self) -> None:
        """Everything below the cursor has ended."""
        cursor = self.window.cursor()
        assert all(offset in self.ended for offset, _ in self.admitted if offset < cursor)

    @invariant()
    def at_most_the_window_stands_beyond_the_commit(self) -> None:
        """A killed process repeats at most these."""
        assert sum(1 for offset, _ in self.admitted if offset >= self.committed) <= SIZE

    @invariant()
    def events_of_one_key_go_one_at_a_time_in_order(self) -> None:
        """What may be sent of a key is its first event that has not ended."""
        by_key: dict[bytes, list[int]] = defaultdict(list)
        for offset, key in self.admitted:
            if offset not in self.ended:
                by_key[key].append(offset)
        assert self.sendable == {offsets[0] for offsets in by_key.values()}

    @invariant()
    def the_first_open_event_is_the_oldest(self) -> None:
        """The probe of a held line is the oldest event."""
        unfinished = [offset for offset, _ in self.admitted if offset not in self.ended]
        assert self.window.first_open() == (min(unfinished) if unfinished else None)


TestWindow = WindowMachine.TestCase
TestWindow.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

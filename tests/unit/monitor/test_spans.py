"""Numbers kept as spans: the same as a set, at the cost of its gaps."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.monitor import spans
from consumers.monitor.spans import Spans


@given(st.lists(st.integers(0, 40)))
def test_a_number_is_new_once(numbers: Sequence[int]) -> None:
    """In whatever order they come."""
    found, held = Spans(), set[int]()
    for number in numbers:
        assert found.add(number) is (number not in held)
        held.add(number)
    assert [found.add(number) for number in held] == [False] * len(held)


def test_what_lies_between_the_lowest_of_too_many_spans_counts_as_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it stays bounded; of what is new nothing is lost by it."""
    monkeypatch.setattr(spans, "MOST", 3)
    found = Spans()
    assert all(found.add(number) for number in (0, 2, 4, 6))
    assert [found.add(number) for number in (1, 3, 5, 7, 8)] == [False, True, True, True, True]

"""A set of whole numbers that mostly follow each other."""

from __future__ import annotations

from array import array
from bisect import bisect_right

MOST = 10_000


class Spans:
    """Numbers as spans without a gap: what an agency takes in order costs next to nothing.

    Of more than ``MOST`` spans the lowest grow together: what lies between them counts as in it.
    """

    def __init__(self) -> None:
        self._starts, self._ends = array("q"), array("q")

    def add(self, number: int) -> bool:
        """Put a number in, and tell whether it was not in it yet."""
        starts, ends = self._starts, self._ends
        at = bisect_right(starts, number)  # the span before this place is the only one that may hold it
        if at and number < ends[at - 1]:
            return False
        joins_before = at > 0 and ends[at - 1] == number
        joins_after = at < len(starts) and starts[at] == number + 1
        if joins_before and joins_after:
            ends[at - 1] = ends[at]
            del starts[at], ends[at]
        elif joins_before:
            ends[at - 1] = number + 1
        elif joins_after:
            starts[at] = number
        else:
            starts.insert(at, number)
            ends.insert(at, number + 1)
            if len(starts) > MOST:
                del starts[1], ends[0]
        return True

"""What the pusher's process does about Python itself."""

from __future__ import annotations

import gc

from consumers.pusher.process import collect_seldom


class Ring:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


def test_rings_are_still_collected_though_seldom() -> None:
    """What stood before is left out of every look; what an event leaves behind is found, so that memory is bounded."""
    before = gc.get_threshold()
    try:
        collect_seldom()
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] > before[0]
        for _ in range(3 * gc.get_threshold()[0]):
            Ring()
        assert sum(isinstance(one, Ring) for one in gc.get_objects()) <= gc.get_threshold()[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)

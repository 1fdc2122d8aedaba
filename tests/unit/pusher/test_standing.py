"""Whether a parked event may still be told, from what was routed under its key since."""

from __future__ import annotations

import pytest

from services.delivery.standing import Later, superseded

CORRECTED = Later("c", None, follows_up=True)
ENDED = Later("r", "ends", follows_up=True)
RESTORED = Later("b", "restores", follows_up=True)
OTHER = Later("o", None, follows_up=False)


@pytest.mark.parametrize(
    ("effect", "later", "by"),
    [
        (None, [], None),
        (None, [OTHER], None),
        (None, [CORRECTED], "c"),
        (None, [ENDED], "r"),
        (None, [ENDED, RESTORED], None),
        (None, [ENDED, RESTORED, ENDED], "r"),
        ("ends", [], None),
        ("ends", [ENDED], None),
        ("ends", [RESTORED], "b"),
        ("restores", [ENDED], "r"),
    ],
)
def test_an_event_is_told_only_while_it_is_the_current_state(
    effect: str | None, later: list[Later], by: str | None
) -> None:
    """What ended and was restored stands; an ending stays true until something restores."""
    assert superseded(effect, later) == by

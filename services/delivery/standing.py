"""Whether an event still tells the current state, decided on what came under its business key after it: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Later:
    """What was routed under the same business key after it: ``effect`` is what it does to what stands there."""

    event_id: str
    effect: str | None
    follows_up: bool


def superseded(effect: str | None, later: Sequence[Later]) -> str | None:
    """Return the event that took the place of one with this effect, None while it tells the current state.

    What was ended and restored since stands. An ending stays true until something restores.
    """
    by: str | None = None
    for one in later:
        if one.effect == "restores":
            by = one.event_id if effect == "ends" else None
        elif one.effect == "ends":
            by = by if effect == "ends" else one.event_id
        elif one.follows_up:
            by = one.event_id
    return by

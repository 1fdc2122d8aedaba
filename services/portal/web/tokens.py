"""Small sealed tokens that a browser carries for us: what they say nobody else reads or makes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta

from services.runtime.clock import Clock
from services.runtime.errors import ForbiddenError
from services.subscriptions.sealing import Sealer


class Tokens:
    """Makes and opens tokens for one purpose each, which end by themselves."""

    def __init__(self, sealer: Sealer, clock: Clock) -> None:
        self._sealer = sealer
        self._clock = clock

    def make(self, purpose: str, values: Mapping[str, str], lasts: timedelta) -> str:
        """Return a token."""
        ends = (self._clock.now() + lasts).isoformat()
        return self._sealer.seal(json.dumps({"purpose": purpose, "ends": ends, "values": dict(values)}))

    def open(self, purpose: str, token: str | None) -> Mapping[str, str] | None:
        """Return what a token holds; None for what is none of ours, for another purpose or past its end."""
        if not token:
            return None
        try:
            held = json.loads(self._sealer.open(token))
        except ForbiddenError:
            return None
        if held["purpose"] != purpose or datetime.fromisoformat(held["ends"]) <= self._clock.now():
            return None
        values: Mapping[str, str] = held["values"]
        return values

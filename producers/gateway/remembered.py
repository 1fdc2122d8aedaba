"""What this gateway has accepted lately, so that a repetition is answered at once and a conflict is told at once.

The router decides for good, from the whole log; this is only the quick answer of one process for its newest events.
One process writes in one version of each schema, so here the framed bytes tell a repetition (:mod:`schemas.content`).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from services.runtime.kafka.port import Placed

Identity = bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """An accepted event: the digest of its content, where it stands, and when it was recorded."""

    digest: bytes
    placed: Placed
    recordedtime: str


class Remembered:
    """The newest ``most`` accepted events, by identity."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: OrderedDict[Identity, Seen] = OrderedDict()

    def get(self, identity: Identity) -> Seen | None:
        """Return what was accepted under an identity."""
        return self._seen.get(identity)

    def add(self, identity: Identity, seen: Seen) -> None:
        """Remember an event that is on the log; the first of an identity stands."""
        self._seen.setdefault(identity, seen)
        while len(self._seen) > self._most:
            self._seen.popitem(last=False)

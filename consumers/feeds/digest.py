"""Count and digest over the events of a stretch of a feed, by a formula that an agency can work out itself.

Each event makes the line ``<source> <id> <subject>`` and a line feed (UTF-8). Distinct lines are sorted by their
bytes; the digest is the SHA-256 of them all, and the count is how many they are. In a shell:
``LC_ALL=C sort -u lines | sha256sum``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Digest:
    """How many different events, and the hex SHA-256 over their sorted lines."""

    count: int
    sha256: str


def digest_of(events: Iterable[tuple[str, ...]]) -> Digest:
    """Return the digest of events, each given as (source, id, subject); order and repetitions don't matter."""
    lines = sorted({f"{' '.join(event)}\n".encode() for event in events})
    return Digest(len(lines), hashlib.sha256(b"".join(lines)).hexdigest())

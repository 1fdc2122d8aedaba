"""Finds the rows of an import whose identity stands on the log with other content: the router sets them aside."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from producers.files.importing import Span
from producers.publishing import Prepared
from schemas.topics import Topics
from services.quarantine.letters import DeadLetters, Letter
from services.runtime.kafka.port import Admin, Kafka, Partition

WAIT_S = 20.0
POLL_S = 0.2
EARLIER_MS = 60_000
"""How far the clocks of this machine and of the log may be apart."""
MAX_NAMED = 10_000

Placed = Mapping[Partition, Span]


@dataclass(slots=True)
class Conflicts:
    """How many events of one import are in conflict, and the first :data:`MAX_NAMED` of them by id, key and value."""

    count: int = 0
    _named: set[tuple[str | None, str | None, bytes | None]] = field(default_factory=set)

    def add(self, letter: Letter) -> None:
        """Count one."""
        self.count += 1
        if len(self._named) < MAX_NAMED:
            digest = None if letter.value is None else _digest(letter.value)
            self._named.add((letter.attributes.get("id"), letter.attributes.get("subject"), digest))

    def hold(self, event: Prepared) -> bool:
        """Tell whether an event is one of those named; one of the same identity with the first content is not."""
        id_, subject = event.attributes["id"], event.attributes["subject"]
        return any((id_, subject, digest) in self._named for digest in (_digest(event.value), None))


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=16).digest()


def conflicts(
    kafka: Kafka,
    topics: Topics,
    source: str,
    imports: Sequence[Placed],
    began_ms: int,
    wait_s: float = WAIT_S,
    stop: threading.Event | None = None,
) -> list[Conflicts] | None:
    """Return the conflicts of each import, None when the router does not get so far in time or ``stop`` comes first.

    Raises UnavailableError.
    """
    admin = kafka.admin()
    try:
        if not _routed(admin, topics.group("router"), imports, wait_s, stop or threading.Event()):
            return None
    finally:
        admin.close()
    found = [Conflicts() for _ in imports]
    for letter in DeadLetters(kafka, topics).since("router", began_ms - EARLIER_MS):
        if letter.verdict == "conflict" and letter.attributes.get("source") == source:
            for of_import, placed in zip(found, imports, strict=True):
                if _stems_from(letter, placed):
                    of_import.add(letter)
    return found


def _routed(admin: Admin, group: str, imports: Sequence[Placed], wait_s: float, stop: threading.Event) -> bool:
    """Wait for the router to have worked on all that was imported; not where none is at work."""
    reached: dict[Partition, int] = {}
    for placed in imports:
        reached |= {partition: last for partition, (_, last) in placed.items() if last > reached.get(partition, -1)}
    deadline = time.monotonic() + wait_s
    while True:
        committed = admin.group_offsets(group)
        if all(partition in committed and committed[partition].offset > last for partition, last in reached.items()):
            return True
        if time.monotonic() > deadline or not admin.group_assignment(group) or stop.wait(POLL_S):
            return False


def _stems_from(letter: Letter, placed: Placed) -> bool:
    topic, partition, offset = letter.origin.split("/")
    first, last = placed.get(Partition(topic, int(partition)), (0, -1))
    return first <= int(offset) <= last

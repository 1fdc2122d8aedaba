"""Finds the rows of an import whose identity stands on the log with other content: the router sets them aside."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

from producers.files.importing import Span
from schemas.topics import Topics
from services.quarantine.letters import DeadLetters, Letter
from services.runtime.kafka.port import Admin, Kafka, Partition

WAIT_S = 20.0
POLL_S = 0.2
EARLIER_MS = 60_000
"""How far the clocks of this machine and of the log may be apart."""

Placed = Mapping[Partition, Span]


def conflicts(
    kafka: Kafka, topics: Topics, source: str, imports: Sequence[Placed], began_ms: int, wait_s: float = WAIT_S
) -> list[int] | None:
    """Return how many events of each import are in conflict, None when the router does not get so far in time.

    Raises UnavailableError.
    """
    admin = kafka.admin()
    try:
        if not _routed(admin, topics.group("router"), imports, wait_s):
            return None
    finally:
        admin.close()
    counts = [0] * len(imports)
    for letter in DeadLetters(kafka, topics).since("router", began_ms - EARLIER_MS):
        if letter.verdict == "conflict" and letter.attributes.get("source") == source:
            for number, placed in enumerate(imports):
                counts[number] += _stems_from(letter, placed)
    return counts


def _routed(admin: Admin, group: str, imports: Sequence[Placed], wait_s: float) -> bool:
    """Wait for the router to have worked on all that was imported; not where none is at work."""
    reached: dict[Partition, int] = {}
    for placed in imports:
        reached |= {partition: last for partition, (_, last) in placed.items() if last > reached.get(partition, -1)}
    deadline, pause = time.monotonic() + wait_s, threading.Event()
    while True:
        committed = admin.group_offsets(group)
        if all(partition in committed and committed[partition].offset > last for partition, last in reached.items()):
            return True
        if time.monotonic() > deadline or not admin.group_assignment(group):
            return False
        pause.wait(POLL_S)


def _stems_from(letter: Letter, placed: Placed) -> bool:
    topic, partition, offset = letter.origin.split("/")
    first, last = placed.get(Partition(topic, int(partition)), (0, -1))
    return first <= int(offset) <= last

"""How consumer groups stand to what they follow: lags without ends of transactions, and states from windows; pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from consumers.monitor.evaluation import Sample, Since, Track, delay_s, state_of, worst
from services.delivery.lag import GroupLag, State
from services.runtime.kafka.port import Committed, Partition

Offsets = Mapping[Partition, int]
Members = Callable[[], int | None]
Gap = tuple[int, int]
"""An offset and the end that it was compared with."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What a group follows, and what it has committed of it."""

    group: str
    partitions: Collection[Partition]
    committed: Mapping[Partition, Committed]

    def gaps(self, starts: Offsets, ends: Offsets) -> dict[Partition, Gap]:
        """Return where it stands in what exists, beside the end.

        Without a commit it begins at the first record kept, and so it does where the log is shorter than its commit:
        a topic that was made anew. The commits must have been read before the ends, else lag would be hidden.
        """
        found = {}
        for partition in self.partitions:
            if partition in ends:
                at = max(self.committed.get(partition, Committed(0)).offset, starts[partition])
                found[partition] = (at if at <= ends[partition] else starts[partition], ends[partition])
        return found


@dataclass(slots=True)
class Groups:
    """The windows of all groups' partitions."""

    since: Since
    _tracks: dict[tuple[str, Partition], Track] = field(default_factory=dict)
    _empty: dict[Partition, Gap] = field(default_factory=dict)

    def doubtful(self, group: str, gaps: Mapping[Partition, Gap], most: int) -> dict[Partition, Gap]:
        """Return the short gaps that have not changed since the last look: nothing but ends of transactions may fill
        them.
        """
        found = {}
        for partition, (at, end) in gaps.items():
            track = self._tracks.get((group, partition))
            newest = track.newest if track else None
            settled = newest is None or (newest.committed, newest.end) == (at, end)
            if 0 < end - at <= most and settled and self._empty.get(partition) != (at, end):
                found[partition] = (at, end)
        return found

    def note_empty(self, gaps: Mapping[Partition, Gap]) -> None:
        """Note gaps in which no record stands."""
        self._empty.update(gaps)

    def lag(self, partition: Partition, gap: Gap) -> int:
        """Return how many records a gap holds, never less than none."""
        at, end = gap
        known = self._empty.get(partition)
        # What was looked into and held no record begins a gap further on.
        if known is not None and known[0] == at and known[1] <= end:
            at = known[1]
        return max(0, end - at)

    def look(
        self, group: str, gaps: Mapping[Partition, Gap], at_s: float, now: datetime, members: Members
    ) -> list[GroupLag]:
        """Take a look in, and return the group's lag on each topic."""
        by_topic: defaultdict[str, list[Partition]] = defaultdict(list)
        for partition, gap in gaps.items():
            by_topic[partition.topic].append(partition)
            track = self._tracks.setdefault((group, partition), Track())
            track.add(Sample(at_s, gap[0], gap[1], self.lag(partition, gap)))
        return [self._of_topic(group, topic, partitions, now, members) for topic, partitions in by_topic.items()]

    def _of_topic(
        self, group: str, topic: str, partitions: Collection[Partition], now: datetime, members: Members
    ) -> GroupLag:
        windows = [self._tracks[group, partition].samples for partition in partitions]
        states: list[State] = [state_of(samples, members) for samples in windows]
        state = worst(states)
        lag = sum(samples[-1].lag for samples in windows)
        return GroupLag(
            group=group,
            topic=topic,
            lag=lag,
            state=state,
            state_since=self.since.of(("group", group, topic), state, now),
            delay_s=round(max(map(delay_s, windows)), 3),
            partitions=states.count(state),
            members=members() if lag else None,
        )

    def track(self, group: str, partition: Partition) -> Track | None:
        """Return one window."""
        return self._tracks.get((group, partition))

    def keep(self, followed: Collection[tuple[str, Partition]]) -> None:
        """Forget all others: what has vanished is told no more."""
        kept = set(followed)
        for gone in self._tracks.keys() - kept:
            del self._tracks[gone]
        partitions = {partition for _, partition in kept}
        for vanished in self._empty.keys() - partitions:
            del self._empty[vanished]

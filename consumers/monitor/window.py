"""How long an agency's latest deliveries took, and how many there were."""

from __future__ import annotations

from collections import Counter, deque

SAMPLE_LIMIT = 5000
BUCKET_S = 10


class Window:
    """Counts all deliveries since a moving horizon, to ten seconds; keeps the latencies of at most the newest 5,000."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLE_LIMIT)
        self._counts: Counter[int] = Counter()

    def add(self, done_s: float, latency_ms: float) -> None:
        """Take in a delivery: when it was done (seconds since the epoch), and how long it took from publication."""
        self._samples.append((done_s, latency_ms))
        self._counts[int(done_s // BUCKET_S)] += 1

    def forget_before(self, horizon_s: float) -> None:
        """Move the horizon."""
        while self._samples and self._samples[0][0] < horizon_s:
            self._samples.popleft()
        for bucket in [one for one in self._counts if (one + 1) * BUCKET_S <= horizon_s]:
            del self._counts[bucket]

    @property
    def delivered(self) -> int:
        """Return how many there were."""
        return self._counts.total()

    def latencies_ms(self) -> list[float]:
        """Return how long they took, in order of size."""
        return sorted(latency for _, latency in self._samples)

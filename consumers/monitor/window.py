"""How long an agency's latest deliveries took, and how many there were."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence

SAMPLE_LIMIT = 5000
BUCKET_S = 10


class Window:
    """Counts all ends since a moving horizon, to ten seconds; keeps the latencies of at most the newest 5,000."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLE_LIMIT)
        self._counts: Counter[int] = Counter()

    def add(self, done_s: float, latency_ms: float) -> None:
        """Take in an end: when it was (seconds since the epoch), and how long it took."""
        self._samples.append((done_s, latency_ms))
        self._counts[int(done_s // BUCKET_S)] += 1

    def forget_before(self, horizon_s: float) -> None:
        """Move the horizon."""
        while self._samples and self._samples[0][0] < horizon_s:
            self._samples.popleft()
        for bucket in [one for one in self._counts if (one + 1) * BUCKET_S <= horizon_s]:
            del self._counts[bucket]

    @property
    def count(self) -> int:
        """Return how many there were."""
        return self._counts.total()

    def latencies_ms(self) -> list[float]:
        """Return how long they took, in order of size."""
        return sorted(latency for _, latency in self._samples)


def percentile(samples: Sequence[float], share: float) -> float | None:
    """Return the nearest-rank percentile (share in 0..1) of sorted samples, None of none."""
    if not samples:
        return None
    return samples[max(0, math.ceil(share * len(samples)) - 1)]

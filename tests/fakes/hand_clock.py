"""A clock that is put on by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class HandClock:
    """A clock that stands at noon until it is put on."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        """Return noon and what has passed."""
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """Return what has passed."""
        return self.seconds

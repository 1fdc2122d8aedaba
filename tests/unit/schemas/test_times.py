"""Times as people read them."""

from __future__ import annotations

import pytest

from schemas.times import asked_time, shown_time


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2029-12-31T16:00:00+00:00", "2030-01-01 00:00:00"),
        ("2025-12-01T01:02:03.987654Z", "2025-12-01 09:02:03"),
        ("2025-12-01", "2025-12-01"),
        ("2025-12-01T00:00:00", "2025-12-01T00:00:00"),
        ("sub-1", "sub-1"),
        ("", ""),
    ],
)
def test_a_time_is_shown_in_shanghai_to_the_second(text: str, shown: str) -> None:
    """A term that ends with the year must not seem to end a day before; what is no time stays."""
    assert shown_time(text) == shown


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2025-12-01T00:00:00 08:00", "2025-12-01T00:00:00+08:00"),
        ("2025-12-01T00:00:00.25 0800", "2025-12-01T00:00:00.250000+08:00"),
        ("2025-12-01T00:00:00+08:00", "2025-12-01T00:00:00+08:00"),
        ("2025-12-01T00:00:00-05:00", "2025-12-01T00:00:00-05:00"),
        ("2025-12-01 08:00", "2025-12-01T08:00:00+08:00"),
        ("2025-12-01", "2025-12-01T00:00:00+08:00"),
    ],
)
def test_a_time_in_an_address_may_have_lost_its_plus(text: str, at: str) -> None:
    """Whoever writes it without %2B, as all do at first, means the offset; a day's time of its own is kept."""
    assert asked_time(text).isoformat() == at

"""Times as people read them."""

from __future__ import annotations

import pytest

from schemas.times import shown_time


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

"""How a search of the ledger walks back through time, and whose events it may be of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.searching import Criteria, Cursor, Scope, narrowed, windows
from services.runtime.errors import ForbiddenError, InvalidError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2199, 1, 1), timezones=st.just(UTC))


@given(st.none() | TIMES, st.none() | TIMES, st.none() | TIMES)
def test_the_stretches_cover_all_that_is_asked_once_newest_first(
    since: datetime | None, until: datetime | None, before: datetime | None
) -> None:
    """Each begins where the one before it ended; the first at the newer bound, the last at the older one."""
    found = list(windows(NOW, Criteria(since=since, until=until), Cursor(before) if before else None))
    tops = [at for at in (until, before) if at is not None]
    if not found:
        assert since is not None
        assert tops
        assert since > min(tops)
        return
    assert (found[0].high.at if found[0].high else None) == (min(tops) if tops else None)
    assert found[-1].low == since
    for newer, older in pairwise(found):
        assert older.high == Cursor(newer.low or NOW)
    assert len(found) <= 5


def test_the_first_stretch_is_a_day() -> None:
    """What people look for is mostly new."""
    first = next(windows(NOW, Criteria(), None))
    assert (first.low, first.high) == (NOW - timedelta(days=1), None)


@given(
    TIMES,
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.integers(0, 99),
    st.integers(0, 2**62),
)
def test_a_cursor_comes_back_as_it_was(at: datetime, topic: str, partition: int, offset: int) -> None:
    """As text that may stand in an address."""
    cursor = Cursor(at, topic, partition, offset)
    assert Cursor.from_text(cursor.to_text()) == cursor


@given(st.text())
def test_what_is_no_cursor_is_refused_by_name(text: str) -> None:
    """Whatever somebody puts there."""
    with pytest.raises(InvalidError, match="/before"):
        Cursor.from_text(text)


def test_nobody_asks_for_anothers_events() -> None:
    """An agency for another agency's, a publisher for another source's; a publisher asks who got its own."""
    with pytest.raises(ForbiddenError):
        narrowed(Scope.of_agency("a"), Criteria(agency="b"))
    with pytest.raises(ForbiddenError):
        narrowed(Scope.of_publisher(["s"]), Criteria(source="t"))
    found = narrowed(Scope.of_publisher(["s"]), Criteria(agency="b"))
    assert (found["source"], found["sources"], found["agency"]) == ("s", None, "b")
    found = narrowed(Scope.of_publisher([]), Criteria())
    assert (found["source"], found["sources"]) == (None, [])
    with pytest.raises(ValueError, match="as an agency or as a publisher"):
        Scope("a", frozenset("s"))

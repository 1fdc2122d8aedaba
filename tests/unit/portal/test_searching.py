"""A search tries what a text may be: what one guess could not look through is told, whatever the others find."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import parse_qsl

import pytest

from services.ledger.flowing import FlowsTooManyError
from services.ledger.reading import SearchTooWideError
from services.ledger.searching import Criteria, Page
from services.portal.web.events import Asked, guessed
from services.portal.web.overview import NOT_READ, TOO_MANY, counted
from services.portal.web.remembering import Held
from services.portal.web.rendering import FOLDER
from services.runtime.errors import DatabaseUnavailableError, UnavailableError
from tests.unit.portal.test_reasons import AT

GUESSES = [("event", Criteria(event="x")), ("identifier", Criteria(identifier="x")), ("subject", Criteria(subject="x"))]
NOTHING = Page([])
FOUND = Page([{"id": "x"}])
CUT = Page([], "place", "time", AT)
CUT_EARLIER = Page([], "earlier", "time", AT - timedelta(days=3))


def answered(*pages: Page | SearchTooWideError) -> tuple[Page, str | None]:
    """Guess with a ledger that answers so, one guess after another."""
    answers: Iterator[Page | SearchTooWideError] = iter(pages)

    def search(_: Criteria) -> Page:
        page = next(answers)
        if isinstance(page, SearchTooWideError):
            raise page
        return page

    return guessed(GUESSES, search)


def test_the_first_guess_that_finds_something_is_shown() -> None:
    """The others are not asked."""
    assert answered(NOTHING, FOUND) == (FOUND, "identifier")
    assert answered(NOTHING, NOTHING, NOTHING) == (NOTHING, "subject")


def test_a_guess_that_time_cut_is_told_though_a_later_one_finds_nothing() -> None:
    """Nothing is denied that was not looked for; one goes on from where the least was looked through."""
    assert answered(CUT, NOTHING, NOTHING) == (CUT, "subject")
    assert answered(CUT_EARLIER, CUT, NOTHING) == (CUT, "subject")
    assert answered(CUT, FOUND) == (Page(FOUND.events, "place", "time", AT), "identifier")
    with pytest.raises(SearchTooWideError):
        answered(SearchTooWideError(), NOTHING, NOTHING)
    assert answered(SearchTooWideError(), FOUND) == (FOUND, "identifier")


@pytest.mark.parametrize(
    ("error", "said"), [(FlowsTooManyError("too many"), TOO_MANY), (DatabaseUnavailableError("away"), NOT_READ)]
)
def test_too_many_events_are_no_outage(error: UnavailableError, said: str) -> None:
    """The page says which of both it is."""

    def get() -> Held[int]:
        raise error

    assert counted(get) == (None, said)
    assert counted(lambda: Held(1, AT)) == (Held(1, AT), None)


def test_the_address_of_the_next_page_asks_the_same_as_the_form() -> None:
    """A search within bounds of time keeps them on every page, by the names that the form's fields have."""
    asked = Asked("（川）第1", "a", "urn:health", "t", "2026-03-01T08:00", "2026-03-02T08:00")
    given = dict(parse_qsl(asked.query(before="place")))
    assert given.pop("before") == "place"
    assert Asked(**given) == asked
    form = (FOLDER / "templates/events/search.html").read_text().split("</form>")[0]
    assert set(re.findall(r"ui\.field\(\"(\w+)\"|<select [^>]*name=\"(\w+)\"", form)) == {
        *((name, "") for name in ("q", "since", "until")),
        *(("", name) for name in ("agency", "source", "type")),
    }
    assert set(given) == {"q", "since", "until", "agency", "source", "type"}
    assert Asked(q="x").query() == "q=x"

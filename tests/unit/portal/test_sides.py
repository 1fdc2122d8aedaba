"""An agency or department is known to the pages from when it was added, though their lists are read every 2 s only."""

from __future__ import annotations

from typing import Any, cast

import pytest

from services.identity.people import Person
from services.identity.repository import DepartmentRow
from services.portal.web.sides import NO_SIDE, Parties, Side
from services.portal.web.viewer import Viewer
from services.portal.web.wording import LANGUAGES
from services.runtime.errors import DatabaseUnavailableError, ForbiddenError
from tests.fakes.virtual_time import VirtualClock

HEALTH = DepartmentRow("health", "卫健委", "urn:x:health", [])


class Lists:
    """Agencies or departments as a repository lists them; counts how often it was asked, and can be away."""

    def __init__(self, *rows: Any) -> None:
        self.rows, self.asked, self.away = list(rows), 0, False

    def list(self) -> list[Any]:
        """Return all."""
        self.asked += 1
        if self.away:
            raise DatabaseUnavailableError("away")
        return list(self.rows)


def parties_of(agencies: Lists, departments: Lists) -> Parties:
    """Return what the pages know of these."""
    return Parties(cast(Any, agencies), cast(Any, departments), VirtualClock())


def viewer_of(department: str) -> Viewer:
    """Return somebody of a department at a browser."""
    person = Person("p", "P", department=department)
    visit: dict[str, Any] = {"theme": "auto", "csrf": "", "path": "/", "address": "192.0.2.1", "session": "s"}
    return Viewer(language=LANGUAGES[0], person=person, **visit)


def test_a_department_added_since_the_last_reading_has_its_side_at_once() -> None:
    """Its people are not told that they belong to nothing; who does is told so, and what is known is not read again."""
    departments = Lists()
    parties = parties_of(Lists(), departments)
    assert parties.departments().value == []
    departments.rows.append(HEALTH)
    assert parties.side_of(viewer_of("health")) == Side(department=HEALTH)
    asked = departments.asked
    assert parties.side_of(viewer_of("health")) == Side(department=HEALTH)
    assert departments.asked == asked
    with pytest.raises(ForbiddenError, match=NO_SIDE[:8]):
        parties.side_of(viewer_of("nothing"))


def test_an_agency_added_since_the_last_reading_is_found_at_once() -> None:
    """While PostgreSQL is away those that are known go on being found, and the others are not."""
    agencies = Lists()
    parties = parties_of(agencies, Lists())
    assert parties.agency("market") is None
    agencies.rows.append({"id": "market", "name": "市场监管局"})
    assert parties.agency("market") == {"id": "market", "name": "市场监管局"}
    agencies.away = True
    assert (parties.agency("market"), parties.agency("payers")) == (agencies.rows[0], None)

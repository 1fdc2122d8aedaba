"""Whose side of things a viewer sees: an agency's own, a department's own, or, for who runs the system, all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from services.identity.repository import DepartmentRepository, DepartmentRow
from services.ledger.searching import Scope
from services.portal.web.remembering import Held, Kept
from services.portal.web.viewer import Viewer
from services.runtime.clock import Clock
from services.runtime.errors import ForbiddenError
from services.subscriptions.repository import AgencyRepository

FRESH = timedelta(seconds=2)
AGENCIES, DEPARTMENTS = "agencies", "departments"
Row = Mapping[str, Any]
NO_SIDE = "您的账号不属于任何单位或部门，也不是管理员 (you belong to no agency and no department)"


@dataclass(frozen=True, slots=True)
class Side:
    """What a viewer sees: an agency's part, a department's events, or all (both None)."""

    agency: str | None = None
    department: DepartmentRow | None = None

    @property
    def all(self) -> bool:
        """Tell whether this is who runs the system."""
        return self.agency is None and self.department is None

    @property
    def own(self) -> str | None:
        """Return the id of the agency or department, None for all."""
        return self.agency or (self.department.id if self.department is not None else None)

    @property
    def scope(self) -> Scope:
        """Return it as the ledger knows it."""
        if self.agency is not None:
            return Scope.of_agency(self.agency)
        return Scope.of_publisher([self.department.source]) if self.department is not None else Scope.operator()


class Parties:
    """The agencies and departments, as they were read last: pages go on naming them while PostgreSQL is away."""

    def __init__(
        self,
        agencies: AgencyRepository,
        departments: DepartmentRepository,
        clock: Clock,
    ) -> None:
        self._agencies = agencies
        self._departments = departments
        self._kept = Kept(clock)

    def agencies(self) -> Held[Mapping[str, Row]]:
        """Return the agencies by id; raises UnavailableError where they were never read."""
        return self._kept.get(AGENCIES, lambda: {row["id"]: row for row in self._agencies.list()}, FRESH)

    def departments(self) -> Held[Sequence[DepartmentRow]]:
        """Return the departments; raises UnavailableError where they were never read."""
        return self._kept.get(DEPARTMENTS, self._departments.list, FRESH)

    def agency(self, agency: str) -> Row | None:
        """Return an agency, None where there is none; raises UnavailableError where they were never read."""
        if agency not in self.agencies().value:
            self._kept.forget(AGENCIES)  # It may have been added since they were read.
        return self.agencies().value.get(agency)

    def department(self, department: str | None) -> DepartmentRow | None:
        """Return a department, None where there is none; raises UnavailableError where they were never read."""

        def known() -> DepartmentRow | None:
            return next((one for one in self.departments().value if one.id == department), None)

        found = known()
        if found is None and department is not None:
            self._kept.forget(DEPARTMENTS)  # It may have been added since they were read.
            found = known()
        return found

    def changed(self) -> None:
        """Have the agencies read anew."""
        self._kept.forget(AGENCIES)

    def agency_name(self, agency: str) -> str:
        """Return an agency's name, its id where it is not known."""
        row = self.agencies().value.get(agency)
        return str(row["name"]) if row is not None else agency

    def source_name(self, source: str) -> str:
        """Return the name of the department that publishes under a source, the source where none is known."""
        found = next((one.name for one in self.departments().value if one.source == source), None)
        return found or source

    def side_of(self, viewer: Viewer) -> Side:
        """Return whose side a viewer sees; raises ForbiddenError for who has none.

        Who administers sees all as an operator does; who belongs to an agency and to a department its agency's part.
        """
        if viewer.administers:
            return Side()
        if viewer.agency is not None:
            return Side(agency=viewer.agency)
        department = self.department(viewer.department)
        if department is None:
            raise ForbiddenError(NO_SIDE)
        return Side(department=department)

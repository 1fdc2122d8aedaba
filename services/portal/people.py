"""People over the administration API: who applies for an agency, and who decides for a department."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, StringConstraints

from services.identity.people import Person, PersonRepository, new_person_key
from services.identity.repository import DepartmentRepository
from services.portal.actors import administering
from services.runtime.errors import FieldProblem, InvalidError

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,39}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]


class PersonBody(BaseModel):
    """Somebody to add; ``approves`` are the types that they decide on for the department that owns them."""

    model_config = ConfigDict(extra="forbid")

    id: Identifier
    name: Text
    agency: Identifier | None = None
    department: Identifier | None = None
    approves: list[str] = []


class People:
    """Adds and lists people."""

    def __init__(self, people: PersonRepository, departments: DepartmentRepository) -> None:
        self._people = people
        self._departments = departments

    def add(self, body: PersonBody) -> dict[str, Any]:
        """Add somebody and return them with their key, which is shown this once; raises InvalidError."""
        problems = self._problems(body)
        if problems:
            raise InvalidError(problems)
        person, key = Person(**body.model_dump()), new_person_key()
        self._people.add(person, key)
        return asdict(person) | {"key": key}

    def everybody(self) -> list[dict[str, Any]]:
        """Return everybody."""
        return [asdict(person) for person in self._people.everybody()]

    def _problems(self, body: PersonBody) -> list[FieldProblem]:
        if body.agency is None and body.department is None:
            return [FieldProblem("/agency", "应属于接收单位或发布部门 (belongs to an agency or a department)")]
        published = {t for d in self._departments.list() if d.id == body.department for t in d.types}
        detail = "不是该部门发布的事件类型 (no type that the department publishes)"
        return [
            FieldProblem(f"/approves/{number}", f"{detail}: {name}")
            for number, name in enumerate(body.approves)
            if name not in published
        ]


def person_routes(router: APIRouter, people: People) -> None:
    """Put the routes on a router; they are the administrator's."""

    @router.post("/people", status_code=201, dependencies=[Depends(administering)])
    def add(body: PersonBody) -> dict[str, Any]:
        return people.add(body)

    @router.get("/people", dependencies=[Depends(administering)])
    def all_of_them() -> list[dict[str, Any]]:
        return people.everybody()

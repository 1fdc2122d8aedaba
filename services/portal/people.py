"""People over the administration API: who applies for an agency, who decides for a department, who administers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, StringConstraints

from services.identity.audit import AuditRepository, Deed
from services.identity.people import Person, PersonRepository, Role, new_person_key, standing_problems
from services.identity.repository import DepartmentRepository
from services.identity.sign_ins import SignInRepository
from services.portal.actors import administering
from services.portal.web.passwords import Passwords, one_time_password
from services.runtime.clock import Clock
from services.runtime.errors import FieldProblem, InvalidError, NotFoundError
from services.subscriptions.lifecycle import ADMINISTRATOR
from services.subscriptions.repository import AgencyRepository

ONE_TIME_LASTS = timedelta(hours=72)
FIRST = Person("admin", "安全管理员", roles=[Role.SECURITY])
"""The account that a new installation begins with: it makes the others, and runs nothing itself (三员分立)."""
Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,39}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]


@dataclass(frozen=True, slots=True)
class OneTime:
    """A password that works once, until it ends."""

    person: str
    password: str
    expires_at: datetime


class PersonBody(BaseModel):
    """Somebody to add; ``approves`` are the types that they decide on for the department that owns them."""

    model_config = ConfigDict(extra="forbid")

    id: Identifier
    name: Text
    agency: Identifier | None = None
    department: Identifier | None = None
    approves: list[str] = []
    roles: list[Role] = []


class People:
    """Adds, changes and lists people, and gives them passwords that work once."""

    def __init__(
        self,
        people: PersonRepository,
        departments: DepartmentRepository,
        agencies: AgencyRepository,
        sign_ins: SignInRepository,
        clock: Clock,
        passwords: Passwords,
        audit: AuditRepository,
        end_sessions: Callable[[str], object],
    ) -> None:
        self.repository = people
        self._departments = departments
        self._agencies = agencies
        self._sign_ins = sign_ins
        self._clock = clock
        self._passwords = passwords
        self._audit = audit
        self._end_sessions = end_sessions

    def add(self, body: PersonBody) -> dict[str, Any]:
        """Add somebody and return them with their key, which is shown this once; raises InvalidError."""
        person, key = self._sound(Person(**body.model_dump(mode="json"))), new_person_key()
        self.repository.add(person, key)
        return asdict(person) | {"key": key}

    def change(self, person: Person) -> None:
        """Keep somebody's name, roles, approvals and state as they are given; raises InvalidError or NotFoundError."""
        self.repository.change(self._sound(person))

    def record(self, action: str, person: str) -> None:
        """Note what is about to be done with the administration key."""
        self._audit.add(Deed(ADMINISTRATOR, action, f"person/{person}"))

    def everybody(self) -> list[dict[str, Any]]:
        """Return everybody."""
        return [asdict(person) for person in self.repository.everybody()]

    def published(self, department: str | None) -> list[str]:
        """Return the types that a department publishes."""
        return sorted({t for d in self._departments.list() if d.id == department for t in d.types})

    def units(self) -> dict[str, list[tuple[str, str]]]:
        """Return ids and names of what people belong to."""
        return {
            "agency": [(row["id"], row["name"]) for row in self._agencies.list()],
            "department": [(row.id, row.name) for row in self._departments.list()],
        }

    def one_time_password(self, person: str) -> OneTime:
        """Give somebody a password that works once, shown this once; raises NotFoundError."""
        if self.repository.get(person) is None:
            raise NotFoundError(f"没有这个人员 (no such person): {person}")
        password, ends = one_time_password(), self._clock.now() + ONE_TIME_LASTS
        self._sign_ins.set_password(person, self._passwords.hash(password), expires_at=ends)
        self._end_sessions(person)
        return OneTime(person, password, ends)

    def first(self) -> OneTime | None:
        """Give the first account, made here if need be, a password that works once; None once anybody has come in."""
        everybody = self.repository.everybody()
        if any(row["last_at"] is not None for row in self._sign_ins.everybody().values()):
            return None
        if any(Role.SECURITY in person.roles and person.id != FIRST.id for person in everybody):
            return None
        if FIRST.id not in {person.id for person in everybody}:
            self.repository.add(FIRST, new_person_key())
        self.record("person.password", FIRST.id)
        return self.one_time_password(FIRST.id)

    def _sound(self, person: Person) -> Person:
        """Return who may be kept so; raises InvalidError."""
        problems = standing_problems(person)
        published = set(self.published(person.department))
        detail = "不是该部门发布的事件类型 (no type that the department publishes)"
        problems += [
            FieldProblem(f"/approves/{number}", f"{detail}: {name}")
            for number, name in enumerate(person.approves)
            if name not in published
        ]
        if problems:
            raise InvalidError(problems)
        return person


def person_routes(router: APIRouter, people: People) -> None:
    """Put the routes on a router; they are the administrator's."""

    @router.post("/people", status_code=201, dependencies=[Depends(administering)])
    def add(body: PersonBody) -> dict[str, Any]:
        people.record("person.add", body.id)
        return people.add(body)

    @router.post("/people/first", dependencies=[Depends(administering)])
    def first() -> dict[str, Any] | None:
        found = people.first()
        return None if found is None else asdict(found)

    @router.post("/people/{person}/password", status_code=201, dependencies=[Depends(administering)])
    def password(person: str) -> dict[str, Any]:
        people.record("person.password", person)
        return asdict(people.one_time_password(person))

    @router.get("/people", dependencies=[Depends(administering)])
    def all_of_them() -> list[dict[str, Any]]:
        return people.everybody()

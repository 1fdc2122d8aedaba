"""The administration API: departments, agencies and dead letters. One bearer key in this first form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from schemas.contracts import Contracts
from schemas.formats import division_prefix, is_division_prefix
from schemas.topics import PROBE_AGENCY, PROBE_SOURCE
from services.identity.repository import DepartmentRepository, DepartmentRow, KeyRow, new_key
from services.portal.access import AccessAdministration, access_routes
from services.portal.actors import administering
from services.portal.agencies import RESERVED, AgencyDesk, agency_routes
from services.portal.alerts import Alerts, alert_routes
from services.portal.deadletters import deadletter_routes
from services.quarantine.desk import Desk
from services.runtime.errors import FieldProblem, InvalidError
from services.subscriptions.repository import plain

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,39}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
ADMINISTRATOR = "administrator"
NO_DIVISION = "不是行政区划代码或其前缀 (no division code of GB/T 2260, nor the start of one)"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DepartmentBody(_Body):
    """A publishing department to add."""

    id: Identifier
    name: Text
    source: Annotated[Text, Field(pattern=r"^\S+$")]
    types: list[str] = Field(min_length=1)
    divisions: dict[str, list[str]] = {}
    client_id: Text | None = None
    rate_per_s: float | None = Field(None, gt=0)
    burst: int | None = Field(None, ge=1)


class DepartmentChange(_Body):
    """What is to be changed of a department, and why; what is left out stays."""

    reason: Text
    name: Text | None = None
    types: list[str] | None = Field(None, min_length=1)
    divisions: dict[str, list[str]] | None = None
    client_id: Text | None = None
    rate_per_s: float | None = Field(None, gt=0)
    burst: int | None = Field(None, ge=1)


class RotateBody(_Body):
    """Why a key is changed, and for how long the older one still works (hours)."""

    reason: Text
    overlap_hours: float = Field(168, ge=0, le=24 * 366)


class ReasonBody(_Body):
    """Why a decision was taken."""

    reason: Text


class Administration:
    """What the API does, without HTTP."""

    def __init__(
        self,
        departments: DepartmentRepository,
        contracts: Contracts,
    ) -> None:
        self.departments = departments
        self._contracts = contracts

    def add_department(self, body: DepartmentBody) -> dict[str, Any]:
        """Add a department and return it with its key, which is shown this once."""
        if body.id == PROBE_AGENCY or body.source == PROBE_SOURCE:
            raise InvalidError([FieldProblem("/id", RESERVED)])
        key = new_key()
        row = self._sound(DepartmentRow(**body.model_dump()))
        self.departments.add(row, key)
        return self.department(row) | {"key": key}

    def change_department(self, department: str, body: DepartmentChange) -> dict[str, Any]:
        """Change what a department may publish, and return it."""
        changed = body.model_dump(exclude={"reason"}, exclude_none=True)
        row = self.departments.change(
            department, lambda held: self._sound(replace(held, **changed)), ADMINISTRATOR, body.reason
        )
        return self.department(row)

    def _sound(self, row: DepartmentRow) -> DepartmentRow:
        """Return a department with its divisions as prefixes; raises InvalidError."""
        problems = [*self._type_problems(row.types), *_division_problems(row.divisions, row.types)]
        if problems:
            raise InvalidError(problems)
        return replace(
            row, divisions={kind: [division_prefix(code) for code in codes] for kind, codes in row.divisions.items()}
        )

    def department(self, row: DepartmentRow) -> dict[str, Any]:
        """Return a department as it is shown: its live keys by id and end, never their digests."""
        return asdict(row) | {"keys": _shown_keys(self.departments.keys(row.id))}

    def rotate_key(self, department: str, body: RotateBody) -> dict[str, Any]:
        """Give out a new key, shown this once; the older one ends after the overlap."""
        key, overlap = new_key(), timedelta(hours=body.overlap_hours)
        live = self.departments.rotate(department, key, overlap, ADMINISTRATOR, body.reason)
        return {"id": department, "key": key, "keys": _shown_keys(live)}

    def revoke_key(self, department: str, key_id: str, reason: str) -> dict[str, Any]:
        """End a key at once."""
        live = self.departments.revoke(department, key_id, ADMINISTRATOR, reason)
        return {"id": department, "keys": _shown_keys(live)}

    def _type_problems(self, types: Sequence[str]) -> list[FieldProblem]:
        return [
            FieldProblem(f"/types/{n}", f"没有这个事件类型 (unknown event type): {name}")
            for n, name in enumerate(types)
            if name not in self._contracts.types or name in self._contracts.probe_types()
        ]


def _division_problems(divisions: Mapping[str, Sequence[str]], types: Sequence[str]) -> list[FieldProblem]:
    problems = [
        FieldProblem(f"/divisions/{kind}", "不在所授事件类型之中 (none of its event types)")
        for kind in divisions
        if kind not in {"*", *types}
    ]
    for kind, codes in divisions.items():
        for number, code in enumerate(codes):
            if not is_division_prefix(code):
                problems.append(FieldProblem(f"/divisions/{kind}/{number}", NO_DIVISION))
    return problems


def _shown_keys(keys: Sequence[KeyRow]) -> list[dict[str, Any]]:
    return [plain({"id": k.id, "created_at": k.created_at, "expires_at": k.expires_at}) for k in keys]


def add_routes(
    app: FastAPI,
    administration: Administration,
    access: AccessAdministration,
    agencies: AgencyDesk,
    alerts: Alerts,
    desk: Desk,
) -> None:
    """Put the administration's routes on an application, whose state holds the callers."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(administering)])
    _department_routes(router, administration)
    router.include_router(access_routes(access))
    agency_routes(router, agencies)

    def parties() -> set[str]:
        held = {str(row["id"]) for row in agencies.agencies.list()}
        return held | {row.id for row in administration.departments.list()}

    alert_routes(router, alerts, parties)
    deadletter_routes(router, desk)
    app.include_router(router)


def _department_routes(router: APIRouter, administration: Administration) -> None:
    @router.post("/departments", status_code=201)
    def add(body: DepartmentBody) -> dict[str, Any]:
        return administration.add_department(body)

    @router.get("/departments")
    def all_of_them() -> list[dict[str, Any]]:
        return [administration.department(row) for row in administration.departments.list()]

    @router.patch("/departments/{department}")
    def change(department: str, body: DepartmentChange) -> dict[str, Any]:
        return administration.change_department(department, body)

    @router.post("/departments/{department}/keys", status_code=201)
    def rotate(department: str, body: RotateBody) -> dict[str, Any]:
        return administration.rotate_key(department, body)

    @router.post("/departments/{department}/keys/{key}/revoke")
    def revoke(department: str, key: str, body: ReasonBody) -> dict[str, Any]:
        return administration.revoke_key(department, key, body.reason)

"""The administration API: departments, agencies and dead letters. One bearer key in this first form."""

from __future__ import annotations

import hmac
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Header
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from schemas.contracts import Contracts
from schemas.formats import check_division, division_prefix, is_division_prefix
from schemas.topics import Topics
from services.delivery.network import Network, check_destination
from services.identity.repository import DepartmentRepository, DepartmentRow, KeyRow, new_key
from services.portal.access import AccessAdministration, access_routes
from services.portal.deadletters import deadletter_routes
from services.quarantine.desk import Desk
from services.runtime.errors import FieldProblem, ForbiddenError, InvalidError
from services.runtime.kafka.port import Kafka
from services.subscriptions.repository import Decision, SubscriptionRepository, plain
from services.subscriptions.sealing import Sealer, new_secret

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
    source: Text
    types: list[str] = Field(min_length=1)
    divisions: dict[str, list[str]] = {}
    client_id: Text | None = None
    rate_per_s: float | None = Field(None, gt=0)
    burst: int | None = Field(None, ge=1)


class RotateBody(_Body):
    """Why a key is changed, and for how long the older one still works (hours)."""

    reason: Text
    overlap_hours: float = Field(168, ge=0, le=24 * 366)


class AgencyBody(_Body):
    """A receiving agency to add."""

    id: Identifier
    name: Text
    division: str = "510000"
    sink: Text


class SinkBody(_Body):
    """A new place for an agency's feed."""

    sink: Text
    reason: Text


class ReasonBody(_Body):
    """Why a decision was taken."""

    reason: Text


class Administration:
    """What the API does, without HTTP."""

    def __init__(
        self,
        departments: DepartmentRepository,
        subscriptions: SubscriptionRepository,
        contracts: Contracts,
        kafka: Kafka,
        topics: Topics,
        sealer: Sealer,
        networks: Sequence[Network],
    ) -> None:
        self.departments = departments
        self.subscriptions = subscriptions
        self._contracts = contracts
        self._kafka = kafka
        self._topics = topics
        self._sealer = sealer
        self._networks = networks

    def add_department(self, body: DepartmentBody) -> dict[str, Any]:
        """Add a department and return it with its key, which is shown this once."""
        problems = [*self._type_problems(body.types), *_division_problems(body.divisions, body.types)]
        if problems:
            raise InvalidError(problems)
        key = new_key()
        divisions = {kind: [division_prefix(code) for code in codes] for kind, codes in body.divisions.items()}
        row = DepartmentRow(**body.model_dump() | {"divisions": divisions})
        self.departments.add(row, key)
        return self.department(row) | {"key": key}

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

    def add_agency(self, body: AgencyBody) -> dict[str, Any]:
        """Add an agency and return it with its signing secret, which is shown this once."""
        self._check_agency(body)
        secret = new_secret()
        admin = self._kafka.admin()
        try:
            admin.ensure_topics(self._topics.agency_specs(body.id))
        finally:
            admin.close()
        values = body.model_dump() | {"secret": self._sealer.seal(secret)}
        row = self.subscriptions.add_agency(values, Decision(ADMINISTRATOR, "added"))
        return _shown(row) | {"secret": secret}

    def _check_agency(self, body: AgencyBody) -> None:
        check_destination(body.sink, resolve, self._networks)
        try:
            check_division(body.division)
        except ValueError as error:
            raise InvalidError([FieldProblem("/division", str(error))]) from error

    def set_sink(self, agency: str, body: SinkBody) -> dict[str, Any]:
        """Change where an agency's feed goes."""
        check_destination(body.sink, resolve, self._networks)
        return _shown(self.subscriptions.set_agency(agency, Decision(ADMINISTRATOR, body.reason), sink=body.sink))

    def set_agency_state(self, agency: str, state: Literal["active", "suspended"], reason: str) -> dict[str, Any]:
        """Suspend an agency or take it up again; its line is held meanwhile and nothing is dropped."""
        return _shown(self.subscriptions.set_agency(agency, Decision(ADMINISTRATOR, reason), state=state))

    def _type_problems(self, types: Sequence[str]) -> list[FieldProblem]:
        return [
            FieldProblem(f"/types/{n}", f"没有这个事件类型 (unknown event type): {name}")
            for n, name in enumerate(types)
            if name not in self._contracts.types
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


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host; raises OSError."""
    return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in plain(row).items() if name != "secret"}


def add_routes(
    app: FastAPI, administration: Administration, access: AccessAdministration, desk: Desk, admin_key: str
) -> None:
    """Put the administration's routes on an application."""

    def authorised(authorization: Annotated[str, Header()] = "") -> None:
        if not hmac.compare_digest(authorization.encode(), f"Bearer {admin_key}".encode()):
            raise ForbiddenError("需要管理密钥 (the administration key is needed: Authorization: Bearer …)")

    router = APIRouter(prefix="/v1", dependencies=[Depends(authorised)])
    _department_routes(router, administration)
    _agency_routes(router, administration)
    router.include_router(access_routes(access))
    deadletter_routes(router, desk)
    app.include_router(router)


def _department_routes(router: APIRouter, administration: Administration) -> None:
    @router.post("/departments", status_code=201)
    def add(body: DepartmentBody) -> dict[str, Any]:
        return administration.add_department(body)

    @router.get("/departments")
    def all_of_them() -> list[dict[str, Any]]:
        return [administration.department(row) for row in administration.departments.list()]

    @router.post("/departments/{department}/keys", status_code=201)
    def rotate(department: str, body: RotateBody) -> dict[str, Any]:
        return administration.rotate_key(department, body)

    @router.post("/departments/{department}/keys/{key}/revoke")
    def revoke(department: str, key: str, body: ReasonBody) -> dict[str, Any]:
        return administration.revoke_key(department, key, body.reason)


def _agency_routes(router: APIRouter, administration: Administration) -> None:
    @router.post("/agencies", status_code=201)
    def add(body: AgencyBody) -> dict[str, Any]:
        return administration.add_agency(body)

    @router.get("/agencies")
    def all_of_them() -> list[dict[str, Any]]:
        return [_shown(row) for row in administration.subscriptions.agencies()]

    @router.patch("/agencies/{agency}")
    def change(agency: str, body: SinkBody) -> dict[str, Any]:
        return administration.set_sink(agency, body)

    @router.post("/agencies/{agency}/suspend")
    def suspend(agency: str, body: ReasonBody) -> dict[str, Any]:
        return administration.set_agency_state(agency, "suspended", body.reason)

    @router.post("/agencies/{agency}/resume")
    def resume(agency: str, body: ReasonBody) -> dict[str, Any]:
        return administration.set_agency_state(agency, "active", body.reason)

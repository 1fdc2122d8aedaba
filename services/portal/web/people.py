"""The security administrator's page: accounts, roles, one-time passwords, unlocking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Response
from pydantic import ValidationError

from services.identity.people import Person, Role
from services.portal.people import People, PersonBody
from services.portal.web.forms import Posted, PostedLists, reason_of
from services.portal.web.site import Site
from services.portal.web.viewer import Viewer, Viewing, allow
from services.portal.web.wording import Text
from services.runtime.errors import FieldProblem, ForbiddenError, HongyanError, InvalidError, NotFoundError
from services.runtime.mistakes import said_of


def routes(site: Site, people: People) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/people")
    desk = PeopleDesk(site, people)

    @router.get("")
    def all_of_them(viewer: Viewing, q: str = "") -> Response:
        allow(viewer, Role.SECURITY)
        return desk.everybody(viewer, q.strip())

    @router.get("/new")
    def new(viewer: Viewing) -> Response:
        allow(viewer, Role.SECURITY)
        return desk.form(viewer)

    @router.post("")
    def add(viewer: Viewing, form: PostedLists) -> Response:
        allow(viewer, Role.SECURITY)
        return desk.add(viewer, form)

    @router.get("/{person}")
    def show(viewer: Viewing, person: str) -> Response:
        allow(viewer, Role.SECURITY)
        return desk.show(viewer, desk.get(person))

    @router.post("/{person}/roles")
    def change(viewer: Viewing, person: str, form: PostedLists) -> Response:
        allow(viewer, Role.SECURITY)
        return desk.change_roles(viewer, desk.get(person), form)

    @router.post("/{person}/password")
    def password(viewer: Viewing, person: str, form: Posted) -> Response:
        allow(viewer, Role.SECURITY)
        return desk.one_time_password(viewer, desk.get(person), reason_of(form))

    @router.post("/{person}/{act}")
    def act(viewer: Viewing, person: str, act: str, form: Posted) -> Response:
        allow(viewer, Role.SECURITY)
        return desk.act(viewer, desk.get(person), act, reason_of(form))

    return router


class PeopleDesk:
    """What the security administrator does to accounts."""

    def __init__(self, site: Site, people: People) -> None:
        self._site = site
        self._people = people

    def get(self, person: str) -> Person:
        """Return somebody; raises NotFoundError."""
        found = self._people.repository.get(person)
        if found is None:
            raise NotFoundError(f"没有这个人员 (no such person): {person}")
        return found

    def everybody(self, viewer: Viewer, wanted: str) -> Response:
        """Return everybody, or those whose account, name or unit holds the text."""
        held = self._site.kept.get(
            "people", lambda: (self._people.repository.everybody(), self._site.entrance.sign_ins.everybody())
        )
        everybody, sign_ins = held.value
        found = [p for p in everybody if wanted in " ".join([p.id, p.name, p.agency or "", p.department or ""])]
        return self._site.pages.page(
            viewer,
            "people/list.html",
            people=found,
            total=len(everybody),
            q=wanted,
            sign_ins=sign_ins,
            held=held,
        )

    def form(
        self, viewer: Viewer, values: Mapping[str, list[str]] | None = None, problems: Mapping[str, str] | None = None
    ) -> Response:
        """Return the form for a new person, with what was wrong at the last try."""
        return self._site.pages.page(
            viewer,
            "people/new.html",
            422 if problems else 200,
            values=values or {},
            problems=problems or {},
            units=self._people.units(),
            roles=list(Role),
        )

    def add(self, viewer: Viewer, form: Mapping[str, list[str]]) -> Response:
        """Add somebody with a one-time password, which is shown this once."""
        given = {name: form[name][-1] for name in ("id", "name", "agency", "department") if form.get(name, [""])[-1]}
        try:
            body = PersonBody.model_validate(
                given | {"roles": form.get("roles", []), "approves": form.get("approves", [])}
            )
            with self._site.audit.doing(viewer, "person.add", f"person/{body.id}", **body.model_dump(exclude={"id"})):
                self._people.add(body)
        except (ValidationError, InvalidError, HongyanError) as error:
            problems = _problems(error)
            if problems is None:
                raise
            return self.form(viewer, form, problems)
        return self.one_time_password(viewer, self.get(body.id), "新建账号")

    def show(self, viewer: Viewer, person: Person) -> Response:
        """Return somebody's page."""
        site = self._site
        return site.pages.page(
            viewer,
            "people/show.html",
            person=person,
            held=site.entrance.sign_ins.get(person.id),
            sessions=site.sessions.of(person.id),
            waits=site.entrance.waits(person.id).total_seconds(),
            roles=list(Role),
            published=self._people.published(person.department),
        )

    def one_time_password(self, viewer: Viewer, person: Person, reason: str) -> Response:
        """Give somebody a password that works once, shown here this once."""
        with self._site.audit.doing(viewer, "person.password", f"person/{person.id}", reason):
            given = self._people.one_time_password(person.id)
        return self._site.pages.page(viewer, "people/password.html", person=person, given=given)

    def change_roles(self, viewer: Viewer, person: Person, form: Mapping[str, list[str]]) -> Response:
        """Change somebody's roles and what they approve; nobody changes their own."""
        reason = reason_of({"reason": form.get("reason", [""])[-1]})
        self._not_oneself(viewer, person)
        if not set(form.get("roles", [])) <= set(Role):
            raise InvalidError([FieldProblem("/roles", "没有这个角色 (no such role)")])
        changed = replace(person, roles=form.get("roles", []), approves=form.get("approves", []))
        detail: dict[str, Any] = {"roles": changed.roles, "approves": changed.approves}
        with self._site.audit.doing(viewer, "person.change", f"person/{person.id}", reason, **detail):
            self._people.change(changed)
        return self._site.pages.to(f"/people/{person.id}", Text("已保存"))

    def act(self, viewer: Viewer, person: Person, act: str, reason: str) -> Response:
        """Do one of the small things to an account."""
        acts: Mapping[str, Callable[[], object]] = {
            "unlock": lambda: self._site.entrance.unlock(person.id),
            "sign-out": lambda: self._site.sessions.end_all(person.id),
            "remove-second-factor": lambda: self._site.entrance.sign_ins.set_totp(person.id, None, 0, []),
            "disable": lambda: self._people.change(replace(person, state="disabled")),
            "enable": lambda: self._people.change(replace(person, state="active")),
        }
        if act not in acts:
            raise NotFoundError(f"没有这项操作 (no such action): {act}")
        if act in {"disable", "remove-second-factor"}:
            self._not_oneself(viewer, person)
        with self._site.audit.doing(viewer, f"person.{act}", f"person/{person.id}", reason):
            acts[act]()
            if act == "disable":
                self._site.sessions.end_all(person.id)
        return self._site.pages.to(f"/people/{person.id}", Text("已完成"))

    @staticmethod
    def _not_oneself(viewer: Viewer, person: Person) -> None:
        if viewer.person.id == person.id:
            raise ForbiddenError("不能改自己的权限，请另一位安全管理员来做 (nobody changes their own rights)")


def _problems(error: Exception) -> dict[str, str] | None:
    """Return what is wrong by field, None for what is no matter of fields."""
    if isinstance(error, ValidationError):
        return {str(one["loc"][0]): said_of(one) for one in error.errors()}
    found: list[FieldProblem] = list(getattr(error, "problems", ()))
    return {one.pointer.split("/")[1]: one.detail for one in found} or None

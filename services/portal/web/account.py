"""One's own account: password, second factor, sessions, language and theme."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request, Response

from services.portal.web import second_factor
from services.portal.web.entrance import WaitError
from services.portal.web.forms import Posted
from services.portal.web.passwords import SHORTEST, weakness
from services.portal.web.site import Site
from services.portal.web.viewer import SignedIn, Viewer, Viewing
from services.portal.web.wording import Text
from services.runtime.errors import ConflictError

ISSUER = "鸿雁 Hongyan"
_BROWSERS = (("Edg/", "Edge"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = ("Windows", "Android", "iPhone", "iPad", "Mac OS X", "Linux")


def browser_of(agent: str) -> str:
    """Return browser and system in two words; what is unknown as it is, cut."""
    name = next((name for mark, name in _BROWSERS if mark in agent), None)
    system = next((system for system in _SYSTEMS if system in agent), None)
    return " · ".join(one for one in (name, system) if one) if name else agent[:40]


def routes(site: Site) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/account")
    own = OwnAccount(site)

    @router.get("")
    def show(viewer: Viewing) -> Response:
        return own.show(viewer)

    @router.get("/password")
    def choose(viewer: SignedIn) -> Response:
        return own.password_page(viewer)

    @router.post("/password")
    def change(request: Request, viewer: SignedIn, form: Posted) -> Response:
        return own.change_password(request, viewer, form.get("old", ""), form.get("new", ""), form.get("again", ""))

    @router.get("/second-factor")
    def enrol(viewer: SignedIn) -> Response:
        return own.enrolment(viewer, second_factor.new_secret())

    @router.post("/second-factor")
    def confirm(request: Request, viewer: SignedIn, form: Posted) -> Response:
        return own.confirm(viewer, request.cookies.get(site.cookies.step), form)

    @router.post("/second-factor/remove")
    def remove(viewer: Viewing, form: Posted) -> Response:
        return own.remove_second(viewer, form.get("password", ""))

    @router.post("/sessions/end")
    def end(viewer: Viewing, form: Posted) -> Response:
        return own.end_sessions(viewer, form.get("session"))

    return router


class OwnAccount:
    """What somebody does to their own account."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def show(self, viewer: Viewer, error: str | None = None) -> Response:
        """Return the account's page."""
        person, site = viewer.person.id, self._site
        kept = site.kept.get(
            ("account", person), lambda: (site.entrance.sign_ins.get(person), site.sessions.of(person))
        )
        held, sessions = kept.value
        return site.pages.page(
            viewer,
            "account/show.html",
            422 if error else 200,
            kept=kept,
            held=held,
            sessions=sessions,
            browser_of=browser_of,
            limits=site.sessions.limits,
            error=error,
        )

    def password_page(self, viewer: Viewer, old: str | None = None, new: str | None = None) -> Response:
        """Return the page to choose a password on, with what was wrong at the last try."""
        held = self._site.entrance.sign_ins.get(viewer.person.id)
        return self._site.pages.page(
            viewer,
            "account/password.html",
            422 if old or new else 200,
            shortest=SHORTEST,
            first=held is not None and held.one_time,
            old_error=old,
            new_error=new,
        )

    def change_password(self, request: Request, viewer: Viewer, old: str, new: str, again: str) -> Response:
        """Take a new password: all other sessions end, and this one goes on under a new token."""
        site, person = self._site, viewer.person
        wrong = "两次输入不一致 (the two are not the same)" if new != again else weakness(new, person)
        if wrong is None and new == old:
            wrong = "与原密码相同 (it is the same as before)"
        if wrong is not None:
            return self.password_page(viewer, new=wrong)
        try:
            fits = site.entrance.check_own(viewer, person.id, old)
        except WaitError as error:
            return self.password_page(viewer, old=str(error))
        if not fits:
            return self.password_page(viewer, old="原密码不对 (the present password is wrong)")
        with site.audit.doing(viewer, "password.change", f"person/{person.id}"):
            site.entrance.sign_ins.set_password(person.id, site.entrance.passwords.hash(new))
            site.sessions.end_all(person.id)
        token = site.sessions.begin(person, viewer.address, request.headers.get("user-agent", ""))
        answer = site.pages.to("/account", Text("密码已修改，其他会话均已退出"))
        site.cookies.keep(answer, site.cookies.session, token)
        return answer

    def enrolment(self, viewer: Viewer, secret: str, error: str | None = None) -> Response:
        """Return the page with the picture for an app; the secret waits in a sealed cookie until a code proves it."""
        site = self._site
        address = second_factor.enrolment_address(secret, viewer.person.id, ISSUER)
        held = site.entrance.sign_ins.get(viewer.person.id)
        answer = site.pages.page(
            viewer,
            "account/second_factor.html",
            422 if error else 200,
            picture=second_factor.picture(address),
            secret=" ".join(secret[n : n + 4] for n in range(0, len(secret), 4)),
            error=error,
            replaces=held is not None and held.totp is not None,
        )
        values = {"person": viewer.person.id, "secret": secret}
        token = site.entrance.tokens.make("enrolment", values, second_factor.ENROLMENT_LASTS)
        site.cookies.keep(answer, site.cookies.step, token, int(second_factor.ENROLMENT_LASTS.total_seconds()))
        return answer

    def confirm(self, viewer: Viewer, token: str | None, form: Mapping[str, str]) -> Response:
        """Keep a second factor once a code shows that the app has it; the recovery codes are shown this once."""
        site, person = self._site, viewer.person
        held = site.entrance.tokens.open("enrolment", token)
        if held is None or held["person"] != person.id:
            return self.enrolment(viewer, second_factor.new_secret(), "已超时，请重新扫描 (too late: scan it anew)")
        wrong = self._may_replace(viewer, form.get("password", ""))
        if wrong is not None:
            return self.enrolment(viewer, held["secret"], wrong)
        step = second_factor.step_of(held["secret"], form.get("code", ""), site.clock.now())
        if step is None:
            wrong = "动态码不对，请核对手机时间 (the code is wrong: check the phone's clock)"
            return self.enrolment(viewer, held["secret"], wrong)
        codes = second_factor.recovery_codes()
        digests = [second_factor.recovery_digest(one) for one in codes]
        with site.audit.doing(viewer, "second-factor.enrol", f"person/{person.id}"):
            site.entrance.sign_ins.set_totp(person.id, site.entrance.sealer.seal(held["secret"]), step, digests)
        answer = site.pages.page(viewer, "account/recovery.html", codes=codes)
        site.cookies.drop(answer, site.cookies.step)
        return answer

    def _may_replace(self, viewer: Viewer, password: str) -> str | None:
        """Return why a second factor may not be enrolled: whoever has one gives their password to replace it."""
        entrance, person = self._site.entrance, viewer.person
        held = entrance.sign_ins.get(person.id)
        if held is None or held.totp is None:
            return None
        try:
            return None if entrance.check_own(viewer, person.id, password) else "密码不对 (the password is wrong)"
        except WaitError as error:
            return str(error)

    def remove_second(self, viewer: Viewer, password: str) -> Response:
        """Remove the second factor; the password is asked for again."""
        site, person = self._site, viewer.person
        try:
            fits = site.entrance.check_own(viewer, person.id, password)
        except WaitError as error:
            return self.show(viewer, str(error))
        if not fits:
            return self.show(viewer, "密码不对 (the password is wrong)")
        with site.audit.doing(viewer, "second-factor.remove", f"person/{person.id}"):
            site.entrance.sign_ins.set_totp(person.id, None, 0, [])
        return site.pages.to("/account", Text("两步验证已停用"))

    def end_sessions(self, viewer: Viewer, session: str | None) -> Response:
        """End one of one's sessions, or all but this one."""
        site, person = self._site, viewer.person
        if session and session not in {one.digest for one in site.sessions.of(person.id)}:
            raise ConflictError("这个会话已经结束 (this session has ended)")
        with site.audit.doing(viewer, "session.end", f"person/{person.id}"):
            if session:
                site.sessions.end(session)
            else:
                site.sessions.end_all(person.id, but=viewer.session)
        return site.pages.to("/account", Text("所选会话已退出"))

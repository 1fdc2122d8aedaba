"""Signing in: who may, what they must show, what failing costs. Every attempt that is looked at is audited."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from services.identity.people import ADMINISTRATORS, Person, PersonRepository
from services.identity.portal_sessions import Session
from services.identity.sign_ins import SignIn, SignInRepository
from services.portal.web import second_factor
from services.portal.web.audit import Audit
from services.portal.web.cookies import new_token
from services.portal.web.passwords import Passwords
from services.portal.web.patience import FORGOTTEN, OF_ACCOUNT, OF_ADDRESS
from services.portal.web.tokens import Tokens
from services.portal.web.viewer import Visitor
from services.runtime.clock import Clock
from services.runtime.errors import HongyanError
from services.subscriptions.sealing import Sealer

SECOND_LASTS = timedelta(minutes=5)
DEVICE_LASTS = timedelta(days=365)
CHOOSE_PASSWORD, CHOOSE_SECOND = "/account/password", "/account/second-factor"


class RefusedError(HongyanError):
    """账号或密码不对 (the account or the password is wrong)"""


class WaitError(HongyanError):
    """Too many failures: whoever tries must wait."""

    def __init__(self, wait: timedelta) -> None:
        self.seconds = int(wait.total_seconds()) + 1
        super().__init__(f"尝试次数过多，请 {self.seconds} 秒后再试 (too many attempts: wait {self.seconds} s)")


@dataclass(frozen=True, slots=True)
class Passed:
    """Somebody who has shown all that is asked; ``token`` is None while their second factor is still to come."""

    person: Person
    second: str | None = None


class Entrance:
    """Checks passwords and second factors."""

    def __init__(
        self,
        people: PersonRepository,
        sign_ins: SignInRepository,
        passwords: Passwords,
        sealer: Sealer,
        tokens: Tokens,
        audit: Audit,
        clock: Clock,
        second_factor_for: Literal["nobody", "administrators", "everybody"],
    ) -> None:
        self.people = people
        self.sign_ins = sign_ins
        self.passwords = passwords
        self.sealer = sealer
        self.tokens = tokens
        self._audit = audit
        self._clock = clock
        self._second_factor_for = second_factor_for
        self._counting = threading.Lock()

    def comes_first(self, session: Session) -> str | None:
        """Return the page that somebody must go to before any other, None for most."""
        if session.method != "password":
            return None
        if session.one_time:
            return CHOOSE_PASSWORD
        return CHOOSE_SECOND if self._needs_second(session.person) and not session.second_factor else None

    def _needs_second(self, person: Person) -> bool:
        if self._second_factor_for == "administrators":
            return bool(ADMINISTRATORS & set(person.roles))
        return self._second_factor_for == "everybody"

    def by_password(self, visitor: Visitor, account: str, password: str, device: str | None) -> Passed:
        """Return who has come in by a password; raises RefusedError or WaitError."""
        subject = self._subject(account, device)
        self._count(subject, visitor.address)
        person, held = self.people.get(account), self.sign_ins.get(account)
        fits = self.passwords.fits(held.password if held else None, password)
        if person is None or held is None or not fits or person.state != "active":
            raise self._refused(visitor, account, "password")
        if held.expires_at is not None and held.expires_at <= self._clock.now():
            self._audit.record(visitor, "sign-in", f"person/{account}", "", "refused", person=account, why="expired")
            raise RefusedError(
                "一次性密码已过期，请向安全管理员另要一个 (the one-time password has expired: ask for another)"
            )
        if held.totp is not None:
            return Passed(person, self.tokens.make("second", {"person": person.id}, SECOND_LASTS))
        return self._passed(visitor, person, subject, "password")

    def by_code(self, visitor: Visitor, token: str | None, code: str, device: str | None) -> Passed:
        """Return who has come in by a code of their second factor, or a recovery code."""
        step = self.tokens.open("second", token)
        if step is None:
            raise RefusedError("登录已超时，请重新输入密码 (this took too long: enter the password again)")
        account = step["person"]
        subject = self._subject(account, device)
        self._count(subject, visitor.address)
        person, held = self.people.get(account), self.sign_ins.get(account)
        if person is None or held is None or person.state != "active" or not self._second(held, code):
            raise self._refused(visitor, account, "second factor")
        return self._passed(visitor, person, subject, "second factor")

    def by_issuer(self, visitor: Visitor, account: str) -> Passed:
        """Return who has come in by the OIDC issuer."""
        person = self.people.get(account)
        if person is None or person.state != "active":
            raise self._refused(visitor, account, "oidc")
        return self._passed(visitor, person, of_account(account), "oidc")

    def device_of(self, person: Person, device: str | None) -> str:
        """Return the token by which a browser that somebody has come in with is known again."""
        held = self.tokens.open("device", device)
        if device is not None and held is not None and held["person"] == person.id:
            return device
        return self.tokens.make("device", {"person": person.id, "name": new_token()}, DEVICE_LASTS)

    def unlock(self, account: str) -> None:
        """Let somebody try again at once."""
        self.sign_ins.forgive(of_account(account))

    def waits(self, account: str) -> timedelta:
        """Return how long an account's new browsers must wait."""
        subject = of_account(account)
        return OF_ACCOUNT.left(self.sign_ins.failures([subject]).get(subject), self._clock.now())

    def check_own(self, visitor: Visitor, account: str, password: str) -> bool:
        """Tell whether somebody who has signed in knows their password; failing counts as at the door."""
        subject = f"own:{account}"
        self._count(subject, visitor.address)
        held = self.sign_ins.get(account)
        if not self.passwords.fits(held.password if held else None, password):
            self._failed_from(visitor.address)
            return False
        self.sign_ins.forgive(subject)
        return True

    def _subject(self, account: str, device: str | None) -> str:
        """Return whose failures count: those from a browser that is somebody's own apart from all others'.

        So whoever guesses at an account from elsewhere doesn't lock its owner out.
        """
        held = self.tokens.open("device", device)
        if held is not None and held["person"] == account:
            return f"device:{hashlib.sha256(held['name'].encode()).hexdigest()}"
        return of_account(account)

    def _count(self, subject: str, address: str) -> None:
        """Count an attempt as failed until it succeeds, so that many at once are no way round; raises WaitError."""
        now, place = self._clock.now(), f"address:{address}"
        with self._counting:
            held = self.sign_ins.failures([subject, place])
            wait = max(OF_ACCOUNT.left(held.get(subject), now), OF_ADDRESS.left(held.get(place), now))
            if wait:
                raise WaitError(wait)
            self.sign_ins.failed([subject], now, now - FORGOTTEN)

    def _failed_from(self, address: str) -> None:
        now = self._clock.now()
        self.sign_ins.failed([f"address:{address}"], now, now - FORGOTTEN)

    def _refused(self, visitor: Visitor, account: str, how: str) -> RefusedError:
        self._failed_from(visitor.address)
        # What is no account may be a password, typed into the wrong field: that is kept nowhere.
        known = account if self.people.get(account) is not None else "?"
        self._audit.record(visitor, "sign-in", f"person/{known}", "", "refused", person=known, by=how)
        return RefusedError("动态码不对，或已用过 (the code is wrong or was used)" if how == "second factor" else None)

    def _passed(self, visitor: Visitor, person: Person, subject: str, how: str) -> Passed:
        self._audit.record(visitor, "sign-in", f"person/{person.id}", person=person.id, by=how)
        self.sign_ins.forgive(subject)
        self.sign_ins.succeeded(person.id, self._clock.now())
        return Passed(person)

    def _second(self, held: SignIn, code: str) -> bool:
        if held.totp is None:
            return False
        step = second_factor.step_of(self.sealer.open(held.totp), code, self._clock.now())
        if step is not None:
            return self.sign_ins.use_step(held.person, step)
        return self.sign_ins.use_recovery(held.person, second_factor.recovery_digest(code))


def of_account(account: str) -> str:
    """Return whose failures count for an account, whatever was typed as one."""
    return f"account:{hashlib.sha256(account.encode()).hexdigest()}"

"""Who calls the administration API: the administrator by the installation's key, or a person by one of their own."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Depends, Request

from services.identity.people import PersonRepository
from services.runtime.errors import FieldProblem, ForbiddenError, InvalidError, UnauthenticatedError
from services.subscriptions.lifecycle import Actor

NEEDED = "需要管理密钥或本人密钥：Authorization: Bearer … (the administration key or a person's own is needed)"
UNKNOWN = "密钥不对：不是管理密钥，也不是哪个人的 (this key is neither the administration's nor any person's)"


class Callers:
    """Tells who calls, and on whose behalf."""

    def __init__(self, people: PersonRepository, admin_key: str) -> None:
        self._people = people
        self._admin_key = admin_key

    def caller(self, authorization: str) -> Actor:
        """Return who calls; raises UnauthenticatedError without a key, or for an unknown one."""
        if hmac.compare_digest(authorization.encode(), f"Bearer {self._admin_key}".encode()):
            return Actor(None, administrator=True)
        kind, _, key = authorization.partition(" ")
        if kind != "Bearer" or not key:
            raise UnauthenticatedError(NEEDED)
        person = self._people.by_key(key)
        if person is None:
            raise UnauthenticatedError(UNKNOWN)
        return Actor(person, administrator=False)

    def acting(self, caller: Actor, by: str | None, pointer: str = "/by") -> Actor:
        """Return who acts: the administrator may enter what the person named has decided; others act for themselves."""
        if by is None:
            return caller
        if not caller.administrator:
            if by != caller.name:
                raise ForbiddenError(f"密钥是 {caller.name} 的，不能以 {by} 行事 (this key is not theirs)")
            return caller
        person = self._people.get(by)
        if person is None:
            raise InvalidError([FieldProblem(pointer, f"没有这个人员 (no such person): {by}")])
        return Actor(person, administrator=True)


def calling(request: Request) -> Actor:
    """Return who makes a request; the application's state holds the :class:`Callers`."""
    callers: Callers = request.app.state.callers
    return callers.caller(request.headers.get("authorization", ""))


def administering(request: Request) -> None:
    """Refuse everybody but the administrator."""
    if not calling(request).administrator:
        raise ForbiddenError("需要管理密钥 (the administration key is needed)")


Calling = Annotated[Actor, Depends(calling)]

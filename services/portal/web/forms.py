"""What a form brings: its fields, and the token that shows that it is one of ours."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends, Request

from services.portal.web.viewer import Visitor, visiting
from services.runtime.errors import FieldProblem, ForbiddenError, InvalidError, TooLargeError

MAX_FIELDS, MAX_BYTES = 1000, 4 * 1024 * 1024
REASON_LENGTH = 500
STALE = "页面已过期，请返回刷新后再提交 (the page is out of date: go back, load it again and send it once more)"
FOREIGN = "请求不是从本站页面发出的 (the request does not come from a page of this site)"


async def posted_lists(request: Request, visitor: Annotated[Visitor, Depends(visiting)]) -> Mapping[str, list[str]]:
    """Return a form's fields with all values of each; raises ForbiddenError for a form that is not ours."""
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise ForbiddenError(FOREIGN)
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > MAX_BYTES:
        raise TooLargeError([FieldProblem("/", f"至多 {MAX_BYTES} 字节 (too large)")])
    form = await request.form(max_files=0, max_fields=MAX_FIELDS)
    found: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, str) and "\0" not in value:
            found.setdefault(name, []).append(value.strip())
    token = found.pop("csrf", [""])[-1]
    # Who is signed out has no session to keep a token in: their cookie and their form must say the same.
    known = visitor.person is not None or _cookie(request) == visitor.csrf
    if not known or not hmac.compare_digest(token.encode(), visitor.csrf.encode()):
        raise ForbiddenError(STALE)
    return found


def posted(lists: Annotated[Mapping[str, list[str]], Depends(posted_lists)]) -> Mapping[str, str]:
    """Return a form's fields, the last value of each."""
    return {name: values[-1] for name, values in lists.items()}


PostedLists = Annotated[Mapping[str, list[str]], Depends(posted_lists)]
Posted = Annotated[Mapping[str, str], Depends(posted)]


def reason_of(form: Mapping[str, str]) -> str:
    """Return why something is done; raises InvalidError where that is not said."""
    reason = form.get("reason", "").strip()
    if not reason:
        raise InvalidError([FieldProblem("/reason", "请写明理由，会记入审计 (say why: it is kept in the audit log)")])
    if len(reason) > REASON_LENGTH:
        raise InvalidError([FieldProblem("/reason", f"至多 {REASON_LENGTH} 字 (too long)")])
    return reason


def _cookie(request: Request) -> str | None:
    return request.cookies.get(request.app.state.site.cookies.form)

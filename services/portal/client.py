"""The commands' way to the administration API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import typer

from services.runtime.direct import open_direct
from services.runtime.errors import NOT_HERE, HongyanError
from services.runtime.settings import Settings

TIMEOUT_S = 15.0


class CommandError(Exception):
    """What a command could not do, in lines for people."""


def call(
    settings: Settings, method: str, path: str, body: Mapping[str, Any] | None = None, timeout_s: float = TIMEOUT_S
) -> Any:  # noqa: ANN401
    """Call the API and return its JSON answer; raises CommandError with one line a bad field."""
    key = settings.portal.person_key or settings.security.admin_key
    if key is None:
        raise CommandError(f"没有管理密钥。{NOT_HERE} (no administration key: HONGYAN_SECURITY__ADMIN_KEY)")
    request = urllib.request.Request(  # noqa: S310  (the address comes from the installation's own settings)
        settings.portal.url.rstrip("/") + path,
        data=json.dumps(body).encode() if body is not None else None,
        method=method,
        headers={"Authorization": f"Bearer {key.get_secret_value()}", "Content-Type": "application/json"},
    )
    try:
        with open_direct(request, timeout_s) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise CommandError(_lines(error)) from error
    except OSError as error:
        raise CommandError(f"管理接口 {settings.portal.url} 没有应答：{error} (is `hongyan up` running?)") from error


def first_account(settings: Settings) -> tuple[str, str] | None:
    """Return the account and one-time password that a new installation begins with; None once anybody has come in."""
    try:
        found = call(settings, "POST", "/v1/people/first")
    except CommandError as error:
        raise HongyanError(str(error)) from error
    return None if found is None else (found["person"], found["password"])


def _lines(error: urllib.error.HTTPError) -> str:
    try:
        found = json.load(error)
    except ValueError:
        return f"HTTP {error.code}"
    bad = [f"  {e['pointer']}：{e['detail']}" for e in found.get("errors", ())]
    return "\n".join([f"{found.get('title')}", *(bad or [f"  {found.get('detail')}"])])


def fail(error: Exception) -> typer.Exit:
    """Print an error for people and return the exit to raise."""
    typer.secho(str(error), fg=typer.colors.RED, err=True)
    return typer.Exit(1)

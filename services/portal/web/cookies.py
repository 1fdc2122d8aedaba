"""The portal's cookies: which there are and how they are marked."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Response

LANGUAGE, THEME, NOTE = "hongyan_language", "hongyan_theme", "hongyan_note"
YEAR_S = 365 * 24 * 3600
MAX_TOKEN = 64
_MAX_NOTE = 2000


def new_token() -> str:
    """Return a token that nobody guesses."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Cookies:
    """Names and marks. Over https they are Secure, and their names bind them to this host (``__Host-``)."""

    https: bool

    @property
    def session(self) -> str:
        """Return the name of the session's cookie."""
        return self._name("hongyan_session")

    @property
    def form(self) -> str:
        """Return the name of the cookie that a form of who is signed out must repeat."""
        return self._name("hongyan_form")

    @property
    def step(self) -> str:
        """Return the name of the cookie that holds how far a sign-in is."""
        return self._name("hongyan_step")

    @property
    def device(self) -> str:
        """Return the name of the cookie by which somebody's own browser is known."""
        return self._name("hongyan_device")

    def keep(self, answer: Response, name: str, value: str, max_age_s: int | None = None) -> None:
        """Set a cookie that scripts can't read and that other sites' forms don't send."""
        answer.set_cookie(name, value, max_age=max_age_s, path="/", secure=self.https, httponly=True, samesite="lax")

    def drop(self, answer: Response, name: str) -> None:
        """Remove a cookie."""
        answer.delete_cookie(name, path="/", secure=self.https, httponly=True, samesite="lax")

    def _name(self, name: str) -> str:
        return f"__Host-{name}" if self.https else name


def note_cookie(text: str, values: Mapping[str, object]) -> str:
    """Return a note for the next page as a cookie's value."""
    whole = json.dumps({"text": text, "values": {name: str(value) for name, value in values.items()}})
    return base64.urlsafe_b64encode(whole.encode()).decode()


def note_of(value: str | None) -> Mapping[str, Any] | None:
    """Return the note of a cookie, None for what is none."""
    if not value or len(value) > _MAX_NOTE:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(value))
    except (binascii.Error, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("values"), dict) else None

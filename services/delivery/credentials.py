"""Bearer tokens towards receivers: a fixed one, or one fetched with OAuth2 client credentials, kept and renewed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import orjson

from services.delivery.profile import Bearer, ClientCredentials, Profile, Tls

RENEW_BEFORE_S = 30.0
WITHOUT_END_S = 300.0
MAX_HELD = 1024

Post = Callable[[str, dict[str, str], Profile], Awaitable[tuple[int, bytes]]]
"""Posts a form to an address, with the network check, TLS and time-outs of deliveries; returns status and answer."""


class TokenRefusedError(Exception):
    """The token server gave no token; a message for people."""


@dataclass(slots=True)
class _Held:
    token: str = ""
    until: float = 0.0
    fetching: asyncio.Lock = field(default_factory=asyncio.Lock)


class Tokens:
    """Keeps one token for each set of credentials and way of TLS; many deliveries at once fetch it once."""

    def __init__(self, post: Post, monotonic: Callable[[], float]) -> None:
        self._post = post
        self._monotonic = monotonic
        self._held: dict[tuple[ClientCredentials, Tls | None], _Held] = {}

    async def token(self, auth: Bearer | ClientCredentials, profile: Profile) -> str:
        """Return a token that is good now; raises TokenRefusedError, or what the network raises."""
        if isinstance(auth, Bearer):
            return auth.token
        if len(self._held) >= MAX_HELD:  # each change of a secret adds one
            self._held.clear()
        held = self._held.setdefault((auth, profile.tls), _Held())
        async with held.fetching:
            if self._monotonic() >= held.until:
                await self._fetch(auth, profile, held)
            return held.token

    def forget(self, auth: Bearer | ClientCredentials, profile: Profile) -> None:
        """Fetch anew next time: the receiver did not take this one."""
        if isinstance(auth, ClientCredentials) and (held := self._held.get((auth, profile.tls))) is not None:
            held.until = 0.0

    async def _fetch(self, auth: ClientCredentials, profile: Profile, held: _Held) -> None:
        form = {
            "grant_type": "client_credentials",
            "client_id": auth.client_id,
            "client_secret": auth.client_secret,
        }
        if auth.scope is not None:
            form["scope"] = auth.scope
        status, answer = await self._post(auth.token_url, form, profile)
        try:
            document = orjson.loads(answer)
            given = document.get("expires_in")
            token, lasts = str(document["access_token"]), WITHOUT_END_S if given is None else float(given)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TokenRefusedError(
                f"令牌服务 {auth.token_url} 没有给出令牌 (no token given): HTTP {status}"
            ) from error
        held.token = token
        # A token that lasts less than the margin is used for half of its life.
        held.until = self._monotonic() + max(lasts - RENEW_BEFORE_S, lasts / 2)

"""Posts to receivers. The network check happens at every connection, on the very addresses that are connected to."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType

from services.delivery.causes import said
from services.delivery.credentials import TokenRefusedError, Tokens
from services.delivery.exchange import PLAIN, Exchange, read_into
from services.delivery.lookups import Lookups
from services.delivery.message import CURSOR_HEADER, Post
from services.delivery.network import Network, is_allowed
from services.delivery.outcome import HINT_HEADER, Later, Outcome, Refused, outcome_of
from services.delivery.profile import Profile, Tls
from services.delivery.receiver import Receiver
from services.delivery.signing import signed_headers
from services.delivery.tls import context_of
from services.delivery.troubles import trouble_of

NO_KEY = "没有有效的签名密钥，先 hongyan agency rotate-key (no live key to sign with)"
MAX_CONTEXTS = 1024

Lookup = Callable[[str, int, socket.AddressFamily], Awaitable[list[ResolveResult]]]
"""Resolves a name; the system's by default."""


class OutsideNetworkError(OSError):
    """The receiver's address is outside the allowed networks."""


class CheckingResolver(AbstractResolver):
    """Resolves names, and gives an address to connect to only when all of the name's are allowed.

    It is asked at every new connection and connects to what it gave: a name that answers differently the next time is
    checked anew (no rebinding).
    """

    def __init__(self, networks: Sequence[Network], lookup: Lookup | None = None) -> None:
        self._networks = networks
        self._lookup = lookup or Lookups().resolve

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses; raises OutsideNetworkError."""
        found = await self._lookup(host, port, family)
        refused = [entry["host"] for entry in found if not is_allowed(entry["host"], self._networks)]
        if refused:
            raise OutsideNetworkError(f"{host}: {', '.join(refused)} 不在允许的网络内 (outside the allowed networks)")
        return found

    async def close(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt came to; ``status`` and ``answer`` (its beginning) are None and empty without an answer."""

    outcome: Outcome
    seconds: float
    status: int | None = None
    answer: bytes = b""


class Sender:
    """Posts with one pool of connections, made in the event loop that uses it."""

    def __init__(self, networks: Sequence[Network], lookup: Lookup | None = None) -> None:
        self._networks = networks
        connector = aiohttp.TCPConnector(
            limit=0,
            resolver=CheckingResolver(networks, lookup),
            use_dns_cache=False,
            force_close=False,
            socket_factory=self._socket,
        )
        self._exchange = Exchange(connector)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=PLAIN,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        self._tokens = Tokens(self._post_form, time.monotonic)
        self._contexts: dict[tuple[Tls | None, bool], ssl.SSLContext] = {}

    async def send(self, receiver: Receiver, post: Post, now: datetime) -> Outcome:
        """Make one attempt and return what it came to; never raises for what the receiver or the network does."""
        return (await self.attempt(receiver, post, now)).outcome

    async def attempt(self, receiver: Receiver, post: Post, now: datetime) -> Attempt:
        """Make one attempt and return it whole."""
        began = time.monotonic()
        try:
            outcome, status, answer = await self._attempt(receiver, post, now)
        except TimeoutError:
            outcome, status, answer = Later("超时 (timed out)"), None, b""
        except TokenRefusedError as error:
            outcome, status, answer = Later(str(error)), None, b""
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError, ValueError) as error:
            outcome, status, answer = Later(_reason(error)), None, b""
        return Attempt(outcome, time.monotonic() - began, status, answer)

    async def _attempt(self, receiver: Receiver, post: Post, now: datetime) -> tuple[Outcome, int | None, bytes]:
        profile, secrets = receiver.profile, receiver.secrets(now)
        if not secrets:
            # Refused for want of a signature, one event after the other would be parked.
            return Later(NO_KEY), None, b""
        headers = {
            "Content-Type": post.content_type,
            CURSOR_HEADER: str(post.cursor),
            **post.headers,
            **signed_headers(secrets, post.webhook_id, int(now.timestamp()), post.body),
        }
        if profile.auth is not None:
            async with asyncio.timeout(profile.timeout_s):
                headers["Authorization"] = f"Bearer {await self._tokens.token(profile.auth, profile)}"
        answer = await self._exchange.post(
            receiver.sink,
            self._context(profile.tls) if receiver.sink.lower().startswith("https:") else True,
            headers,
            post.body,
            _timeout(profile.timeout_s, profile.connect_timeout_s),
        )
        if answer.status == 401 and profile.auth is not None:
            self._tokens.forget(profile.auth, profile)
        outcome = outcome_of(
            answer.status,
            answer.headers.get("Retry-After"),
            now,
            answer.headers.get(HINT_HEADER),
            credentialed=profile.auth is not None,
        )
        if isinstance(outcome, Refused):
            outcome = replace(outcome, words=said(answer.body))
        return outcome, answer.status, answer.body

    async def _post_form(self, url: str, form: dict[str, str], profile: Profile) -> tuple[int, bytes]:
        async with self._session.post(
            url,
            data=form,
            allow_redirects=False,
            timeout=_timeout(profile.timeout_s, profile.connect_timeout_s),
            # A token server may stand at the receiver, or be one for many that everybody trusts.
            ssl=self._context(profile.tls, system_too=True) if url.lower().startswith("https:") else True,
        ) as answer:
            body = bytearray()
            if not await read_into(body, answer.content):
                answer.close()
            return answer.status, bytes(body)

    def _context(self, tls: Tls | None, *, system_too: bool = False) -> ssl.SSLContext:
        known = self._contexts.get((tls, system_too))
        if known is None:
            if len(self._contexts) >= MAX_CONTEXTS:  # each change of a certificate makes one
                self._contexts.clear()
            known = self._contexts[tls, system_too] = context_of(tls, system_too=system_too)
        return known

    def _socket(self, address: AddrInfoType) -> socket.socket:
        """Make the socket of a connection, if its address is allowed, however a URL wrote it."""
        family, kind, protocol, _, at = address
        if not is_allowed(str(at[0]), self._networks):
            raise OutsideNetworkError(f"{at[0]} 不在允许的网络内 (outside the allowed networks)")
        return socket.socket(family, kind, protocol)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


def _reason(error: Exception) -> str:
    """Return what went wrong; where we may not connect is ours to tell."""
    cause = error.__cause__
    if isinstance(error, OutsideNetworkError) or isinstance(cause, OutsideNetworkError):
        return str(cause or error)
    return trouble_of(error)


@lru_cache(maxsize=4096)
def _timeout(total_s: float, connect_s: float) -> aiohttp.ClientTimeout:
    # Connections aren't counted, so none is waited for: both parts cost a timer only where a connection is made.
    return aiohttp.ClientTimeout(total=total_s, connect=total_s, sock_connect=connect_s)

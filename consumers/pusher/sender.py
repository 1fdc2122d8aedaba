"""Posts one message to one receiver. The network check happens at every attempt, on the addresses connected to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from datetime import datetime
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from consumers.pusher.message import CONTENT_TYPE, CURSOR_HEADER, Message
from services.delivery.network import Network, is_allowed
from services.delivery.outcome import Later, Outcome, outcome_of
from services.delivery.signing import signed_headers

ANSWER_BYTES = 64 * 1024


class OutsideNetworkError(OSError):
    """The receiver's address is outside the allowed networks."""


class CheckingResolver(AbstractResolver):
    """Resolves names, and gives an address to connect to only when all of the name's are allowed."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses; raises OutsideNetworkError."""
        found = await self._resolver.resolve(host, port, family)
        refused = [entry["host"] for entry in found if not is_allowed(entry["host"], self._networks)]
        if refused:
            raise OutsideNetworkError(f"{host}: {', '.join(refused)} 不在允许的网络内 (outside the allowed networks)")
        return found

    async def close(self) -> None:
        """Nothing to close."""


class Sender:
    """Posts messages with one pool of connections, made in the event loop that uses it."""

    def __init__(self, networks: Sequence[Network], timeout_s: float) -> None:
        self._networks = networks
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, resolver=CheckingResolver(networks), use_dns_cache=False),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def send(self, sink: str, secrets: Sequence[str], message: Message, cursor: int, now: datetime) -> Outcome:
        """Make one attempt and return what it came to; never raises for what the receiver or the network does."""
        if not self._literal_allowed(sink):
            return Later(f"{sink} 不在允许的网络内 (outside the allowed networks)")
        headers = {
            "Content-Type": CONTENT_TYPE,
            "User-Agent": "hongyan",
            CURSOR_HEADER: str(cursor),
            **signed_headers(secrets, message.event_id, int(now.timestamp()), message.body),
        }
        try:
            async with self._session.post(sink, data=message.body, headers=headers, allow_redirects=False) as answer:
                await _drain(answer)
                return outcome_of(answer.status, answer.headers.get("Retry-After"), now)
        except TimeoutError:
            return Later("超时 (timed out)")
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError, ValueError) as error:
            return Later(f"{type(error).__name__}: {error}")

    def _literal_allowed(self, sink: str) -> bool:
        """Check an address written into the URL itself: no name is resolved for it."""
        host = urlsplit(sink).hostname or ""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return True
        return is_allowed(host, self._networks)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


async def _drain(answer: aiohttp.ClientResponse) -> None:
    """Read a short answer so that its connection can be used again; a long one costs its connection."""
    await answer.content.read(ANSWER_BYTES)
    if not answer.content.at_eof():
        answer.close()

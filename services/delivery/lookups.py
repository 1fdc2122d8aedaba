"""Resolving names in threads of our own: one host whose name server is dead is nobody else's delay."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from aiohttp.abc import ResolveResult

Found = Sequence[tuple[int, int, int, str, tuple[Any, ...]]]
SystemLookup = Callable[[str, int, int], Found]
"""The system's blocking lookup: host, port and family to what ``getaddrinfo`` returns."""

_Asked = tuple[str, int, int]


def system_lookup(host: str, port: int, family: int) -> Found:
    """Ask the system for stream addresses of the families that this machine has."""
    return socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)


class Lookups:
    """At most one lookup of a host is under way, in a thread that ends with it; whoever wants it meanwhile shares it.

    Nothing is kept: what was found is for those who waited for it. A time-out leaves the lookup to its end.
    """

    def __init__(self, system: SystemLookup = system_lookup) -> None:
        self._system = system
        self._under_way: dict[_Asked, asyncio.Future[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host; raises OSError."""
        asked = (host, port, int(family))
        answer = self._under_way.get(asked)
        if answer is None:
            answer = self._under_way[asked] = asyncio.get_running_loop().create_future()
            answer.add_done_callback(lambda done: self._ended(asked, done))
            threading.Thread(target=self._look_up, args=(asked, answer), name=f"lookup-{host}", daemon=True).start()
        return await asyncio.shield(answer)

    def _ended(self, asked: _Asked, answer: asyncio.Future[list[ResolveResult]]) -> None:
        del self._under_way[asked]
        if not answer.cancelled():
            answer.exception()  # it may be that nobody waits for it any more

    def _look_up(self, asked: _Asked, answer: asyncio.Future[list[ResolveResult]]) -> None:
        found: list[ResolveResult] | Exception
        try:
            found = [_result(asked[0], entry) for entry in self._system(*asked)]
        except (OSError, UnicodeError) as error:
            found = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            answer.get_loop().call_soon_threadsafe(_settle, answer, found)


def _settle(answer: asyncio.Future[list[ResolveResult]], found: list[ResolveResult] | Exception) -> None:
    if answer.done():
        return
    if isinstance(found, Exception):
        answer.set_exception(found if isinstance(found, OSError) else OSError(str(found)))
    else:
        answer.set_result(found)


def _result(host: str, entry: tuple[int, int, int, str, tuple[Any, ...]]) -> ResolveResult:
    family, _, proto, _, address = entry
    # A link-local address of IPv6 is only one together with its interface, which just this spells.
    numeric = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
    return ResolveResult(
        hostname=host,
        host=numeric,
        port=address[1],
        family=family,
        proto=proto,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )

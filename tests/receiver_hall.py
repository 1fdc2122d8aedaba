"""Many receivers in one thread, each on its own port, each behaving well or in one of ten bad ways until healed."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from tests import faults
from tests.faults import Behaviour, Reader, Writer, port_of, raw, request_of

REFUSED_SHARE = 7
"""Of the one that refuses, every so many-th event."""


@dataclass(frozen=True)
class Arrival:
    """One request that a receiver took in, or refused."""

    id: str
    webhook_id: str
    cursor: int
    accepted: bool


@dataclass
class Stall:
    """One agency's receiver."""

    agency: str
    way: str
    healed: bool = False
    arrivals: list[Arrival] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self.port}/"

    def accepted(self) -> list[str]:
        """Return the ids that were answered with 2xx, in order of arrival."""
        return [one.id for one in list(self.arrivals) if one.accepted]


async def _well(stall: Stall, reader: Reader, writer: Writer) -> None:
    """Take events in over a kept connection."""
    while True:
        _, headers, body = await request_of(reader)
        refuses = (
            stall.way == "refuses some" and not stall.healed and int(headers["hongyan-cursor"]) % REFUSED_SHARE == 3
        )
        cursor = int(headers["hongyan-cursor"])
        stall.arrivals.append(Arrival(json.loads(body)["id"], headers["webhook-id"], cursor, not refuses))
        writer.write(f"HTTP/1.1 {422 if refuses else 204} -\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()


BAD: Mapping[str, Behaviour | None] = {
    "closed": None,
    "black hole": faults.never_answers,
    "resets": faults.resets,
    "half an answer": raw(b"HTTP/1.1 20"),
    "trickles": faults.trickles_its_head,
    "fails": faults.answering(500),
    "overloaded": faults.answering(429, {"Retry-After": "1"}),
    "redirects": faults.answering(302, {"Location": "http://127.0.0.1:9/"}),
    "no HTTP": raw(b"220 mail ready\r\n"),
    "refuses some": None,
}
"""Ten ways of misbehaving."""


class Hall:
    """Opens the receivers, and runs their event loop in a thread."""

    def __init__(self, ways: Mapping[str, str]) -> None:
        self.stalls = {agency: Stall(agency, way) for agency, way in ways.items()}
        self._loop = asyncio.new_event_loop()
        self._servers: dict[str, asyncio.Server] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        for stall in self.stalls.values():
            self._do(self._open(stall))

    def heal(self) -> None:
        """Let everybody behave well from now on."""
        for stall in self.stalls.values():
            stall.healed = True
            self._do(self._servers[stall.agency].start_serving())

    def close(self) -> None:
        """Stop everything."""
        for stall in self.stalls.values():
            self._do(self._shut(stall))
        self._do(self._cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _do(self, work: Any) -> None:
        found: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        found.result(10)

    async def _open(self, stall: Stall) -> None:
        async def connected(reader: Reader, writer: Writer) -> None:
            behaviour = BAD.get(stall.way)
            try:
                if behaviour is None or stall.healed:
                    await _well(stall, reader, writer)
                else:
                    await behaviour(reader, writer)
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                return
            finally:
                writer.close()

        # A closed port stays bound, so that nobody's connection takes it meanwhile: without listening it refuses.
        listens = stall.way != "closed"
        server = await asyncio.start_server(connected, "127.0.0.1", backlog=512, start_serving=listens)
        stall.port = port_of(server)
        self._servers[stall.agency] = server

    async def _shut(self, stall: Stall) -> None:
        server = self._servers.pop(stall.agency, None)
        if server is not None:
            server.close()

    async def _cancel(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

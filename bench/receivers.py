"""Receivers to measure against, in a process of their own: ``python -m bench.receivers`` prints its two ports.

The first answers 204 at once; the second never answers, until it is healed. Both note each event's id with the time of
its first 2xx, by path; ``GET /arrivals`` on the first returns that as JSON, ``GET /counts`` how many
there are, ``GET /heal`` heals the second, ``GET /clear`` forgets. It ends with its parent.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

ID = re.compile(rb'"id":"([^"]*)"')
OK = b"HTTP/1.1 204 -\r\nContent-Length: 0\r\n\r\n"


class State:
    """What all connections share."""

    def __init__(self) -> None:
        self.arrivals: dict[str, dict[str, float]] = defaultdict(dict)
        self.tried: set[str] = set()
        self.healed = False


class Connection(asyncio.Protocol):
    """One kept connection."""

    def __init__(self, state: State, hole: bool) -> None:
        self._state = state
        self._hole = hole
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._buffer += data
        while True:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            lines = head.split(b"\r\n")
            headers = dict(line.lower().split(b": ", 1) for line in lines[1:])
            length = int(headers.get(b"content-length", b"0"))
            if len(rest) < length:
                return
            body, self._buffer = rest[:length], rest[length:]
            # A batch is an array of events; the bare loop posts bytes under an id of its own.
            first = ID.search(body)
            named = (
                ID.findall(body)
                if body.startswith(b"[")
                else [first[1]]
                if first
                else [headers.get(b"webhook-id", b"")]
            )
            self._answer(lines[0].split(b" ")[1].decode(), [one.decode() for one in named])

    def _answer(self, path: str, event_ids: Sequence[str]) -> None:
        assert self._transport is not None
        state = self._state
        match path:
            case "/arrivals":
                self._send(json.dumps({"arrivals": state.arrivals, "tried": len(state.tried)}).encode())
            case "/counts":
                self._send(json.dumps({path: len(ids) for path, ids in state.arrivals.items()}).encode())
            case "/heal":
                state.healed = True
                self._send(b"{}")
            case "/clear":
                state.arrivals.clear()
                state.tried.clear()
                self._send(b"{}")
            case _:
                state.tried.update(path + event_id for event_id in event_ids)
                if not self._hole or state.healed:
                    at = time.time()
                    for event_id in event_ids:
                        state.arrivals[path].setdefault(event_id, at)
                    self._transport.write(OK)

    def _send(self, body: bytes) -> None:
        assert self._transport is not None
        self._transport.write(f"HTTP/1.1 200 -\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


async def _serve() -> None:
    state, loop = State(), asyncio.get_running_loop()
    well = await loop.create_server(lambda: Connection(state, False), "127.0.0.1", 0, backlog=2048)
    hole = await loop.create_server(lambda: Connection(state, True), "127.0.0.1", 0, backlog=2048)
    print(well.sockets[0].getsockname()[1], hole.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


class Receivers:
    """The process, seen from the measurement."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.receivers"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        well, hole = self._process.stdout.readline().split()
        self.well, self.hole = f"http://127.0.0.1:{well}", f"http://127.0.0.1:{hole}"

    def arrivals(self) -> dict[str, dict[str, float]]:
        """Return the time of each id's first 2xx, by path."""
        found: dict[str, dict[str, float]] = self._get("/arrivals")["arrivals"]
        return found

    def counts(self) -> Mapping[str, int]:
        """Return how many ids have arrived, by path: to ask often costs what is measured nothing."""
        return self._get("/counts")

    def tried(self) -> int:
        """Return how many different events were posted, answered or not."""
        tried: int = self._get("/arrivals")["tried"]
        return tried

    def heal(self) -> None:
        """Let the black hole answer."""
        self._get("/heal")

    def clear(self) -> None:
        """Forget what arrived."""
        self._get("/clear")

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(self.well + path, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait(10)


if __name__ == "__main__":
    asyncio.run(_serve())

"""A receiver on loopback that answers as a test tells it, and notes what came."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """One delivery attempt that came."""

    headers: dict[str, str]
    body: bytes

    @cached_property
    def id(self) -> str:
        """Return the event's id, or the webhook's for what is no single event."""
        if "ce-id" in self.headers:
            return self.headers["ce-id"]
        found = json.loads(self.body)
        return str(found["id"]) if isinstance(found, dict) and "id" in found else self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        """Return the event."""
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass(frozen=True)
class Answer:
    """What to answer."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""


Script = Callable[[Request, int], Answer]
"""Gives the answer to a request, by how many times its id came before."""


class _Server(ThreadingHTTPServer):
    # With the default of five the kernel drops connections that come at once, and they are tried again a second later.
    request_queue_size = 128
    daemon_threads = True


class ScriptedReceiver:
    """Serves on a port that can be closed and opened again."""

    def __init__(self, script: Script = lambda _request, _earlier: Answer(), *, host: str = "127.0.0.1") -> None:
        self.host = host
        self.requests: list[Request] = []
        self.accepted: list[str] = []
        self.script = script
        self._came: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self.port = 0
        self.open()

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://{self.host}:{self.port}/events"

    def open(self) -> None:
        """Listen, on the same port as before."""
        server = _Server((self.host, self.port), self._handler())
        self.port = server.server_address[1]
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop listening: connections are refused from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def take(self, request: Request) -> Answer:
        """Note a request and return the answer."""
        with self._lock:
            earlier = self._came[request.id]
            self._came[request.id] += 1
            self.requests.append(request)
            answer = self.script(request, earlier)
            if 200 <= answer.status < 300:
                self.accepted.append(request.id)
            return answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            # One request a connection: closing the port then refuses the next one for sure.
            protocol_version = "HTTP/1.0"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = receiver.take(Request(headers, body))
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body.encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Nothing: the test looks at the requests."""

        return Handler

"""``/health`` and ``/metrics`` of a process that serves nothing else."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from services.runtime.exposition import Working
from services.runtime.measuring import CollectorRegistry


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a process does its work now, and what it says of it."""

    ok: bool
    detail: Mapping[str, object] = field(default_factory=dict)

    def answer(self) -> tuple[int, dict[str, object]]:
        """Return the HTTP status (200 or 503) and the JSON body."""
        return (200 if self.ok else 503), {"status": "ok" if self.ok else "unavailable", **self.detail}


class ProbeServer:
    """Serves the two pages from a thread of its own, so that they answer while the work blocks."""

    def __init__(self, host: str, port: int, health: Callable[[], Health], registry: CollectorRegistry) -> None:
        registry.register(Working(lambda: health().ok))
        self._server = ThreadingHTTPServer((host, port), _handler(health, registry))
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="probes", daemon=True)

    def __enter__(self) -> ProbeServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(health: Callable[[], Health], registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/health":
                status, body = health().answer()
                self._answer(status, "application/json", json.dumps(body, ensure_ascii=False).encode())
            elif self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            else:
                self._answer(404, "text/plain", b"/health or /metrics\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class names it)
            """Probes are not worth a log line."""

    return Handler

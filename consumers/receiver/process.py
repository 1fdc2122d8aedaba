"""A sample receiver: checks each webhook's signature, keeps each event once, and notes when it came.

It knows nothing of Hongyan but the Standard Webhooks headers, as an agency's own receiver would.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

from services.delivery.signing import verify
from services.runtime.clock import Clock, SystemClock
from services.runtime.errors import ForbiddenError
from services.runtime.lifecycle import stop_event


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


class SampleReceiver:
    """Receives for one agency; ``output`` gets one JSON line a delivery, repeated ones marked."""

    def __init__(self, secret: str, output: IO[str], clock: Clock) -> None:
        self._secret = secret
        self._output = output
        self._clock = clock
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def receive(self, headers: dict[str, str], body: bytes) -> int:
        """Take one delivery in and return the HTTP status."""
        now = self._clock.now()
        try:
            event_id = verify(self._secret, headers, body, now.timestamp())
        except ForbiddenError:
            return 401
        event = json.loads(body)
        with self._lock:
            line = {
                "id": event_id,
                "type": event["type"],
                "subject": event["subject"],
                "cursor": int(headers["hongyan-cursor"]),
                "published": event.get("recordedtime"),
                "received": now.isoformat(),
                "repeated": event_id in self._seen,
            }
            self._seen.add(event_id)
            print(json.dumps(line, ensure_ascii=False), file=self._output, flush=True)
        return 204


def serve(receiver: SampleReceiver, host: str, port: int) -> ThreadingHTTPServer:
    """Return a server that is not yet serving; ``port`` 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(receiver.receive(headers, body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class names it)
            """The output file says it all."""

    return _Server((host, port), Handler)


def run(host: str, port: int, secret: str, out: Path | None) -> None:
    """Receive until SIGTERM."""
    stop = stop_event()
    output = out.open("a", encoding="utf-8") if out else sys.stdout
    server = serve(SampleReceiver(secret, output, SystemClock()), host, port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stop.wait()
    server.shutdown()

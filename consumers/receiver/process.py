"""A sample receiver: checks each webhook's signature, keeps each event once, and notes when it came.

It is the kit (:mod:`consumers.receiver.kit`) behind Python's own HTTP server, and knows nothing else of Hongyan, as an
agency's own receiver would.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

from consumers.receiver.kit import Event, MemorySeen, Receiver, Seen, SqliteSeen, check_keys
from services.runtime.clock import Clock, SystemClock
from services.runtime.errors import HongyanError
from services.runtime.lifecycle import stop_event


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


class SampleReceiver:
    """Receives for one agency; ``output`` gets one JSON line for each event taken in, and none for a repetition.

    Test events are noted only where ``trials`` wants it.
    """

    def __init__(self, keys: Sequence[str], output: IO[str], clock: Clock, seen: Seen, *, trials: bool = False) -> None:
        self._output = output
        self._clock = clock
        self.receiver = Receiver(keys, self._note, seen, lambda: clock.now().timestamp(), trials=trials)

    def _note(self, event: Event) -> None:
        line = {
            "id": event.id,
            "type": event.type,
            "subject": event.subject,
            "cursor": event.cursor,
            "published": event.attributes.get("recordedtime"),
            "received": self._clock.now().isoformat(),
        }
        line |= {"trial": True} if event.trial else {}
        print(json.dumps(line, ensure_ascii=False), file=self._output, flush=True)


def serve(receiver: Receiver, host: str, port: int) -> ThreadingHTTPServer:
    """Return a server that is not yet serving; ``port`` 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            answer = receiver.receive(self.headers.items(), body)
            if answer.status >= HTTPStatus.BAD_REQUEST:
                _tell(f"{answer.status} {answer.body.decode()}")
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class names it)
            """The output file says it all."""

    return _Server((host, port), Handler)


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def run(host: str, port: int, keys: Sequence[str], out: Path | None, seen: Path | None, trials: bool) -> None:
    """Receive until SIGTERM; raises HongyanError when a key is none or the port is taken."""
    try:
        check_keys(keys)
    except ValueError as error:
        raise HongyanError(str(error)) from error
    output = out.open("a", encoding="utf-8") if out else sys.stdout
    remembered = SqliteSeen(str(seen)) if seen else MemorySeen()
    sample = SampleReceiver(keys, output, SystemClock(), remembered, trials=trials)
    try:
        server = serve(sample.receiver, host, port)
    except OSError as error:
        raise HongyanError(f"不能监听 {host}:{port} (can't listen): {error.strerror}") from error
    stop = stop_event()
    if out is None:
        _tell(f"在 http://{host}:{server.server_port}/ 接收，ctrl-C 停止 (receiving)")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stop.wait()
    server.shutdown()

"""A whole installation to measure, with receivers that only answer."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from producers.demonstration.installation import Installation
from services.delivery.trial import CHALLENGE_TYPE
from services.runtime.settings import Settings, as_environment

LAW = {"basis": "bench", "scene": "bench", "scope": "bench"}
LIMIT_S = 300.0


class Answering(ThreadingHTTPServer):
    """A receiver that answers 204 to everything, over kept connections."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"
        self.ids: dict[str, float] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        # The bare loop posts bytes under an id of its own.
        ours = self.headers["Content-Type"].startswith("application/cloudevents+json")
        event: dict[str, Any] = json.loads(body) if ours else {"id": self.headers["webhook-id"], "type": ""}
        if event["type"] == CHALLENGE_TYPE:
            answer = json.dumps({"challenge": event["data"]["challenge"]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
            return
        self.server.ids.setdefault(event["id"], time.time())  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing to say."""


def settings_of(installation: Installation) -> Settings:
    """Return the settings that a process of this installation has."""
    os.environ["HONGYAN_DATA_DIR"] = str(installation.data)
    from services.runtime.settings import settings_for_cli

    found = settings_for_cli()
    assert as_environment(found)
    return found


def subscribe(installation: Installation, agency: str, sink: str, types: list[str]) -> None:
    """Add an agency with a sink and what it gets."""
    body = {"id": agency, "name": agency, "division": "510000", "sink": sink}
    installation.administer("/v1/agencies", body)
    installation.administer(f"/v1/agencies/{agency}/verify", {})
    owner: dict[str, Any] = {
        "id": f"owner-of-{agency}",
        "name": "bench",
        "source": f"urn:bench:owner-of:{agency}",
        "types": types,
    }
    installation.administer("/v1/departments", owner)
    installation.subscribe({"agency": agency, "types": types, **LAW}, owner["id"])


def wait_for(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Wait until a condition holds; raises TimeoutError."""
    deadline = time.monotonic() + limit_s
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the condition did not come true")
        pause.wait(0.02)


def peak_mb(pid: int) -> float:
    """Return the peak resident memory of a process, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000


def peak_until_end(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process to end, and return the peak of its resident memory, in MB."""
    peak, pause = 0.0, threading.Event()
    while process.poll() is None:
        with suppress(OSError, StopIteration):
            peak = max(peak, peak_mb(process.pid))
        pause.wait(0.2)
    return peak

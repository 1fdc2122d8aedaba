"""Real processes of Hongyan for tests: started by the product's own command, killed by id."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from services.runtime.embedded.ports import free_port
from services.runtime.settings import Settings, as_environment
from tests.conditions import eventually

SERVED = {"registry", "gateway", "portal", "feeds"}


@dataclass
class Running:
    """A process of Hongyan."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self.port}"

    def healthy(self) -> bool:
        """Tell whether it says that it works."""
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended: {self.log.read_text()[-3000:]}")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def kill(self) -> None:
        """SIGKILL it."""
        self.process.kill()
        self.process.wait(10)

    def terminate(self) -> int:
        """SIGTERM it and return its status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@dataclass
class Processes:
    """Starts processes and ends what is left of them."""

    folder: Path
    running: list[Running] = field(default_factory=list)

    def start(
        self, name: str, settings: Settings, *, slot: str = "0", wait: bool = True, port: int | None = None
    ) -> Running:
        """Start a process by its command, and wait until it is healthy."""
        port = port or free_port()
        log = self.folder / f"{name}-{slot}-{len(self.running)}.log"
        verb = "serve" if name in SERVED else "run"
        command = [sys.executable, "-m", "hongyan", verb, name, "--port", str(port), "--slot", slot]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HONGYAN_")}
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, env=environment | as_environment(settings)
            )
        running = Running(name, port, process, log)
        self.running.append(running)
        if wait:
            eventually(running.healthy, 40, f"{name} healthy ({log})")
        return running

    def end(self) -> None:
        """Kill what still runs."""
        for running in self.running:
            if running.process.poll() is None:
                running.process.kill()
                running.process.wait(10)

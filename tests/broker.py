"""A broker of a test's own, to be killed."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from pydantic import SecretStr

from services.runtime.embedded.kafka import EmbeddedKafka
from services.runtime.embedded.ports import free_port
from services.runtime.errors import UnavailableError
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Kafka
from services.runtime.settings import KafkaSettings, with_environment
from tests.conditions import eventually


class Broker:
    """A broker of the test's own that can be killed and started again on its port."""

    def __init__(self, folder: Path, *, agencies: bool = False) -> None:
        """``agencies``: users with passwords log in on a port of their own, and the authoriser is on."""
        self.agencies_port = free_port() if agencies else None
        self.kafka = EmbeddedKafka(folder / "kafka", free_port(), free_port(), self.agencies_port)
        self._program = self.kafka.program(folder / "kafka.log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._program.log.open("ab") as log:
            environment = with_environment(self._program.environment)
            self._process = subprocess.Popen(self._program.command, stdout=log, stderr=log, env=environment)
        eventually(self._answers, 60, "the broker")

    def signal(self, number: signal.Signals) -> None:
        """Stop it or let it go on (SIGSTOP, SIGCONT)."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def connect(self) -> Kafka:
        """Return the factory of its clients."""
        return connect(KafkaSettings(bootstrap_servers=self.kafka.address))

    def connect_as(self, user: str, password: str) -> Kafka:
        """Return the factory of the clients of a user with a password."""
        found = KafkaSettings(bootstrap_servers=f"127.0.0.1:{self.agencies_port}", security_protocol="SASL_PLAINTEXT")
        found.username, found.password = user, SecretStr(password)
        return connect(found)

    def _answers(self) -> bool:
        try:
            admin = self.connect().admin()
            admin.list_topics()
            admin.close()
        except UnavailableError:
            return False
        return True

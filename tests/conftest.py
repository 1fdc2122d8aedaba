"""Real servers for tests: started once a run, with topics and a database of its own for each test."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime.database import migrate
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Kafka
from services.runtime.settings import (
    DatabaseSettings,
    DeliverySettings,
    KafkaSettings,
    PortalSettings,
    RegistrySettings,
    SecuritySettings,
    Settings,
)
from services.runtime.stack import Servers, start_servers
from services.runtime.supervisor import Supervisor
from tests.configuration import Configuration
from tests.events import TestEvents
from tests.processes import Processes

TEMPLATE = "hongyan_template"


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A real Kafka and a real PostgreSQL: those that the environment names, or embedded ones."""
    folder = tmp_path_factory.mktemp("servers")
    for part in (folder, *folder.parents):
        if part.name.startswith("pytest-"):
            part.chmod(0o755)  # PostgreSQL runs unprivileged when we are root
    supervisor = Supervisor()
    try:
        yield start_servers(folder, supervisor, Settings())
    finally:
        supervisor.stop()


@pytest.fixture(scope="session")
def kafka_address(servers: Servers) -> str:
    """The bootstrap address of the real Kafka."""
    return servers.bootstrap_servers


@pytest.fixture(scope="session")
def kafka(kafka_address: str) -> Kafka:
    """Clients of the real Kafka."""
    return connect(KafkaSettings(bootstrap_servers=kafka_address))


@dataclass
class OwnTopics:
    """A test's own topics, and what is needed to make more of them."""

    topics: Topics
    kafka: Kafka

    def ensure_agency(self, *agencies: str) -> None:
        """Create the topics of agencies."""
        admin = self.kafka.admin()
        admin.ensure_topics([spec for agency in agencies for spec in self.topics.agency_specs(agency)])
        admin.close()


@pytest.fixture
def own(kafka: Kafka) -> Iterator[OwnTopics]:
    """All base topics under a prefix of the test's own; they are deleted afterwards."""
    topics = Topics(f"t{secrets.token_hex(4)}.")
    admin = kafka.admin()
    admin.ensure_topics(topics.base_specs(load_contracts().domains()))
    yield OwnTopics(topics, kafka)
    admin.delete_topics([name for name in admin.list_topics() if name.startswith(topics.prefix)])
    admin.close()


@pytest.fixture
def topics(own: OwnTopics) -> Topics:
    """The names of the test's own topics, which exist."""
    return own.topics


@pytest.fixture(scope="session")
def database_template(servers: Servers) -> str:
    """The name of a migrated database that each test gets a copy of."""
    name = f"{TEMPLATE}_{secrets.token_hex(3)}"
    with psycopg.connect(servers.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    migrate(_with_database(servers.dsn, name))
    return name


@pytest.fixture
def database_dsn(servers: Servers, database_template: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    name = f"t_{secrets.token_hex(4)}"
    with psycopg.connect(servers.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {database_template}")
        yield _with_database(servers.dsn, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _with_database(dsn: str, name: str) -> str:
    return dsn.rpartition("/")[0] + "/" + name


@pytest.fixture(scope="session")
def session_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Processes that serve the whole run."""
    found = Processes(tmp_path_factory.mktemp("processes"))
    yield found
    found.end()


@pytest.fixture(scope="session")
def registry_url(kafka_address: str, session_processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a real registry process that all tests share: a schema is the same for all."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("registry"),
        kafka=KafkaSettings(bootstrap_servers=kafka_address, topic_prefix=f"r{secrets.token_hex(3)}."),
    )
    return session_processes.start("registry", settings).url


@pytest.fixture
def settings(kafka_address: str, own: OwnTopics, database_dsn: str, registry_url: str, tmp_path: Path) -> Settings:
    """Settings of an installation of the test's own, which may push to loopback."""
    return Settings(
        data_dir=tmp_path,
        kafka=KafkaSettings(bootstrap_servers=kafka_address, topic_prefix=own.topics.prefix),
        database=DatabaseSettings(dsn=SecretStr(database_dsn)),
        registry=RegistrySettings(url=registry_url),
        portal=PortalSettings(),
        delivery=DeliverySettings(allowed_networks=["127.0.0.0/8"], retry_base_s=0.05, retry_cap_s=0.5, timeout_s=2.0),
        security=SecuritySettings(
            master_key=SecretStr(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()),
            admin_key=SecretStr("test-administration-key"),
        ),
    )


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Processes of the test's own, killed at its end."""
    found = Processes(tmp_path)
    yield found
    found.end()


@pytest.fixture
def configuration(kafka: Kafka, own: OwnTopics, settings: Settings) -> Configuration:
    """Writes agencies, subscriptions and departments to the test's control topics."""
    return Configuration(kafka, own.topics, settings)


@pytest.fixture
def events(kafka: Kafka, own: OwnTopics, settings: Settings) -> TestEvents:
    """A department's events, by the product's own way in."""
    return TestEvents(kafka, own.topics, settings)

"""HTTP 网关：部门以 CloudEvents 发布事件 (the HTTP gateway)。"""

from __future__ import annotations

import threading

from prometheus_client import CollectorRegistry

from producers.gateway.acceptance import Acceptance
from producers.gateway.api import create_app
from producers.gateway.catalogue import catalogue_routes
from producers.publishing import Publishing
from schemas.contracts import load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.runtime import logging
from services.runtime.clock import SystemClock
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Kafka
from services.runtime.lifecycle import outlast, stop_event
from services.runtime.probes import Health
from services.runtime.settings import Settings
from services.runtime.web import serve
from services.subscriptions.follower import ControlFollower


def run(settings: Settings, *, port: int) -> None:
    """Serve the gateway until SIGTERM."""
    logging.configure(settings.log, process="gateway")
    stop, ready = stop_event(), threading.Event()
    kafka = connect(settings.kafka)
    topics = Topics(settings.kafka.topic_prefix)
    contracts = load_contracts()
    registry = RegistryClient(settings.registry.url, settings.registry.timeout_s)
    publishing = Publishing(contracts, registry, settings.registry.url, topics, settings.gateway, SystemClock())
    follower = ControlFollower(kafka, [topics.control_identities], "gateway")
    follower.start(stop)
    acceptance = Acceptance(publishing, follower.view, settings.gateway.acknowledge_timeout_s)

    def prepare() -> None:
        _connect(kafka, acceptance, publishing, settings, stop)
        follower.caught_up(timeout_s=60)
        ready.set()

    threading.Thread(target=prepare, name="connect", daemon=True).start()
    health = lambda: Health(ready.is_set(), {"departments": len(follower.view.departments)})  # noqa: E731
    app = create_app(acceptance, publishing, settings.gateway, health, CollectorRegistry())
    app.include_router(catalogue_routes(contracts))
    serve(app, settings.http.host, port, stop)
    if acceptance.producer is not None:
        acceptance.producer.close()


def _connect(
    kafka: Kafka, acceptance: Acceptance, publishing: Publishing, settings: Settings, stop: threading.Event
) -> None:
    """Register the schemas and open the producer, for as long as it takes."""
    outlast("gateway_start", lambda: _open(kafka, acceptance, publishing, settings), stop)


def _open(kafka: Kafka, acceptance: Acceptance, publishing: Publishing, settings: Settings) -> None:
    publishing.register_all()
    timeout_s = settings.gateway.acknowledge_timeout_s
    acceptance.producer = kafka.producer(client_id="gateway", acknowledge_timeout_s=timeout_s)

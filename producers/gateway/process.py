"""HTTP 网关：部门以 CloudEvents 发布事件 (the HTTP gateway)。"""

from __future__ import annotations

import threading

import structlog

from producers.gateway.acceptance import Acceptance
from producers.gateway.api import Gateway, create_app
from producers.gateway.catalogue import catalogue_routes
from producers.gateway.credentials import Credentials, Tokens
from producers.gateway.decoding import Decoding
from producers.gateway.limits import RateLimits
from producers.gateway.preview import Preview
from producers.gateway.remembered import Remembered
from producers.publishing import Publishing
from schemas.codec import Codec
from schemas.contracts import Contracts, load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from schemas.validation import ensure_sound
from services.quarantine.letters import DeadLetters
from services.runtime import logging
from services.runtime.clock import Clock, SystemClock
from services.runtime.errors import UnavailableError
from services.runtime.exposition import new_registry
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Kafka, Producer
from services.runtime.lifecycle import outlast, stop_event
from services.runtime.probes import Health
from services.runtime.settings import Settings
from services.runtime.tracing import tracer_of
from services.runtime.web import serve
from services.subscriptions.follower import ControlFollower

READY_S = 0.5

log = structlog.get_logger()


def run(settings: Settings, *, port: int) -> None:
    """Serve the gateway until SIGTERM."""
    logging.configure(settings.log, process="gateway")
    stop, ready = stop_event(), threading.Event()
    kafka = connect(settings.kafka)
    topics = Topics(settings.kafka.topic_prefix)
    contracts = ensure_sound(load_contracts())
    registry = RegistryClient(settings.registry.url, settings.registry.timeout_s)
    clock = SystemClock()
    counted = new_registry()
    tracer = tracer_of(settings.tracing, "gateway", counted)
    publishing = Publishing(contracts, registry, settings.registry.url, topics, settings.gateway, clock, tracer)
    follower = ControlFollower(kafka, [topics.control_identities, topics.control_subscriptions], "gateway")
    follower.start(stop)
    letters = DeadLetters(kafka, topics)
    gateway = _gateway(settings, contracts, publishing, Codec(registry), follower, letters, clock)
    acceptance = gateway.acceptance

    def prepare() -> None:
        _connect(kafka, acceptance, publishing, settings, stop)
        while not stop.is_set() and not follower.caught_up(READY_S):
            pass
        ready.set()
        while not stop.is_set():
            _close(acceptance.stuck.get())
            _connect(kafka, acceptance, publishing, settings, stop)

    threading.Thread(target=prepare, name="connect", daemon=True).start()
    health = lambda: Health(ready.is_set(), {"departments": len(follower.view.departments)})  # noqa: E731
    counted.register(follower)
    app = create_app(gateway, health, counted)
    app.include_router(catalogue_routes(contracts))
    serve(app, settings.http.host, port, stop)
    if acceptance.producer is not None:
        acceptance.producer.close()
    tracer.close()


def _close(stuck: Producer) -> None:
    log.warning("producer_stuck")
    try:
        stuck.close()
    except UnavailableError as error:
        log.warning("producer_close_failed", error=str(error))


def _gateway(
    settings: Settings,
    contracts: Contracts,
    publishing: Publishing,
    codec: Codec,
    follower: ControlFollower,
    letters: DeadLetters,
    clock: Clock,
) -> Gateway:
    limits = settings.gateway
    tokens = Tokens(settings.oauth, clock) if settings.oauth.issuer else None
    remembered = Remembered(limits.remembered)
    return Gateway(
        Acceptance(publishing, contracts.types, remembered, clock, limits),
        Credentials(follower.view, clock, tokens, lambda: follower.caught_up(0)),
        RateLimits(limits, clock),
        Preview(follower.view, codec.decode, contracts, clock),
        publishing,
        Decoding(publishing, clock),
        letters,
        contracts,
        limits,
    )


def _connect(
    kafka: Kafka, acceptance: Acceptance, publishing: Publishing, settings: Settings, stop: threading.Event
) -> None:
    """Register the schemas and open the producer, for as long as it takes."""
    outlast("gateway_start", lambda: _open(kafka, acceptance, publishing, settings), stop)


def _open(kafka: Kafka, acceptance: Acceptance, publishing: Publishing, settings: Settings) -> None:
    publishing.register_all()
    timeout_s = settings.gateway.acknowledge_timeout_s
    acceptance.producer = kafka.producer(client_id="gateway", acknowledge_timeout_s=timeout_s)

"""门户与管理接口，以及配置变更到控制主题的转发 (the portal, the administration API and the control relay)。"""

from __future__ import annotations

import threading
from datetime import timedelta
from functools import partial

from fastapi import FastAPI
from psycopg_pool import ConnectionPool

from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from schemas.validation import ValidationRules
from services.delivery.network import parse_networks
from services.identity.access import AccessRepository
from services.identity.people import PersonRepository
from services.identity.repository import DepartmentRepository
from services.ledger.reading import LedgerReader
from services.portal.access import AccessAdministration
from services.portal.agencies import AgencyDesk
from services.portal.alerts import Alerts
from services.portal.api import Administration, add_routes
from services.portal.entitlement import add_entitlement
from services.portal.events import event_routes, scopes
from services.portal.impaired import ImpairedGrants
from services.portal.people import People
from services.portal.relay import ControlRelay
from services.portal.requests import RequestConsumer
from services.portal.statistics import statistics_routes
from services.portal.web import account, audit_page, oidc, operating, sign_in
from services.portal.web import people as people_page
from services.portal.web.desks import desks
from services.portal.web.live import Streams
from services.portal.web.outages import DATABASE, KAFKA, Outages
from services.portal.web.sides import Parties
from services.portal.web.site import add_site, new_site
from services.quarantine.desk import Desk
from services.runtime import logging
from services.runtime.clock import Clock, SystemClock
from services.runtime.database import DatabaseAnswering, answers, dsn_of, open_pool
from services.runtime.errors import HongyanError
from services.runtime.exposition import new_registry
from services.runtime.kafka.client import connect
from services.runtime.kafka.guarding import GuardedKafka, KafkaAnswering
from services.runtime.lifecycle import stop_event
from services.runtime.probes import Health
from services.runtime.settings import Settings
from services.runtime.web import new_app, serve
from services.subscriptions.grants import GrantRepository
from services.subscriptions.repository import AgencyRepository
from services.subscriptions.sealing import Sealer


def run(settings: Settings, *, port: int) -> None:
    """Serve the portal and the administration API until SIGTERM."""
    logging.configure(settings.log, process="portal")
    stop = stop_event()
    app, pool = compose(settings, SystemClock(), stop)
    serve(app, settings.http.host, port, stop, app.state.closing.set)
    pool.close()


def compose(settings: Settings, clock: Clock, stop: threading.Event) -> tuple[FastAPI, ConnectionPool]:
    """Return the whole application, its workers running until ``stop``, and the pool to close after it."""
    if settings.security.admin_key is None:
        raise HongyanError("security.admin_key is not set; `hongyan up` makes one in its data folder")
    topics = Topics(settings.kafka.topic_prefix)
    outages, steady = Outages(clock), connect(settings.kafka)
    pool = open_pool(settings.database)
    outages.watch(DATABASE, DatabaseAnswering(dsn_of(settings.database)), pool.connections.sever)
    outages.watch(KAFKA, KafkaAnswering(steady))
    pool.check_server = partial(outages.check, DATABASE)
    kafka = GuardedKafka(steady, partial(outages.check, KAFKA))
    departments = DepartmentRepository(pool)
    agencies = AgencyRepository(pool)
    contracts = load_contracts()
    administration = Administration(departments, contracts)
    accesses = AccessRepository(pool)
    access = AccessAdministration(accesses, kafka, topics, Sealer(settings.security))
    gateway = settings.gateway
    rules = ValidationRules(gateway.reject_bad_uscc, timedelta(seconds=gateway.future_skew_s), gateway.warnings)
    registry = RegistryClient(settings.registry.url, settings.registry.timeout_s)
    codec = Codec(registry)
    desk = Desk(kafka, topics, contracts, codec, rules, clock)
    networks = parse_networks(settings.delivery.allowed_networks)
    agency_desk = AgencyDesk(agencies, kafka, topics, Sealer(settings.security), settings.delivery, networks, codec)
    relay = ControlRelay(pool, dsn_of(settings.database), steady, topics)
    requests = RequestConsumer(steady, topics, agencies)
    grants = GrantRepository(pool, clock)
    impaired = ImpairedGrants(grants.list, contracts, steady, topics, clock)
    for worker in (relay.run, requests.run, impaired.run):
        threading.Thread(target=worker, args=(stop,), daemon=True).start()
    app = new_app("Hongyan administration", lambda: health_of(pool, relay), new_registry())
    admin_key = settings.security.admin_key.get_secret_value()
    add_routes(app, administration, access, agency_desk, Alerts(kafka, topics, clock), desk)
    persons = PersonRepository(pool)
    site = new_site(settings, pool, persons, outages, clock)
    entrance = site.entrance
    people = People(
        persons,
        departments,
        agencies,
        entrance.sign_ins,
        clock,
        entrance.passwords,
        site.audit.repository,
        site.sessions.end_all,
    )
    ledger = LedgerReader(pool, clock)
    answering = add_entitlement(
        app,
        grants,
        agencies,
        people,
        ledger,
        contracts,
        registry,
        kafka,
        topics,
        clock,
        admin_key,
        impaired.changed.set,
    )
    app.include_router(event_routes(ledger, scopes(accesses, admin_key)))
    app.include_router(statistics_routes(settings, pool.connections))
    closing = app.state.closing = threading.Event()
    parties, streams = Parties(agencies, departments, clock), Streams(closing, clock)
    areas = [
        sign_in.routes(site),
        oidc.routes(site),
        account.routes(site),
        people_page.routes(site, people),
        audit_page.routes(site),
        *desks(
            site,
            answering,
            parties,
            agencies,
            departments,
            desk,
            registry,
            kafka,
            topics,
            contracts,
            streams,
            pool.connections,
            stop,
        ),
        *operating.routes(
            site, pool, ledger, grants, parties, agency_desk, access, contracts, registry, kafka, streams, stop
        ),
    ]
    add_site(app, site, areas, stop)
    return app, pool


def health_of(pool: ConnectionPool, relay: ControlRelay) -> Health:
    """Tell whether decisions can be kept, and whether they reach the processes that go by them."""
    database, relayed = answers(pool), relay.working
    return Health(database and relayed, {"database": database, "control_relay": relayed})

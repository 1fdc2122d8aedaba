"""The pages of operations composed: overview, events, agencies and alerts, on what they know of everybody now."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from fastapi import APIRouter
from psycopg_pool import ConnectionPool

from schemas.contracts import Contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.ledger.flowing import FlowReader
from services.ledger.reading import LedgerReader
from services.portal.access import AccessAdministration
from services.portal.agencies import AgencyDesk
from services.portal.alerts import Alerts
from services.portal.event_log import EventLog
from services.portal.explaining import Explaining
from services.portal.open_alerts import OpenAlerts
from services.portal.trying import Seeing
from services.portal.watching import Watch, from_monitor
from services.portal.web import agencies, agency_deeds, agency_keys, alerts, events, overview
from services.portal.web.agencies import AgencyPages
from services.portal.web.alerts import AlertBook
from services.portal.web.contents import Contents
from services.portal.web.events import Events
from services.portal.web.live import Streams
from services.portal.web.outages import KAFKA
from services.portal.web.overview import Overview, Present
from services.portal.web.sides import Parties
from services.portal.web.site import Site
from services.quarantine.replaying import FeedReplay
from services.quarantine.standing import Standing
from services.runtime.kafka.port import Kafka
from services.subscriptions.grants import GrantRepository


def routes(
    site: Site,
    pool: ConnectionPool,
    ledger: LedgerReader,
    grants: GrantRepository,
    parties: Parties,
    desk: AgencyDesk,
    access: AccessAdministration,
    contracts: Contracts,
    registry: RegistryClient,
    kafka: Kafka,
    streams: Streams,
    stop: threading.Event,
) -> Sequence[APIRouter]:
    """Return the routes; the monitor is looked at until ``stop``, and its numbers go out over ``streams``."""
    pages, audit, clock = site.pages, site.audit, site.clock
    topics = Topics(site.settings.kafka.topic_prefix)
    watch = Watch(from_monitor(site.settings.monitor.url), clock)
    threading.Thread(target=watch.run, args=(stop,), name="watch", daemon=True).start()
    present = Present(watch, parties, FlowReader(pool), clock)
    raised = Alerts(kafka, topics, clock)
    opened = OpenAlerts(kafka, topics, clock)
    threading.Thread(target=opened.run, args=(stop,), name="open-alerts", daemon=True).start()
    book = AlertBook(raised, opened, parties, watch, clock, lambda: site.outages.is_away(KAFKA))
    pages.alerts_open = lambda viewer: book.counted(alerts.own_of(viewer))
    log = EventLog(kafka, topics)
    explaining = Explaining(kafka, topics, contracts, Seeing(registry), grants, desk.agencies, clock)
    found = Events(ledger, present, log, explaining, Contents(log, contracts, registry, grants), contracts, grants)
    replay = FeedReplay(kafka, topics, Standing(kafka, topics, contracts))
    return [
        overview.routes(pages, parties, Overview(present, ledger, book, site.settings.kafka.topic_prefix), streams),
        events.routes(pages, audit, parties, found),
        agencies.routes(pages, parties, AgencyPages(present, desk, access, book), streams),
        agency_deeds.routes(pages, audit, parties, desk, replay),
        agency_keys.routes(pages, audit, parties, desk, access),
        alerts.routes(pages, audit, parties, book),
    ]

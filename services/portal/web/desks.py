"""Composes the pages on which people decide, and look after what went wrong."""

from __future__ import annotations

import threading
from functools import partial

from fastapi import APIRouter

from schemas.codec import Codec
from schemas.contracts import Contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.identity.repository import DepartmentRepository
from services.portal.answers import Answers
from services.portal.letters import LetterDesk
from services.portal.months import Months
from services.portal.parking import Parking
from services.portal.schema_history import SchemaHistory
from services.portal.web import catalogue, long, month, parked, subscriptions, trials
from services.portal.web.live import Streams
from services.portal.web.long import Long
from services.portal.web.outages import DATABASE
from services.portal.web.parked import Quarantine
from services.portal.web.remembering import Kept
from services.portal.web.sides import Parties
from services.portal.web.site import Site
from services.portal.web.subscriptions import Office
from services.portal.working import Work
from services.quarantine.desk import Desk
from services.quarantine.parked import ParkingPlace
from services.runtime.database import Connections
from services.runtime.kafka.port import Kafka
from services.subscriptions.repository import AgencyRepository


def desks(
    site: Site,
    answers: Answers,
    parties: Parties,
    agencies: AgencyRepository,
    departments: DepartmentRepository,
    desk: Desk,
    registry: RegistryClient,
    kafka: Kafka,
    topics: Topics,
    contracts: Contracts,
    streams: Streams,
    connections: Connections,
    stop: threading.Event,
) -> list[APIRouter]:
    """Return the pages of subscriptions, parked events and dead letters, the catalogue and the month."""
    pages, audit, working = site.pages, site.audit, Long(Work(site.clock, stop))
    codec = Codec(registry)
    office = Office(answers.grants, answers, agencies, contracts, audit, site.clock, Kept(site.clock))
    parking = Parking(ParkingPlace(kafka, topics, site.clock), codec, contracts)
    quarantine = Quarantine(
        parking, LetterDesk(desk, departments, contracts), contracts, audit, Kept(site.clock), parties.agency_name
    )
    months = Months(site.settings, kafka, topics, contracts, codec, partial(site.outages.check, DATABASE), connections)
    return [
        long.routes(pages, working, streams),
        trials.routes(pages, office, working),
        subscriptions.routes(pages, office),
        parked.routes(pages, quarantine, working),
        catalogue.routes(pages, contracts, SchemaHistory(registry)),
        month.routes(pages, months, audit, working, Kept(site.clock)),
    ]

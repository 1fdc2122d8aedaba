"""The part of the administration API that people call as themselves: people, grants, and what is explained of them."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, FastAPI

from schemas.contracts import Contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.ledger.reading import LedgerReader
from services.portal.actors import Callers
from services.portal.answers import Answers, answer_routes
from services.portal.explaining import Explaining
from services.portal.people import People, person_routes
from services.portal.subscriptions import Grants, subscription_routes
from services.portal.tracking import Tracking
from services.portal.trying import Seeing, Trying
from services.routing.fields import policy_of
from services.routing.redaction import Redactor
from services.runtime.clock import Clock
from services.runtime.kafka.port import Kafka
from services.subscriptions.grants import GrantRepository
from services.subscriptions.repository import AgencyRepository


def add_entitlement(
    app: FastAPI,
    repository: GrantRepository,
    agencies: AgencyRepository,
    people: People,
    ledger: LedgerReader,
    contracts: Contracts,
    registry: RegistryClient,
    kafka: Kafka,
    topics: Topics,
    clock: Clock,
    admin_key: str,
    on_decided: Callable[[], None],
) -> Answers:
    """Put the routes on an application, and return what answers them, for the pages that answer the same."""
    callers = app.state.callers = Callers(people.repository, admin_key)
    redactor = Redactor(registry, lambda identity: policy_of(identity, {}))
    grants = Grants(repository, agencies, contracts, redactor, clock, on_decided)
    router = APIRouter(prefix="/v1")
    person_routes(router, people)
    seeing = Seeing(registry)
    explaining = Explaining(kafka, topics, contracts, seeing, repository, agencies, clock)
    trying = Trying(kafka, topics, contracts, seeing, agencies, clock)
    tracking = Tracking(kafka, topics, contracts, ledger, clock)
    answers = Answers(grants, explaining, trying, tracking)
    answer_routes(router, answers, callers)
    subscription_routes(router, grants, callers)
    app.include_router(router)
    return answers

"""schemathesis against the running gateway: whatever its OpenAPI allows, and what it doesn't, no unexplained 5xx."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy, one_of
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from producers.gateway.parsing import FRAMED_AVRO
from schemas.contracts import load_contracts
from services.runtime.settings import Settings
from tests.configuration import Configuration
from tests.events import SOURCE
from tests.processes import Processes, Running

pytestmark = pytest.mark.servers
KEY = "hyk_test"
EXAMPLES = 60
PUBLISH = "POST /v1/events"
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
TYPES = sorted(load_contracts().types)

schemathesis.serializer.alias(sorted(FRAMED_AVRO), "application/octet-stream")


@pytest.fixture
def gateway(configuration: Configuration, installation: Settings, processes: Processes) -> Running:
    """A gateway and a department that may publish every type."""
    configuration.department("all", SOURCE, KEY, TYPES)
    return processes.start("gateway", installation)


def operations(gateway: Running) -> dict[str, APIOperation]:
    """Return what the document describes, by method and path."""
    document = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
    found = [result.ok() for result in document.get_all_operations()]
    return {f"{one.method.upper()} {one.path}": one for one in found}


def statuses_of(cases: SearchStrategy[schemathesis.Case], examples: int) -> Counter[int]:
    """Make requests; every answer must be one that the document describes."""
    statuses: Counter[int] = Counter()

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],
    )
    @given(cases)
    def run(case: schemathesis.Case) -> None:
        answer = case.call(headers={"Authorization": f"Bearer {KEY}"})
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    run()
    assert not [status for status in statuses if status >= 500]
    return statuses


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
def test_no_request_makes_the_gateway_fail(gateway: Running, mode: GenerationMode) -> None:
    """Valid and invalid requests by the document; publishing, where the most can go wrong, has as many as the rest."""
    known = operations(gateway)
    assert {PUBLISH, "GET /v1/deadletters", "GET /v1/catalogue"} <= known.keys()
    others = [one for name, one in known.items() if name != PUBLISH]
    for some in ([known[PUBLISH]], others):
        statuses = statuses_of(_cases(some, mode), EXAMPLES)
        assert statuses.total() >= EXAMPLES / 2
    assert gateway.healthy()


def test_every_sample_of_the_document_is_taken(gateway: Running) -> None:
    """Each type's, as it stands there: who copies it has published an event."""
    samples = operations(gateway)[PUBLISH].get_strategies_from_examples()
    assert len(samples) >= len(TYPES)
    statuses: Counter[int] = Counter()
    for sample in samples:
        statuses += statuses_of(sample, 1)
    assert statuses[202] >= len(TYPES)


def _cases(some: Sequence[APIOperation], mode: GenerationMode) -> SearchStrategy[schemathesis.Case]:
    return one_of(*(one.as_strategy(generation_mode=mode) for one in some))

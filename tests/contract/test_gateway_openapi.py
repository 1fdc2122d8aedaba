"""schemathesis against the running gateway: whatever its OpenAPI allows, and what it doesn't, no unexplained 5xx."""

from __future__ import annotations

from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import one_of
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from services.runtime.settings import Settings
from tests.configuration import Configuration
from tests.events import ACCEPTED, ISSUED, SOURCE
from tests.processes import Processes, Running

pytestmark = pytest.mark.servers
KEY = "hyk_test"
EXAMPLES = 60
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture
def gateway(configuration: Configuration, installation: Settings, processes: Processes) -> Running:
    """A gateway and a department that may publish two types."""
    configuration.department("health", SOURCE, KEY, [ISSUED, ACCEPTED])
    return processes.start("gateway", installation)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
def test_no_request_makes_the_gateway_fail(gateway: Running, mode: GenerationMode) -> None:
    """Valid and invalid requests by the document: every answer is one that the document describes."""
    document = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
    operations = [found.ok() for found in document.get_all_operations()]
    assert {"/v1/events", "/v1/deadletters", "/v1/catalogue"} <= {one.path for one in operations}
    cases = one_of(*(one.as_strategy(generation_mode=mode) for one in operations))
    statuses: Counter[int] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(cases)
    def run(case: schemathesis.Case) -> None:
        answer = case.call(headers={"Authorization": f"Bearer {KEY}"})
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    run()
    assert sum(statuses.values()) >= EXAMPLES / 2
    assert not [status for status in statuses if status >= 500]
    assert gateway.healthy()

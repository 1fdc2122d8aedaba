"""From record to fact."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from consumers.runner.rows import Never
from consumers.statistics.projection import Projection
from schemas.codec import Codec
from schemas.contracts import load_contracts
from services.runtime.errors import RegistryUnavailableError
from services.statistics.facts import Fact
from tests.fakes.kafka import FakeRecord
from tests.window_events import ACCEPTED, COMPLETED, CONSULTED, SOURCE, Made, WindowEvents


@pytest.fixture
def events() -> WindowEvents:
    """Return a maker of window events."""
    return WindowEvents()


def project(events: WindowEvents, made: Made) -> Fact | Never:
    """Project a record that stands at offset 7 of partition 3."""
    record = FakeRecord("events", 3, 7, 0, made.key, made.value, made.headers)
    return Projection(load_contracts(), Codec(events.schemas)).project(record)


def test_a_completion_becomes_a_fact(events: WindowEvents) -> None:
    """A fact has the event's identity, its business key, its own time and the dimensions that figures filter on."""
    fact = project(events, events.make(event_id="e1", project_no="SYN-1", occurred_at="2025-12-31T23:59:59+08:00"))
    assert isinstance(fact, Fact)
    assert (fact.source, fact.event_id, fact.type, fact.case_key) == (SOURCE, "e1", COMPLETED, "SYN-1")
    assert fact.occurred_at == datetime(2025, 12, 31, 15, 59, 59, tzinfo=UTC)
    assert {"handling": "online", "level": "province"}.items() <= fact.dimensions.items()
    assert (fact.topic, fact.partition, fact.offset) == ("events", 3, 7)


def test_a_consultation_weighs_as_many_contacts_as_it_says(events: WindowEvents) -> None:
    """人/次 is a quantity."""
    fact = project(events, events.make(CONSULTED, count="3"))
    assert isinstance(fact, Fact)
    assert fact.quantity == 3


def test_a_fact_has_no_names(events: WindowEvents) -> None:
    """Dimensions are codes and fixed symbols only."""
    fact = project(events, events.make())
    assert isinstance(fact, Fact)
    assert "department_name" not in fact.dimensions


def test_content_tells_repeats_from_conflicts(events: WindowEvents) -> None:
    """The digest is the content's."""
    first, again, other = (
        project(events, events.make(event_id="e1", division=code)) for code in ("510100", "510100", "510300")
    )
    assert isinstance(first, Fact)
    assert isinstance(again, Fact)
    assert isinstance(other, Fact)
    assert first.digest == again.digest != other.digest


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda made: replace(made, value=b"nothing"), "wire format"),
        (lambda made: replace(made, value=made.value[:-3]), "schema id 1"),
        (lambda made: replace(made, value=b"\0\0\0\0\x63rest"), "no schema 99"),
        (lambda made: replace(made, headers=()), "no event of a known type"),
        (lambda made: replace(made, headers=[("ce_id", b"\xff")]), "no event of a known type"),
        (lambda made: _with(made, "ce_type", b"cn.gov.sc.window.unheard.of"), "no event of a known type"),
        (lambda made: _with(made, "ce_type", ACCEPTED.encode()), "but the event says"),
        (lambda made: _with(made, "ce_id", b"a\0b"), "NUL"),
        (lambda made: _with(made, "ce_id", b"x" * 3000), "too long"),
    ],
    ids=["unframed", "cut", "unknown schema", "bare", "no text", "unknown type", "other record", "nul", "long"],
)
def test_what_can_never_be_a_fact_says_why(events: WindowEvents, change: object, reason: str) -> None:
    """Each thing that is wrong ends with its reason, and never with an error that stops the count."""
    assert callable(change)
    found = project(events, change(events.make()))
    assert isinstance(found, Never)
    assert reason in found.reason


def test_a_registry_that_is_away_is_waited_for(events: WindowEvents) -> None:
    """A schema that can't be had now says nothing against the record."""
    made = events.make()
    events.schemas.away = True
    with pytest.raises(RegistryUnavailableError):
        project(events, made)


def _with(made: Made, name: str, value: bytes) -> Made:
    return replace(made, headers=[(n, value if n == name else v) for n, v in made.headers])

"""From record to fact."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from consumers.router.reading import read
from consumers.runner.rows import Never
from consumers.statistics.projection import Projection
from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.envelope import identity
from schemas.reading import Unreadable
from schemas.receipts import Receipt
from schemas.topics import Topics
from services.runtime.errors import RegistryUnavailableError
from services.statistics.facts import Deletion, Fact, case_of
from tests.fakes.kafka import FakeRecord
from tests.window_events import ACCEPTED, COMPLETED, CONSULTED, SOURCE, Made, WindowEvents


@pytest.fixture
def events() -> WindowEvents:
    """Return a maker of window events."""
    return WindowEvents()


RECORDED = datetime(2026, 1, 12, 9, tzinfo=UTC)


def project(events: WindowEvents, made: Made, topic: str = "events") -> Fact | Deletion | Never | None:
    """Project a record of January 12 that stands at offset 7 of partition 3."""
    at = int(RECORDED.timestamp() * 1000)
    record = FakeRecord(topic, 3, 7, at, made.key, made.value, made.headers)
    return Projection(load_contracts(), Codec(events.schemas), Topics()).project(record)


def fact_of(events: WindowEvents, made: Made, topic: str = "events") -> Fact:
    """Return the fact of a record that is one."""
    fact = project(events, made, topic)
    assert isinstance(fact, Fact)
    return fact


def test_a_completion_becomes_a_fact(events: WindowEvents) -> None:
    """A fact has the event's identity, its case, its own time and month, and the dimensions that figures filter on."""
    made = events.make(event_id="e1", project_no="SYN-1", occurred_at="2025-12-31T23:59:59+08:00")
    fact = fact_of(events, made)
    assert (fact.cell.source, fact.event_id, fact.cell.type, fact.case_key) == (SOURCE, "e1", COMPLETED, "SYN-1")
    assert (fact.identity, fact.case_id) == (UUID(bytes=identity(SOURCE, "e1", "SYN-1")), case_of(SOURCE, "SYN-1"))
    assert fact.occurred_at == datetime(2025, 12, 31, 15, 59, 59, tzinfo=UTC)
    assert (fact.month, fact.marks, fact.follows) == (202512, None, None)
    assert {"handling": "online", "level": "province"}.items() <= fact.cell.data.items()
    assert fact.place == ("events", 3, 7)


def test_facts_of_the_same_dimensions_share_a_cell(events: WindowEvents) -> None:
    """A cell is told by its content, in whatever process it is made."""
    first, again, other = (fact_of(events, events.make(division=code)) for code in ("510100", "510100", "510300"))
    assert first.cell == again.cell
    assert first.cell.id != other.cell.id


def test_details_are_kept_beside(events: WindowEvents) -> None:
    """What is no dimension is kept for sums and populations."""
    fact = fact_of(events, events.make(CONSULTED, count="3"))
    assert json.loads(fact.detail) == {"count": 3}


def test_an_assumed_offset_is_marked(events: WindowEvents) -> None:
    """A time without a zone is Shanghai's, and the fact says so."""
    fact = fact_of(events, events.make(occurred_at="2025-12-31T23:59:59"))
    assert (fact.month, fact.marks) == (202512, "occurred_at:offset-assumed")


def test_a_day_belongs_to_its_shanghai_month(events: WindowEvents) -> None:
    """A date alone is that day in Shanghai."""
    fact = fact_of(events, events.make("cn.gov.sc.activity.held", held_on="2025-12-01"))
    assert fact.month == 202512


def test_content_tells_repeats_from_conflicts(events: WindowEvents) -> None:
    """The digest is the content's."""
    first, again, other = (
        fact_of(events, events.make(event_id="e1", division=code)) for code in ("510100", "510100", "510300")
    )
    assert first.digest == again.digest != other.digest


def test_a_correction_names_what_it_corrects(events: WindowEvents) -> None:
    """`follows` is the identity of the same source's event under the same business key."""
    made = events.make(event_id="e2")
    fact = fact_of(events, replace(made, headers=[*made.headers, ("ce_follows", b"e1")]))
    assert fact.follows == UUID(bytes=identity(SOURCE, "e1", made.key.decode()))


def test_a_tombstone_deletes_what_it_names(events: WindowEvents) -> None:
    """Without a value and without `follows` nothing can be told, and that is said."""
    made = replace(events.make(event_id="e2"), value=None)
    deletion = project(events, replace(made, headers=[*made.headers, ("ce_follows", b"e1")]))
    assert isinstance(deletion, Deletion)
    assert deletion.target == UUID(bytes=identity(SOURCE, "e1", made.key.decode()))
    assert isinstance(project(events, made), Never)


def test_a_time_in_the_future_of_its_record_is_put_aside(events: WindowEvents) -> None:
    """The log's own time decides, so that counting again decides alike."""
    assert isinstance(project(events, events.make(occurred_at="2026-01-12T17:04:59+08:00")), Fact)
    found = project(events, events.make(occurred_at="2026-01-12T17:05:01+08:00"))
    assert isinstance(found, Never)
    assert "时间在未来" in found.reason


RECEIPT = Receipt(
    agency="market",
    cursor=7,
    event_id="e1",
    source="urn:sc:health",
    type="cn.gov.sc.health.medical-ad-certificate.issued",
    subject="k",
    outcome="delivered",
    last_at="2025-12-09T09:00:02+08:00",
    published_at="2025-12-02T09:00:00.500+08:00",
    attempts=2,
)


def receipt_fact(events: WindowEvents, receipt: Receipt) -> Fact:
    """Return the fact of a receipt."""
    return fact_of(events, Made(b"market", receipt.to_bytes(), ()), Topics().receipts)


def test_a_receipt_is_a_fact_about_the_push_service(events: WindowEvents) -> None:
    """By publisher and agency, with its delay, and whether it was within the legal deadline of five working days."""
    fact = receipt_fact(events, RECEIPT)
    assert fact.cell.data["publisher"] == "urn:sc:health"
    assert (fact.cell.data["agency"], fact.cell.data["deadline"]) == ("market", "within")
    assert json.loads(fact.detail) == {"seconds": 604801.5, "attempts": 2}
    late = receipt_fact(events, replace(RECEIPT, last_at="2025-12-10T00:00:00+08:00"))
    assert late.cell.data["deadline"] == "after"
    assert late.identity == fact.identity


@pytest.mark.parametrize(
    ("published", "ended", "said"),
    [
        ("2025-12-02T00:00:00+08:00", "2025-12-09T23:59:59.999+08:00", "within"),
        ("2025-12-02T00:00:00+08:00", "2025-12-10T00:00:00+08:00", "after"),
        ("2025-12-02T23:59:59.999+08:00", "2025-12-10T00:00:00+08:00", "after"),
        ("2025-12-03T00:00:00+08:00", "2025-12-10T23:59:59.999+08:00", "within"),
        ("2025-12-02T16:00:00Z", "2025-12-10T15:59:59.999Z", "within"),
        ("2025-12-02T15:59:59Z", "2025-12-09T16:00:00Z", "after"),
        ("2025-12-31T12:00:00+08:00", "2026-01-08T23:59:59.999+08:00", "within"),
        ("2025-12-31T12:00:00+08:00", "2026-01-09T00:00:00+08:00", "after"),
        ("2026-02-10T12:00:00+08:00", "2026-02-24T23:59:59.999+08:00", "within"),
        ("2026-02-10T12:00:00+08:00", "2026-02-25T00:00:00+08:00", "after"),
        ("2026-12-30T12:00:00+08:00", "2026-12-30T12:00:01+08:00", "unknown"),
        (None, "2025-12-09T09:00:00+08:00", "none"),
    ],
)
def test_the_deadlines_clock_starts_on_the_day_of_publication(
    events: WindowEvents, published: str | None, ended: str, said: str
) -> None:
    """That Shanghai day is day 0; the limit is the end of the fifth working day, over weekends and holidays."""
    receipt = replace(RECEIPT, published_at=published, last_at=ended)
    assert receipt_fact(events, receipt).cell.data["deadline"] == said


def test_a_signed_statement_is_no_fact_of_its_own(events: WindowEvents) -> None:
    """What an agency signed is said again by the receipts that come of it."""
    made = Made(b"market", b'{"kind":"statement","agency":"market"}', ())
    assert project(events, made, Topics().receipts) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda made: replace(made, value=b"nothing"), "wire format"),
        (lambda made: replace(made, value=made.value[:-3]), "schema id 1"),
        (lambda made: replace(made, value=b"\0\0\0\0\x63rest"), "no schema 99"),
        (lambda made: replace(made, headers=()), "attribute missing: id"),
        (lambda made: replace(made, headers=[("ce_id", b"\xff")]), "not UTF-8"),
        (lambda made: _with(made, "ce_type", b"cn.gov.sc.window.unheard.of"), "no event of a known type"),
        (lambda made: _with(made, "ce_type", ACCEPTED.encode()), "but the event says"),
        (lambda made: replace(made, key=b"other"), "the record key is not the business key"),
        (lambda made: _with(made, "ce_time", b""), "attribute missing: time"),
        (lambda made: _with(made, "ce_id", b"a\0b"), "NUL"),
        (lambda made: _with(made, "ce_id", b"x" * 3000), "takes more than"),
    ],
    ids=[
        "unframed",
        "cut",
        "unknown schema",
        "bare",
        "no text",
        "unknown type",
        "other record",
        "key",
        "no time",
        "nul",
        "long",
    ],
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


class Names:
    """Every schema is of the one type."""

    def type_of(self, schema_id: int) -> str | None:
        """Return the type."""
        return COMPLETED


@pytest.mark.parametrize(
    "changes",
    [
        {"time": "2025-12-01T08:00:00"},
        {"time": "yesterday"},
        {"recordedtime": "20251201T080000+0800"},
        {"recordedtime": "0001-01-01T00:00:00+08:00"},
        {"id": ""},
        {"id": "a\0b"},
        {"id": "i" * 5000},
        {"source": "s" * 5000},
        {"follows": "f" * 5000},
        {"subject": "another"},
    ],
)
def test_what_the_router_can_not_read_is_not_counted(events: WindowEvents, changes: dict[str, str]) -> None:
    """Both go by one rule, and give the same reason: what reaches nobody is in no figure."""
    made = events.make(event_id="e1")
    kept = [(name, text) for name, text in made.headers if name.removeprefix("ce_") not in changes]
    made = replace(made, headers=[*kept, *((f"ce_{name}", text.encode()) for name, text in changes.items())])
    unread = read(FakeRecord("events", 3, 7, 1, made.key, made.value, made.headers), Names())
    never = project(events, made)
    assert isinstance(unread, Unreadable)
    assert isinstance(never, Never)
    assert never.reason == unread.reason

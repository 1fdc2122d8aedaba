"""One batch of the router on the fake: what is too large for its topic, and what a repetition in another version is."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import orjson
import pytest

from consumers.router.batch import BatchRouter
from consumers.router.memory import Memory, Scope
from consumers.router.plan import Plan
from consumers.router.writing import BatchState, Limits
from schemas.codec import Codec
from schemas.contracts import Schema, load_contracts
from schemas.registry_client import SchemaRefused
from schemas.topics import PROBE_AGENCY, STORED_MAX_BYTES, Topics, TopicSpec
from services.quarantine.aside import LEFT_OUT
from services.routing.fields import policy_of
from services.routing.matching import Matcher
from services.routing.redaction import REFUSED_S, Redactor
from services.runtime.clock import SystemClock
from services.runtime.kafka.port import Partition
from services.subscriptions.control import Subscription, policy_id
from tests.fakes.kafka import FakeKafka, FakeRecord
from tests.window_events import ACCEPTED, WindowEvents

EVENTS = Partition("events.window.v1", 3)
TOPICS = Topics()
FIELDS: dict[str, Any] = {"levels": ["public"]}


class Names:
    """Every schema is of the one type."""

    def type_of(self, schema_id: int) -> str | None:
        """Return the type."""
        return ACCEPTED


class Routing:
    """A router over the fake, with one agency that takes everything."""

    def __init__(self, folder: Path) -> None:
        self.kafka = FakeKafka()
        self.kafka.admin().ensure_topics(
            [TopicSpec(TOPICS.ledger_routed, 12), TopicSpec(TOPICS.deadletter("router"), 1), TOPICS.alerts_spec()]
        )
        self.kafka.admin().ensure_topics(TOPICS.agency_specs("a"))
        self.events = WindowEvents()
        self.memory = Memory(folder)
        self.seconds = 0.0
        self.limits = Limits()
        self.log: list[FakeRecord] = []
        self.producer = self.kafka.transactional_producer("t")
        codec = Codec(self.events.schemas)
        self.router = BatchRouter(
            self.producer,
            self.memory,
            TOPICS,
            Names(),
            codec.decode,
            Redactor(
                self.events.schemas,
                lambda identity: policy_of(identity, {policy_id(FIELDS): FIELDS}),
                lambda: self.seconds,
            ),
            self.limits,
            lambda _topic, _partition, offset: self.log[offset] if offset < len(self.log) else None,
            SystemClock(),
        )
        matcher = Matcher([Subscription("s", "a", [ACCEPTED])], SystemClock().now)
        self.plan = Plan(1, matcher, frozenset("a"), frozenset())

    def route(self, *records: FakeRecord) -> list[str]:
        """Route a batch, and return what the ledger says of each."""
        state = BatchState()
        self.log.extend(records)
        self.producer.begin()
        self.router.route(Scope(EVENTS), records, self.plan, state)
        self.producer.commit()
        self.memory.write(state.changes, {})
        ledger = self.kafka.logs[Partition(TOPICS.ledger_routed, EVENTS.partition)]
        return [orjson.loads(entry.value or b"")["verdict"] for entry in ledger[-len(records) :]]

    def record(self, value: bytes | None = None, size: int = 0, **attributes: str) -> FakeRecord:
        """Return a record of one event, at the log's end; ``size`` bytes of an extension are added."""
        made = self.events.make(ACCEPTED, event_id="e1", project_no="1")
        headers = dict(made.headers) | {f"ce_{n}": t.encode() for n, t in attributes.items()}
        padding = [("ce_padding", b"x" * size)] if size else []
        listed = [*headers.items(), *padding]
        return FakeRecord(EVENTS.topic, EVENTS.partition, len(self.log), 1, made.key, value or made.value, listed)

    def feed(self, agency: str = "a") -> list[FakeRecord]:
        """Return an agency's feed."""
        return self.kafka.logs[Partition(TOPICS.feed(agency), 0)]

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts."""
        return [orjson.loads(one.value or b"") for one in self.kafka.logs[Partition(TOPICS.alerts, 0)]]

    def letters(self) -> list[FakeRecord]:
        """Return the dead letters."""
        return self.kafka.logs[Partition(TOPICS.deadletter("router"), 0)]


@pytest.fixture
def routing(tmp_path: Path) -> Routing:
    """A router of the test's own."""
    return Routing(tmp_path / "memory")


def test_an_event_that_no_feed_could_take_is_never_sent(routing: Routing) -> None:
    """It is measured with what the router adds: nobody gets it, and the letter points at it instead of holding it."""
    assert routing.route(routing.record(size=STORED_MAX_BYTES - 100)) == ["deadletter"]
    assert routing.feed() == []
    letter = routing.letters()[0]
    headers = dict(letter.headers)
    assert (letter.value, headers["hongyan-original-offset"], headers["ce_id"]) == (b"", b"0", b"e1")
    assert LEFT_OUT in headers
    assert f"at most {STORED_MAX_BYTES} bytes" in headers["hongyan-reason"].decode()
    assert routing.route(routing.record(id="e2")) == ["routed"]


def test_what_a_topic_has_refused_is_measured_from_then_on(routing: Routing) -> None:
    """The limits of the topics as they really are count, each for itself."""
    routing.limits.learn({TOPICS.feed("a"): 2000, TOPICS.ledger_routed: STORED_MAX_BYTES})
    assert routing.route(routing.record(size=2000), routing.record(id="e2")) == ["deadletter", "routed"]
    assert dict(routing.letters()[0].headers)["ce_padding"] == b"x" * 2000
    routing.limits.learn({TOPICS.deadletter("router"): 2000, TOPICS.feed("a"): 2000})
    assert routing.route(routing.record(size=2000, id="e3")) == ["deadletter"]
    assert routing.letters()[1].value == b""


def test_a_ledger_entry_that_is_too_large_is_never_written(routing: Routing) -> None:
    """Nothing of the event is sent; what is put on record of it is short."""
    routing.limits.learn({TOPICS.ledger_routed: 700})
    assert routing.route(routing.record(follows="f" * 600)) == ["deadletter"]
    assert routing.feed() == []


def test_a_long_attribute_makes_no_event(routing: Routing) -> None:
    """What ledger and receipts would repeat is bounded before it is repeated."""
    assert routing.route(routing.record(id="i" * 5000)) == ["deadletter"]
    assert b"id takes more than 2600 bytes" in dict(routing.letters()[0].headers)["hongyan-reason"]


def test_the_same_content_in_a_newer_version_is_a_repetition(routing: Routing) -> None:
    """The frame differs and so do the bytes; what a publisher said is the same, until the new field is filled in."""
    contract = load_contracts().types[ACCEPTED]
    newer = copy.deepcopy(contract.schema)
    newer["fields"].append({"name": "counter", "type": ["null", "string"], "default": None})
    first = routing.record()
    data = Codec(routing.events.schemas).decode(first.value).data
    again, other = (
        Codec(routing.events.schemas).encode(contract.subject, newer, {**data, "counter": counter})
        for counter in (None, "7")
    )
    assert again[:5] != (first.value or b"")[:5]
    assert routing.route(first, routing.record(again)) == ["routed", "duplicate"]
    assert routing.route(routing.record(again), routing.record(other)) == ["duplicate", "conflict"]
    assert len(routing.feed()) == 1


def test_where_the_first_is_no_longer_kept_its_bytes_decide(routing: Routing) -> None:
    """What can't be compared is told as a conflict, never passed over."""
    first = routing.record()
    routing.route(first)
    routing.log.clear()
    assert routing.route(FakeRecord(EVENTS.topic, 3, 9, 1, first.key, first.value, first.headers)) == ["duplicate"]
    routing.log.clear()
    assert routing.route(routing.record((first.value or b"") + b"x")) == ["conflict"]


@pytest.mark.parametrize("had", [True, False])
def test_a_follow_up_of_what_nobody_had_is_put_on_record_as_one(routing: Routing, had: bool) -> None:
    """It names what it follows, but follow-ups go by the business key: under another one nobody is reached silently."""
    if had:
        routing.route(routing.record(id="e0"))
    routing.route(routing.record(id="e1", follows="e0"))
    ledger = routing.kafka.logs[Partition(TOPICS.ledger_routed, EVENTS.partition)]
    assert orjson.loads(ledger[-1].value or b"").get("original", True) is had


def with_policy(routing: Routing) -> None:
    """Let a second agency have public fields only."""
    routing.kafka.admin().ensure_topics(TOPICS.agency_specs("b"))
    grants = [Subscription("s", "a", [ACCEPTED]), Subscription("t", "b", [ACCEPTED], fields=FIELDS)]
    matcher = Matcher(grants, SystemClock().now)
    policies = {"t": policy_id(FIELDS)}
    routing.plan = Plan(1, matcher, frozenset("ab"), frozenset(), policies=policies)


def test_a_policy_that_can_not_be_kept_to_keeps_the_event_from_its_agency_alone(
    routing: Routing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others get it; the ledger says by which grants and why not; an alert is opened, and closed once it works."""
    with_policy(routing)
    schemas = routing.events.schemas
    take = schemas.id_of

    def refuse(subject: str, schema: Schema) -> int:
        if "fields-" in subject:
            raise SchemaRefused(f"{subject}: not compatible")
        return take(subject, schema)

    monkeypatch.setattr(schemas, "id_of", refuse)
    assert routing.route(routing.record(id="e1"), routing.record(id="e2")) == ["routed", "routed"]
    assert (len(routing.feed()), len(routing.feed("b")), routing.letters()) == (2, 0, [])
    entry = orjson.loads(routing.kafka.logs[Partition(TOPICS.ledger_routed, EVENTS.partition)][-1].value or b"")
    assert (entry["agencies"], entry.get("fields", {})) == ({"a": ["s"]}, {})
    assert entry["withheld"]["b"]["subscriptions"] == ["t"]
    assert "not compatible" in entry["withheld"]["b"]["reason"]
    (alert,) = routing.alerts()
    assert (alert["kind"], alert["subject"], alert["state"]) == ("policy-failed", "b", "open")
    assert alert["detail"].startswith("t: ")

    monkeypatch.setattr(schemas, "id_of", take)
    routing.seconds += REFUSED_S
    routing.route(routing.record(id="e3"))
    assert [dict(r.headers)["ce_id"] for r in routing.feed("b")] == [b"e3"]
    assert [alert["state"] for alert in routing.alerts()] == ["open", "closed"]


def test_a_redacted_event_names_no_other_receivers_in_its_header(routing: Routing) -> None:
    """Whoever is not given the field does not find it in an attribute; whoever is given all has it as it was."""
    with_policy(routing)
    routing.route(routing.record(id="e1", receivers="a,b"))
    ((whole,), (redacted,)) = routing.feed("a"), routing.feed("b")
    assert (dict(whole.headers)["ce_receivers"], dict(redacted.headers)["ce_receivers"]) == (b"a,b", b"b")


def test_the_probe_goes_to_its_receiver_alone_and_nothing_of_it_is_kept(routing: Routing) -> None:
    """No ledger entry and no memory, whoever else might have subscribed to it; and again means again."""
    grants = [Subscription("s", "a", [ACCEPTED]), Subscription(PROBE_AGENCY, PROBE_AGENCY, [ACCEPTED])]
    routing.kafka.admin().ensure_topics(TOPICS.probe_specs())
    matcher = Matcher(grants, SystemClock().now)
    agencies = frozenset({"a", PROBE_AGENCY})
    routing.plan = Plan(1, matcher, agencies, frozenset(), probe_types=frozenset({ACCEPTED}))
    state = BatchState()
    routing.producer.begin()
    record = routing.record()
    routing.router.route(Scope(EVENTS), [record, record], routing.plan, state)
    routing.producer.commit()
    assert [one.value for one in routing.feed(PROBE_AGENCY)] == [record.value] * 2
    assert routing.feed("a") == []
    assert (state.changes, dict(state.verdicts)) == ({}, {"probe": 2})
    assert routing.kafka.logs[Partition(TOPICS.ledger_routed, EVENTS.partition)] == []

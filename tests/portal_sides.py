"""Two sides in one portal, each with objects of its own: a department, an agency, and what lies between the two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from schemas.envelope import Envelope
from schemas.topics import Topics
from services.ledger.repository import LedgerStore
from services.ledger.rows import NOTHING, attributes_of, event_row, route_rows
from services.runtime.database import dsn_of
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Producer
from tests.events import ARREARS, ISSUED
from tests.fakes.kafka import FakeRecord
from tests.portal import LAW
from tests.portal_site import PortalSite, Visitor


@dataclass(frozen=True, slots=True)
class OneSide:
    """What is one side's; the names of its people, and of what is theirs."""

    department: str
    agency: str
    type: str

    @property
    def source(self) -> str:
        """Return what its department publishes under."""
        return f"urn:side:{self.department}"


OURS, THEIRS = OneSide("births", "clinics", ISSUED), OneSide("pensions", "payers", ARREARS)


@dataclass(frozen=True)
class TwoSides:
    """Who asks, signed in, and the objects of both sides by name."""

    agency: Visitor
    department: Visitor
    objects: Mapping[str, Mapping[str, str]]


def signed_in(portal: PortalSite, account: str) -> Visitor:
    """Return somebody with a session, without the cost of a password."""
    site, visitor = portal.app.state.site, portal.visitor()
    token = site.sessions.begin(site.entrance.people.get(account), "192.0.2.9", "test")
    visitor.cookies[site.cookies.session] = token
    visitor.csrf = site.sessions.find(token, touch=False).csrf
    return visitor


@contextmanager
def two_sides(portal: PortalSite) -> Iterator[TwoSides]:
    """Make all objects of both sides by the ways in which they come about."""
    topics = Topics(portal.settings.kafka.topic_prefix)
    producer = connect(portal.settings.kafka).producer(client_id="sides")
    store = LedgerStore(dsn_of(portal.settings.database), "sides")
    store.begin(("t", 0), 0)
    try:
        objects = {}
        for number, (name, side) in enumerate((("ours", OURS), ("theirs", THEIRS))):
            made = _people_and_grants(portal, side)
            _put_aside(producer, topics, side)
            _on_the_ledger(store, topics.events("health"), side, number)
            objects[name] = {"agency": side.agency, "event": f"{side.department}-1", "letter": str(number), **made}
        yield TwoSides(signed_in(portal, f"{OURS.agency}-a"), signed_in(portal, f"{OURS.department}-d"), objects)
    finally:
        producer.close()
        store.close()


def _people_and_grants(portal: PortalSite, side: OneSide) -> dict[str, str]:
    agency = {"id": side.agency, "name": f"{side.agency} 局", "division": "510000", "sink": "http://127.0.0.1:9/hook"}
    department = {"id": side.department, "name": side.department, "source": side.source, "types": [side.type]}
    for path, body in (("/v1/agencies", agency), ("/v1/departments", department)):
        assert portal.api("POST", path, body).status == 201
    portal.person(f"{side.agency}-a", agency=side.agency)
    portal.person(f"{side.department}-d", department=side.department, approves=[side.type])
    applied = {"agency": side.agency, "types": [side.type], **LAW, "by": f"{side.agency}-a"}
    grants = [
        orjson.loads(portal.api("POST", "/v1/subscriptions", {**applied, **more}).text)["id"]
        for more in ({"approve_by": f"{side.department}-d"}, {})
    ]
    begun = {}
    for who, person in (("agency", f"{side.agency}-a"), ("department", f"{side.department}-d")):
        period = {"from": "2025-01-01", "to": "2025-01-02"}
        place = signed_in(portal, person).post(f"/subscriptions/{grants[0]}/dry-run", period).location
        begun[f"{who}_job"] = place.rpartition("/")[2]
    return {"grant": grants[0], "draft": grants[1], **begun}


def _put_aside(producer: Producer, topics: Topics, side: OneSide) -> None:
    """Park an event at the agency, and put a letter of the department's aside."""
    event = Envelope("aside-1", side.source, side.type, "k", datetime.now(UTC).isoformat()).to_headers()
    ours: list[tuple[str, bytes]] = [("hongyan-stage", b"pusher"), ("hongyan-refusal", b"HTTP 422")]
    for topic in (topics.parked(side.agency), topics.deadletter("router")):
        producer.send(topic, key=b"k", value=b"\0\0", headers=[*event, *ours], partition=0).result(15)


def _on_the_ledger(store: LedgerStore, topic: str, side: OneSide, number: int) -> None:
    """Let an event of the department's be routed to the agency."""
    at, event_id = datetime.now(UTC), f"{side.department}-1"
    stamp = int(at.timestamp() * 1000)
    headers = Envelope(event_id, side.source, side.type, "k", at.isoformat()).to_headers()
    entry: dict[str, Any] = {"topic": topic, "partition": 0, "offset": number, "verdict": "routed"}
    entry |= {"follow_up": [], "agencies": {side.agency: ["s"]}, "fields": {}, "logged": stamp, "at": at.isoformat()}
    entry |= {"id": event_id, "source": side.source, "type": side.type}
    record = FakeRecord(topic, 0, number, stamp, b"k", b"", headers)
    routed = FakeRecord("ledger.routed", 0, number, stamp, b"k", orjson.dumps(entry), [])
    store.store(
        [[event_row(record, attributes_of(record), NOTHING)], route_rows(routed)], {("t", 0): (number, number + 1)}
    )

"""The ledger on real servers: the story of an event for everyone who may know it, exact whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from consumers.monitor.meter import LagMeter
from schemas.contracts import load_contracts
from schemas.topics import EVENT_PARTITIONS, Topics
from services.quarantine.parked import ParkingPlace
from services.runtime.clock import SystemClock
from services.runtime.database import dsn_of
from services.runtime.kafka.port import Kafka, Partition
from services.runtime.settings import Settings, as_environment, with_environment
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import OwnTopics
from tests.events import ARREARS, CORRECTED, ISSUED, SOURCE, TestEvents, attribute, document, read_all
from tests.processes import Processes
from tests.pulling import Puller
from tests.scripted_receiver import Answer, ScriptedReceiver

pytestmark = pytest.mark.servers

PUSHED = ("a", "b", "c", "d")
PULLER = "reader"
ADMIN = "test-administration-key"
MANY = int(os.environ.get("HONGYAN_LEDGER_EVENTS", "600"))
REPEATED = 50


@dataclass(frozen=True)
class Desk:
    """The portal, asked with a key."""

    url: str

    def ask(self, path: str, key: str = ADMIN, body: object | None = None) -> tuple[int, Any]:
        """Return status and answer."""
        payload = json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, payload, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def trace(self, event: str, key: str = ADMIN) -> dict[str, Any] | None:
        """Return the one event of this id that the key may see."""
        status, found = self.ask(f"/v1/events/{quote(event, safe='')}", key)
        return found["events"][0] if status == 200 else None

    def search(self, key: str = ADMIN, **criteria: object) -> list[str]:
        """Return the ids found."""
        status, found = self.ask(f"/v1/events?{urlencode({k.rstrip('_'): v for k, v in criteria.items()})}", key)
        assert status == 200, found
        return [one["event_id"] for one in found["events"]]


@pytest.fixture
def desk(installation: Settings, processes: Processes) -> Desk:
    """Run the portal."""
    installation.portal.url = processes.start("portal", installation).url
    return Desk(installation.portal.url)


def complete(desk: Desk, event: str, **counted: int) -> Callable[[], dict[str, Any] | None]:
    """Return a condition: the event's completeness is this."""

    def check() -> dict[str, Any] | None:
        found = desk.trace(event)
        return found if found and counted.items() <= found["completeness"].items() else None

    return check


def test_the_story_of_an_event_is_told_to_publisher_and_agency_each_its_own_part(
    kafka: Kafka,
    own: OwnTopics,
    installation: Settings,
    configuration: Configuration,
    events: TestEvents,
    processes: Processes,
    desk: Desk,
) -> None:
    """Five are entitled: three get it, one refuses it and gets it again later, one pulls it and says so: 5 of 5."""
    refusing = True
    receivers = {name: ScriptedReceiver() for name in PUSHED}
    receivers["d"].script = lambda _request, _earlier: Answer(422 if refusing else 204)
    own.ensure_agency(*PUSHED)
    for name, receiver in receivers.items():
        configuration.agency(name, receiver.url)
        configuration.subscription(f"s-{name}", name, [ISSUED])
    department = {"id": "health", "name": "省卫生健康委", "source": SOURCE, "types": [ISSUED]}
    publisher = desk.ask("/v1/departments", body=department)[1]["key"]
    body = {"id": PULLER, "name": "市监局", "division": "510000", "sink": "http://127.0.0.1:9/"}
    assert desk.ask("/v1/agencies", body=body)[0] == 201
    key = desk.ask(f"/v1/agencies/{PULLER}/access/keys", body={"reason": "test"})[1]["key"]
    assert desk.ask(f"/v1/agencies/{PULLER}/access/channel", body={"channel": "pull", "reason": "t"})[0] == 200
    configuration.subscription("s-reader", PULLER, [ISSUED])
    for name in ("router", "pusher", "ledger"):
        processes.start(name, installation)
    feeds = Puller(processes.start("feeds", installation).url, PULLER, key)
    event = events.certificate("urn:证书/1", 7)
    other = events.prepare(ARREARS, "other", "urn:test:insurance")
    events.publish(event, event, other)

    pulled = eventually(lambda: (batch := feeds.get(wait=1)).status == 200 and batch.json and batch, 30)
    assert pulled.ids == ["urn:证书/1"]
    assert feeds.ack({"up_to": pulled.after}).json["recorded"] == 1
    found = eventually(complete(desk, "urn:证书/1", entitled=5, delivered=4, accepted=1, parked=1), 30)
    assert (found["verdict"], found["repeats"], found["completeness"]["complete"]) == ("routed", 1, False)
    parts = {agency["agency"]: agency for agency in found["agencies"]}
    assert parts["a"]["subscriptions"] == ["s-a"]
    assert parts["a"]["attempts"] == 1
    assert parts["d"]["receipts"][0]["reason"] == "HTTP 422"
    assert (parts[PULLER]["state"], parts[PULLER]["receipts"][0]["channel"]) == ("accepted", "pull")

    assert desk.trace("urn:证书/1", publisher) == found
    assert desk.trace("other", publisher) is None
    own_part = desk.trace("urn:证书/1", key)
    assert own_part is not None
    assert [agency["agency"] for agency in own_part["agencies"]] == [PULLER]
    assert own_part["completeness"]["entitled"] == 1
    assert desk.ask("/v1/events/x", "hyk_wrong")[0] == 401
    assert desk.ask("/v1/events?source=urn:test:insurance", publisher)[0] == 403

    refusing = False
    place = ParkingPlace(kafka, own, SystemClock())
    place.replay("d", place.list("d")[0].offset, "接收方已修复")
    found = eventually(complete(desk, "urn:证书/1", entitled=5, delivered=5), 30)
    assert found["completeness"]["complete"]

    certificate = load_contracts().types[ISSUED].sample
    number = "（川）医广〔2025〕第0000007号"
    for criteria in (
        {"event": "urn:证书/1"},
        {"identifier": number},
        {"identifier": certificate["institution_uscc"]},
        {"subject": event.attributes["subject"]},
        {"agency": PULLER, "from_": "2025-01-01"},
        {"source": SOURCE, "type": ISSUED},
    ):
        assert set(desk.search(**criteria)) == {"urn:证书/1"}, criteria
    assert desk.search(to="2025-01-01") == []
    assert set(desk.search()) == {"urn:证书/1", "other"}
    shown = subprocess.run(
        [sys.executable, "-m", "hongyan", "trace", number],
        env=with_environment(as_environment(installation)),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "delivered 5/5" in shown
    assert f"链路 trace {event.origin.context.trace_id}" in shown

    events.publish(events.certificate("twin", 8), events.certificate("twin", 9))
    eventually(lambda: all(receivers[name].accepted.count("twin") == 2 for name in PUSHED), 20, "both were delivered")

    def twins() -> list[dict[str, Any]]:
        status, answer = desk.ask("/v1/events/twin", ADMIN)
        found: list[dict[str, Any]] = answer["events"] if status == 200 else []
        return found if [one["completeness"]["delivered"] for one in found] == [4, 4] else []

    for twin in eventually(twins, 20, "the same id under another business key is another event"):
        assert (twin["completeness"]["entitled"], twin["repeats"]) == (5, 0)
        assert [len(agency["receipts"]) for agency in twin["agencies"]] == [1, 1, 1, 1, 0]
    first, _ = feeds.get().cursors
    feeds.ack({"receipts": [{"cursor": first, "outcome": "rejected", "reason": "机构不在辖区"}]})

    def rejected() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = desk.ask("/v1/events/twin", publisher)[1]["events"]
        return [one for one in found if one["completeness"]["rejected"]]

    (told,) = eventually(rejected, 30, "the publisher sees who rejected its event")
    part = next(agency for agency in told["agencies"] if agency["agency"] == PULLER)
    assert (part["state"], part["receipts"][-1]["reason"]) == ("rejected", "机构不在辖区")
    assert (told["moments"][-1]["what"], told["moments"][-1]["agency"]) == ("rejected", PULLER)
    pushed = [moment["what"] for moment in told["moments"] if moment["agency"] in {None, "a"}]
    assert pushed == ["occurred", "published", "logged", "routed", "attempted", "delivered"]
    with closing(LagMeter(kafka, own, load_contracts(), SystemClock())) as meter:

        def caught_up() -> bool:
            return not any(one.lag for one in meter.measure({}).groups if one.group == "ledger")

        eventually(caught_up, 30, "the ends of the router's transactions are no lag")
    for receiver in receivers.values():
        receiver.close()


def test_what_was_parked_unsent_is_told_as_parked_and_awaits_nothing(
    kafka: Kafka,
    own: OwnTopics,
    installation: Settings,
    configuration: Configuration,
    events: TestEvents,
    processes: Processes,
    desk: Desk,
) -> None:
    """One's grant was suspended, one can't be decoded: no message was ever made of either, yet both are known."""
    own.ensure_agency("a", "b")
    for name, kind in (("a", ISSUED), ("b", CORRECTED)):
        configuration.agency(name, "http://127.0.0.1:9/never")
        configuration.subscription(f"s-{name}", name, [kind])
    for name in ("router", "ledger"):
        processes.start(name, installation)
    broken = events.certificate("broken", 2, CORRECTED)
    events.publish(events.certificate("stopped", 1), replace(broken, value=broken.value[:20]))
    for event in ("stopped", "broken"):
        eventually(complete(desk, event, entitled=1, parked=0), 30)
    configuration.subscription("s-a", "a", [ISSUED], state="suspended")
    processes.start("pusher", installation)
    for event in ("stopped", "broken"):
        told = eventually(complete(desk, event, entitled=1, parked=1), 30, f"{event} is told as parked")
        assert [part["state"] for part in told["agencies"]] == ["parked"]
        (listed,) = desk.ask(f"/v1/events?event={event}")[1]["events"]
        assert (listed["entitled"], listed["parked"]) == (1, 1)
    eventually(lambda: recount_ledger(dsn_of(installation.database)) == recount_log(kafka, own), 30)


@dataclass(frozen=True)
class Recount:
    """What the log holds, counted without the product's projection."""

    events: Counter[tuple[str, int, int, str, str, int]]
    routes: Counter[tuple[str, int, int, str, str]]
    entitlements: Counter[tuple[str, str, str, str, int]]
    receipts: Counter[tuple[str, int, str, str, str, str, str]]
    counted: Counter[tuple[str, str, str]]
    """How many of each, over all hours: of a source, for an agency, and what."""


def run_ledger(installation: Settings, *words: str) -> tuple[int, str]:
    """Run a command; return its status and what it printed."""
    command = [sys.executable, "-m", "hongyan", "ledger", *words]
    environment = with_environment(as_environment(installation))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


def forget_log(installation: Settings, *partitions: Partition) -> None:
    """Delete what stands on partitions, as their retention does."""
    admin = KafkaAdminClient(bootstrap_servers=installation.kafka.bootstrap_servers)
    admin.delete_records({TopicPartition(one.topic, one.partition): -1 for one in partitions})
    admin.close()


def recount_log(kafka: Kafka, topics: Topics) -> Recount:
    """Count from Kafka alone."""
    names = [topics.events(domain) for domain in load_contracts().domains()]
    records = [record for name in names for record in read_all(kafka, name, EVENT_PARTITIONS)]
    routed = [document(record) for record in read_all(kafka, topics.ledger_routed, EVENT_PARTITIONS)]
    entitled = [(agency, "match", one) for one in routed for agency in one["agencies"]]
    entitled += [(agency, "follow-up", one) for one in routed for agency in one["follow_up"]]
    receipts = [document(record) for record in read_all(kafka, topics.receipts, 6)]
    published = {(r.topic, r.partition, r.offset): r for r in records}

    def stamp(one: dict[str, Any]) -> int:
        return published[one["topic"], one["partition"], one["offset"]].timestamp

    return Recount(
        Counter(
            (r.topic, r.partition, r.offset, attribute(r, "ce_id"), attribute(r, "ce_subject"), r.timestamp)
            for r in records
        ),
        Counter((one["topic"], one["partition"], one["offset"], one["verdict"], one["type"] or "") for one in routed),
        Counter((agency, why, one["id"], one["type"], stamp(one)) for agency, why, one in entitled),
        Counter(
            (r["agency"], r["cursor"], r["event_id"], r["subject"], r["type"], r["outcome"], r["last_at"])
            for r in receipts
        ),
        Counter((attribute(r, "ce_source"), "", "published") for r in records)
        + Counter((one["source"] or "", "", one["verdict"]) for one in routed)
        + Counter((one["source"], who, "entitled") for agency, _, one in entitled for who in (agency, ""))
        + Counter((r["source"], who, r["outcome"]) for r in receipts for who in (r["agency"], "")),
    )


def recount_ledger(dsn: str) -> Recount:
    """Count from the tables, each by itself: nobody who empties them waits."""
    with psycopg.connect(dsn, autocommit=True) as connection:

        def rows(query: str) -> Counter[Any]:
            return Counter(connection.execute(query.encode()).fetchall())

        def ms(name: str) -> str:
            return f"(1000 * extract(epoch FROM {name}))::bigint"

        receipts = rows("SELECT agency, cursor, event_id, subject, type, outcome, last_at FROM ledger_receipt")
        return Recount(
            rows(
                "SELECT topic, partition, \"offset\", coalesce(event_id, ''), coalesce(subject, ''), "
                f"{ms('logged_at')} FROM ledger_event"
            ),
            rows("SELECT topic, partition, \"offset\", verdict, coalesce(type, '') FROM ledger_route"),
            rows(f"SELECT agency, why, event_id, type, {ms('logged_at')} FROM ledger_entitlement"),
            Counter({(*row[:-1], row[-1].isoformat()): number for row, number in receipts.items()}),
            Counter(
                {
                    (source, agency, what): int(number)
                    for source, agency, what, number in connection.execute(
                        "SELECT source, agency, what, sum(number) FROM ledger_hour GROUP BY 1, 2, 3"
                    )
                }
            ),
        )


def test_the_ledger_equals_a_recount_from_kafka_after_kills_and_when_it_is_built_anew(
    kafka: Kafka,
    own: OwnTopics,
    installation: Settings,
    configuration: Configuration,
    events: TestEvents,
    processes: Processes,
) -> None:
    """Router, pusher and ledger are killed in mid-load; every record is one row, none twice, none missing."""
    receivers = {name: ScriptedReceiver() for name in PUSHED[:2]}
    own.ensure_agency(*receivers)
    for name, receiver in receivers.items():
        configuration.agency(name, receiver.url)
        configuration.subscription(f"s-{name}", name, [ISSUED, CORRECTED] if name == "a" else [ISSUED])
    made = [events.certificate(f"e-{n}", n) for n in range(MANY)]
    made += made[:REPEATED] + [events.certificate(f"c-{n}", n, CORRECTED) for n in range(REPEATED)]
    running = {name: processes.start(name, installation) for name in ("router", "pusher", "ledger")}
    dsn = dsn_of(installation.database)
    for part in range(3):
        events.publish(*made[part * len(made) // 3 : (part + 1) * len(made) // 3])
        if part < 2:
            held = sum(recount_ledger(dsn).events.values())
            eventually(lambda held=held: sum(recount_ledger(dsn).events.values()) > held, 30)  # type: ignore[misc]
            for name, process in running.items():
                process.kill()
                running[name] = processes.start(name, installation, wait=False)
    events.publish_raw(own.events("health"), b"no event", headers={"ce_id": "bad"})
    expected = 2 * (MANY + REPEATED)

    def all_delivered() -> bool:
        found = {(one["agency"], one["event_id"]) for one in map(document, read_all(kafka, own.receipts, 6))}
        return len(found) == expected

    eventually(all_delivered, 90, "every event at every agency")
    # A killed pusher may deliver a few again: the log tells, and no more of them come once all have ended.
    eventually(lambda: recount_ledger(dsn) == recount_log(kafka, own), 60, "the ledger that equals the log")
    counted = recount_log(kafka, own)
    assert len(counted.events) == len(made) + 1
    assert Counter(verdict for *_, verdict, _ in counted.routes) == {
        "routed": MANY + REPEATED,
        "duplicate": REPEATED,
        "deadletter": 1,
    }
    assert run_ledger(installation, "rebuild") == (0, "台账已清空，正由 Kafka 重建 (being built anew)\n")
    eventually(lambda: recount_ledger(dsn) == counted, 60, "the ledger built anew")
    forget_log(installation, *(Partition(own.receipts, n) for n in range(6)))
    status, said = run_ledger(installation, "rebuild")
    assert status == 1
    assert "--lossy" in said
    assert recount_ledger(dsn) == counted, "nothing is lost by a rebuild that could not bring it back"
    for receiver in receivers.values():
        receiver.close()

"""The feeds API on the real Kafka: batches, long polls, streams, replays, digests and receipts."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kafka import TopicPartition

from schemas.receipts import OWN_WORDS
from schemas.topics import Topics
from services.delivery.signing import signed_headers
from services.quarantine.parked import ParkingPlace
from services.runtime.alerts import Alert, AlertKind
from services.runtime.clock import SystemClock
from services.runtime.kafka.port import Admin, Committed, Kafka, Partition
from services.runtime.settings import Settings
from tests.conditions import eventually
from tests.configuration import SECRET, Configuration
from tests.conftest import OwnTopics
from tests.events import CORRECTED, ISSUED, REVOKED, TestEvents, document, read_all
from tests.processes import Processes, Running
from tests.pulling import Answered, Puller

pytestmark = pytest.mark.servers

AGENCY, OTHER = "market-sc", "market-cd"
KEY, OTHER_KEY = "hya_one", "hya_other"
TAIL = 16


@pytest.fixture
def domains() -> list[str]:
    """Events are put on feeds."""
    return []


@pytest.fixture
def process(own: OwnTopics, configuration: Configuration, installation: Settings, processes: Processes) -> Running:
    """Run the feeds of two agencies that pull, with a short memory."""
    own.ensure_agency(AGENCY, OTHER)
    for agency, key in ((AGENCY, KEY), (OTHER, OTHER_KEY)):
        configuration.agency(agency, "http://127.0.0.1:1/")
        configuration.subscription(f"s-{agency}", agency, [ISSUED])
        configuration.access(agency, key)
    installation.feeds.tail_events = TAIL
    installation.feeds.heartbeat_s = 0.5
    installation.feeds.max_ack = 50
    installation.feeds.max_open_agency = 3
    return processes.start("feeds", installation)


@pytest.fixture
def puller(process: Running) -> Puller:
    """Return the agency that pulls."""
    return Puller(process.url, AGENCY, KEY)


def certificates(events: TestEvents, *ids: str) -> list[int]:
    """Put certificates into the agency's feed and return their cursors."""
    return [place.offset for place in events.feed(AGENCY, *(events.certificate(one, n) for n, one in enumerate(ids)))]


def numbered(start: int, stop: int) -> list[str]:
    """Return ids by number."""
    return [f"e-{n}" for n in range(start, stop)]


def test_a_batch_is_a_cloudevents_batch_with_a_cursor_on_each_event_and_the_next_one_beside_it(
    events: TestEvents, puller: Puller
) -> None:
    """Data is decoded by its schema, or as Avro on request; asking on from the cursor gives what follows."""
    cursors = certificates(events, "a", "b", "c")
    first = puller.get(after=-1, limit=2)
    assert first.status == 200
    assert first.headers["content-type"].startswith("application/cloudevents-batch+json")
    assert (first.ids, first.cursors) == (["a", "b"], cursors[:2])
    assert first.json[0]["specversion"] == "1.0"
    assert first.json[0]["data"]["certificate_no"] == "（川）医广〔2025〕第0000000号"
    assert (first.after, first.headers["hongyan-more"]) == (cursors[1], "true")
    rest = puller.get(after=first.after, data="avro")
    assert (rest.ids, rest.headers["hongyan-more"]) == (["c"], "false")
    assert base64.b64decode(rest.json[0]["data_base64"])[:1] == b"\0"
    assert puller.get(after=rest.after).json == []


def test_a_long_poll_is_answered_when_the_event_comes(events: TestEvents, puller: Puller) -> None:
    """It waits for the first event, and no longer than asked when none comes."""
    certificates(events, "a")
    began = time.monotonic()
    assert puller.get(after=0, wait=0.4).json == []
    assert time.monotonic() - began >= 0.4
    found: list[Answered] = []
    waiting = threading.Thread(target=lambda: found.append(puller.get(after=0, wait=20)))
    waiting.start()
    sent = time.monotonic()
    certificates(events, "b")
    waiting.join(10)
    assert time.monotonic() - sent < 5
    assert found[0].ids == ["b"]


def test_while_the_agencys_own_clients_are_in_its_group_no_receipt_is_taken_and_none_is_written(
    kafka: Kafka, topics: Topics, events: TestEvents, puller: Puller
) -> None:
    """Its cursor could not be moved: it is told what to stop, and the same receipt is taken afterwards."""
    cursors = certificates(events, "a", "b")
    client = kafka.consumer(topics.agency_group(AGENCY))
    client.subscribe([topics.feed(AGENCY)], lambda _: None, lambda _: None)
    eventually(lambda: client.poll(0.2, 10), 20)
    refused = puller.ack({"up_to": cursors[-1]})
    assert (refused.status, topics.agency_group(AGENCY) in refused.json["detail"]) == (409, True)
    assert read_all(kafka, topics.receipts, 6) == []
    client.close()
    assert puller.ack({"up_to": cursors[-1]}).status == 200
    assert len(read_all(kafka, topics.receipts, 6)) == len(cursors)


def test_an_agency_sees_its_own_feed_and_nothing_else(
    events: TestEvents, puller: Puller, configuration: Configuration
) -> None:
    """No key, a wrong key, another's key, an ended key, a suspended agency: each is told why."""
    certificates(events, "a")
    assert replace(puller, key="hya_wrong").get(after=-1).status == 401
    assert replace(puller, key="").get(after=-1).status == 401
    stranger = replace(puller, key=OTHER_KEY).get(after=-1)
    assert stranger.status == 403
    assert OTHER in stranger.json["detail"]
    configuration.agency(AGENCY, "http://127.0.0.1:1/", state="suspended")
    eventually(lambda: puller.get(after=-1).status == 403)
    configuration.agency(AGENCY, "http://127.0.0.1:1/")
    eventually(lambda: puller.get(after=-1).status == 200)
    configuration.access(AGENCY, KEY, live=False)
    eventually(lambda: puller.get(after=-1).status == 401)


def test_a_right_that_ends_while_a_poll_waits_gives_nothing(
    events: TestEvents, puller: Puller, configuration: Configuration
) -> None:
    """The key is checked again before the answer."""
    certificates(events, "a")
    found: list[Answered] = []
    waiting = threading.Thread(target=lambda: found.append(puller.get(after=0, wait=20)))
    waiting.start()
    configuration.access(AGENCY, KEY, live=False)
    eventually(lambda: replace(puller).get(after=-1).status == 401)
    certificates(events, "b")
    waiting.join(10)
    assert found[0].status == 401


def test_what_was_never_committed_is_never_seen(
    kafka: Kafka, topics: Topics, events: TestEvents, puller: Puller
) -> None:
    """Aborted transactions leave gaps between cursors, and no events; from memory and from the log alike."""
    assert puller.get(after=-1).json == []
    producer = kafka.transactional_producer(topics.transactional_id("test", "0"))
    made = events.certificate("aborted", 1)
    for commit in (False, True, False, True):
        producer.begin()
        event = made if not commit else events.certificate(f"committed-{producer!r}"[:9] + str(time.time_ns()), 2)
        producer.send(topics.feed(AGENCY), key=event.key, value=event.value, headers=event.headers, partition=0)
        producer.commit() if commit else producer.abort()
    producer.close()
    found = eventually(lambda: len((batch := puller.get(after=-1)).json) == 2 and batch)
    assert all(one.startswith("committed") for one in found.ids)
    assert found.cursors[1] - found.cursors[0] > 1
    again = eventually(lambda: puller.get(after=found.cursors[0]))
    assert again.ids == found.ids[1:]


def test_a_reader_slower_than_the_memory_goes_on_from_the_log(events: TestEvents, puller: Puller) -> None:
    """A feed far longer than its memory is read whole and in order, wherever the reader stands."""
    assert puller.get(after=-1).json == []
    certificates(events, *numbered(0, 5 * TAIL))
    eventually(lambda: puller.all(-1, limit=7) == numbered(0, 5 * TAIL))
    certificates(events, *numbered(5 * TAIL, 9 * TAIL))
    eventually(lambda: puller.all(-1, limit=1000) == numbered(0, 9 * TAIL))


def test_the_stream_goes_on_where_its_reader_stood(events: TestEvents, puller: Puller) -> None:
    """Each event has its cursor as id; Last-Event-ID resumes behind it; quiet streams show signs of life."""
    certificates(events, *numbered(0, 40))
    with puller.stream(after=-1) as lines:
        first = list(islice(_stream_ids(lines), 25))
        assert first == [(n, f"e-{n}") for n in range(25)]
    with puller.stream({"Last-Event-ID": str(first[-1][0])}) as lines:
        assert [id_ for _, id_ in islice(_stream_ids(lines), 15)] == numbered(25, 40)
        assert next(line for line in lines if line.startswith(":")) == ": heartbeat"
        certificates(events, "late")
        assert next(_stream_ids(lines))[1] == "late"


def _stream_ids(lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    cursor = -1
    for line in lines:
        if line.startswith("id: "):
            cursor = int(line[4:])
        elif line.startswith("data: "):
            yield cursor, json.loads(line[6:])["id"]


def test_a_stream_of_an_agency_that_loses_its_right_ends_and_says_so(
    events: TestEvents, puller: Puller, configuration: Configuration
) -> None:
    """The stream tells the problem and closes."""
    with puller.stream(after=-1) as lines:
        configuration.access(AGENCY, KEY, live=False)
        assert "event: problem" in list(lines)


def test_a_replay_begins_at_a_time_or_cursor_and_what_is_no_longer_kept_is_said(
    admin: Admin, topics: Topics, events: TestEvents, puller: Puller
) -> None:
    """``since`` begins at the first event not older; before retention the answer is 410 with the earliest cursor."""
    certificates(events, *numbered(0, 10))
    threading.Event().wait(0.01)  # times on the log are of milliseconds
    middle = datetime.now(UTC).isoformat()
    certificates(events, *numbered(10, 20))
    assert puller.get(since=middle).ids == numbered(10, 20)
    assert puller.written(f"since={middle}").ids == numbered(10, 20)
    with puller.stream(since=middle) as lines:
        assert [id_ for _, id_ in islice(_stream_ids(lines), 10)] == numbered(10, 20)
    assert puller.get(since="yesterday").status == 422
    beyond = puller.get(after=20)
    assert (beyond.status, beyond.json["errors"][0]["pointer"]) == (422, "/after")
    admin.client.delete_records({TopicPartition(topics.feed(AGENCY), 0): 5})  # type: ignore[attr-defined]
    gone = puller.get(after=-1)
    assert (gone.status, gone.json["earliest"]) == (410, 5)
    assert puller.get(after=gone.json["earliest"] - 1, limit=1).ids == ["e-5"]


def test_whoever_follows_the_advice_of_a_410_can_acknowledge_and_the_gap_is_told(
    kafka: Kafka, admin: Admin, own: OwnTopics, events: TestEvents, puller: Puller
) -> None:
    """Retention has passed the cursor: receipts begin where the answer says, no later, and go on as ever."""
    certificates(events, *numbered(0, 12))
    assert puller.ack({"up_to": 1}).json["after"] == 1
    admin.client.delete_records({TopicPartition(own.feed(AGENCY), 0): 5})  # type: ignore[attr-defined]
    gone = puller.ack({"up_to": 9})
    assert gone.status == 410
    advice = {name: int(found) for name, found in re.findall(r"(after|from)=(\d+)", gone.json["detail"])}
    assert puller.get(after=advice["after"], limit=5).ids == numbered(5, 10)
    passed_over = puller.ack({"from": advice["from"] + 1, "up_to": 9})
    assert (passed_over.status, passed_over.json["errors"][0]["pointer"]) == (422, "/from")
    taken = puller.ack({"from": advice["from"], "up_to": 9})
    assert (taken.status, taken.json) == (200, {"after": 9, "recorded": 5, "repeated": 0})
    assert puller.ack({"up_to": 11}).json["after"] == 11
    told = [Alert.from_bytes(record.value) for record in read_all(kafka, own.alerts, 1)]
    assert [(one.kind, one.subject, one.labels) for one in told] == [
        (AlertKind.FEED_GAP, AGENCY, {"from": "2", "to": "5"})
    ]


def test_the_digest_is_what_an_agency_works_out_with_sort_and_sha256sum(events: TestEvents, puller: Puller) -> None:
    """Count and digest over a stretch agree with the shell's; an event twice in the feed counts once."""
    cursors = certificates(events, *numbered(0, 30), "e-3")
    pulled = puller.get(after=-1, limit=1000).json[5:]
    lines = "".join(f"{event['source']} {event['id']} {event['subject']}\n" for event in pulled)
    script = ["sh", "-c", "LC_ALL=C sort -u | sha256sum"]
    expected = subprocess.run(script, input=lines, capture_output=True, text=True, check=True).stdout.split()[0]
    found = puller.get("digest", from_=cursors[5], to=cursors[-1]).json
    assert (found["count"], found["sha256"]) == (26, expected)
    for start, end in ((5, 3), (0, cursors[-1] + 1)):
        answer = puller.get("digest", from_=start, to=end)
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/to")


def test_what_a_stopped_grant_has_put_into_the_feed_is_not_given_out_and_a_recall_is(
    kafka: Kafka, topics: Topics, events: TestEvents, puller: Puller, configuration: Configuration
) -> None:
    """Neither new nor again, by batch, stream or digest; the cursor passes it, it is parked, and it can be put back."""
    name = f"s-{AGENCY}"
    made = [events.certificate(f"e-{n}", n) for n in range(4)]
    events.feed(AGENCY, *made[:3], grants=name)
    events.feed(AGENCY, made[3], grants="other-grant")
    events.feed(AGENCY, events.certificate("r-9", 9, REVOKED), grants="")
    assert len(puller.get(after=-1).json) == 5
    assert puller.ack({"up_to": 0}).json["recorded"] == 1
    configuration.subscription(name, AGENCY, [ISSUED], state="suspended")
    shown = eventually(lambda: len((batch := puller.get(after=-1)).json) == 2 and batch)
    assert (shown.ids, shown.after) == (["e-3", "r-9"], 4)
    assert (puller.get(after=0, limit=2).json, puller.get(after=0, limit=2).after) == ([], 2)
    assert puller.get("digest", from_=0, to=4).json["count"] == 2
    with puller.stream(after=-1) as lines:
        assert list(islice(_stream_ids(lines), 2)) == [(3, "e-3"), (4, "r-9")]
    assert puller.ack({"up_to": 4}).json == {"after": 4, "recorded": 2, "repeated": 0}
    receipts = [document(record) for record in read_all(kafka, topics.receipts, 6)]
    outcomes = {r["event_id"]: r["outcome"] for r in receipts}
    assert outcomes == {"e-0": "accepted", "e-1": "parked", "e-2": "parked", "e-3": "accepted", "r-9": "accepted"}
    assert "已暂停" in next(r["reason"] for r in receipts if r["event_id"] == "e-1")
    place = ParkingPlace(kafka, topics, SystemClock())
    assert [one.event_id for one in place.list(AGENCY)] == ["e-1", "e-2"]
    configuration.subscription(name, AGENCY, [ISSUED])
    assert eventually(lambda: puller.get(after=-1).ids == ["e-0", "e-1", "e-2", "e-3", "r-9"])


def test_what_was_corrected_or_ended_since_is_never_given_again_as_if_it_stood(
    events: TestEvents, puller: Puller
) -> None:
    """Below the agency's cursor such an event is told by name only, by batch and stream, as Avro too.

    What the agency has not had yet it gets in order, the event and then what became of it; the digest stays the same.
    """
    originals = [events.certificate(f"e-{n}", n) for n in range(4)]
    follow_ups = [events.certificate("c-1", 1, CORRECTED), events.certificate("r-2", 2, REVOKED)]
    events.feed(AGENCY, *originals)
    events.feed(AGENCY, *follow_ups, grants="")
    before = puller.get("digest", from_=0, to=5).json
    first = puller.get(after=-1)
    assert first.ids == ["e-0", "e-1", "e-2", "e-3", "c-1", "r-2"]
    assert all("data" in event for event in first.json)
    puller.ack({"up_to": 5})
    for data, name in (("json", "data"), ("avro", "data_base64")):
        again = {event["id"]: event for event in puller.get(after=-1, data=data).json}
        told = {one: event.get("hongyansuperseded") for one, event in again.items()}
        assert told == {"e-0": None, "e-1": "c-1", "e-2": "r-2", "e-3": None, "c-1": None, "r-2": None}
        assert [one for one, event in again.items() if name not in event] == ["e-1", "e-2"]
        assert again["e-1"]["hongyancursor"] == "1"
    assert puller.get("digest", from_=0, to=5).json == before
    events.feed(AGENCY, events.certificate("r-3", 3, REVOKED), grants="")
    eventually(lambda: puller.get(after=2, limit=1).json[0].get("hongyansuperseded") == "r-3")
    with puller.stream({"Last-Event-ID": "0"}) as lines:
        data_lines = (json.loads(line[6:]) for line in lines if line.startswith("data: "))
        assert [event.get("hongyansuperseded") for event in islice(data_lines, 3)] == ["c-1", "r-2", "r-3"]


def test_receipts_move_the_cursor_and_the_same_again_changes_nothing(
    kafka: Kafka, topics: Topics, events: TestEvents, puller: Puller
) -> None:
    """Up to a cursor, with one rejection among them; told twice it is recorded once."""
    cursors = certificates(events, *numbered(0, 12))
    refusal = {"cursor": cursors[4], "event_id": "e-4", "outcome": "rejected", "reason": "机构不在辖区"}
    said = {"up_to": cursors[9], "receipts": [refusal]}
    standing = {"agency": AGENCY, "channel": "pull", "after": -1, "earliest": 0, "latest": cursors[-1]}
    assert puller.get("").json == standing
    assert puller.ack(said).json == {"after": cursors[9], "recorded": 10, "repeated": 0}
    assert puller.get("").json["after"] == cursors[9]
    assert puller.get().ids == numbered(10, 12)
    assert puller.ack(said | {"from": 0}).json == {"after": cursors[9], "recorded": 0, "repeated": 10}
    receipts = [document(record) for record in read_all(kafka, topics.receipts, 6)]
    assert [r["event_id"] for r in receipts] == numbered(0, 10)
    assert {r["event_id"]: r["reason"] for r in receipts if r["outcome"] == "rejected"} == {"e-4": "机构不在辖区"}
    assert {(r["agency"], r["channel"]) for r in receipts} == {(AGENCY, "pull")}


@pytest.mark.parametrize("channel", ["pull", "webhook"])
def test_a_range_leaves_the_word_that_was_given_on_an_event_before(
    channel: str,
    kafka: Kafka,
    topics: Topics,
    events: TestEvents,
    puller: Puller,
    installation: Settings,
    processes: Processes,
    configuration: Configuration,
) -> None:
    """Asked of another process too, and whatever was said first: only naming an event changes what was said of it."""
    cursors = certificates(events, *numbered(0, 5))
    other = Puller(processes.start("feeds", installation).url, AGENCY, KEY)
    if channel == "webhook":
        configuration.access(AGENCY, KEY, channel="webhook")
        for one in (puller, other):
            eventually(lambda asked=one: asked.ack({"up_to": 0}).status == 422)  # type: ignore[misc]
    start = {"from": 0} if channel == "webhook" else {}
    refusal = {"cursor": cursors[1], "outcome": "rejected", "reason": "机构不在辖区"}
    turned = {"from": 0, "up_to": cursors[3], "outcome": "rejected", "reason": "x"}
    assert puller.ack({"receipts": [refusal]}).json["recorded"] == 1
    assert other.ack(start | {"up_to": cursors[2]}).json == {
        "after": cursors[2] if channel == "pull" else -1,
        "recorded": 2,
        "repeated": 1,
    }
    answer = puller.ack(turned).json
    assert (answer["recorded"], answer["repeated"]) == (1, 3)
    assert other.ack({"receipts": [{"cursor": cursors[1]}]}).json["recorded"] == 1
    receipts = [document(record) for record in read_all(kafka, topics.receipts, 6)]
    said = [(r["event_id"], r["outcome"]) for r in receipts if r["outcome"] in OWN_WORDS]
    assert said == [
        ("e-1", "rejected"),
        ("e-0", "accepted"),
        ("e-2", "accepted"),
        ("e-3", "rejected"),
        ("e-1", "accepted"),
    ]


def test_a_range_that_ends_where_the_cursor_is_already_says_so(events: TestEvents, puller: Puller) -> None:
    """It records nothing: what was pushed before the agency began to pull needs a ``from``."""
    cursors = certificates(events, *numbered(0, 3))
    assert "hint" not in puller.ack({"up_to": cursors[2]}).json
    for up_to in (cursors[2], cursors[0]):
        again = puller.ack({"up_to": up_to})
        assert (again.status, again.json["recorded"], again.json["after"]) == (200, 0, cursors[2])
        assert f"游标 {cursors[2]}" in again.json["hint"]


def test_a_receipt_that_can_not_be_meant_is_refused_by_field(events: TestEvents, puller: Puller) -> None:
    """Beyond the end, a gap before it, another event, no reason, too many, nothing at all."""
    certificates(events, *numbered(0, 60))
    mistakes = [
        ({"up_to": 60}, "/up_to"),
        ({"up_to": 59}, "/up_to"),
        ({"from": 5, "up_to": 9}, "/from"),
        ({"receipts": [{"cursor": 3, "event_id": "e-4"}]}, "/receipts/0/event_id"),
        ({"receipts": [{"cursor": 99}]}, "/receipts/0/cursor"),
        ({"receipts": [{"cursor": 3, "outcome": "rejected"}]}, "/receipts/0"),
        ({}, "/"),
    ]
    for said, pointer in mistakes:
        answer = puller.ack(said)
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, pointer), said
    assert puller.get("").json["after"] == -1


def test_single_receipts_are_recorded_and_leave_the_cursor(
    kafka: Kafka, topics: Topics, events: TestEvents, puller: Puller
) -> None:
    """One by one, in any order: what they don't name is not said to be accepted."""
    certificates(events, *numbered(0, 6))
    singles = [{"cursor": 4}, {"cursor": 1, "event_id": "e-1", "outcome": "rejected", "reason": "机构不在辖区"}]
    assert puller.ack({"receipts": singles}).json == {"after": -1, "recorded": 2, "repeated": 0}
    assert puller.get().ids == numbered(0, 6)
    receipts = [document(record) for record in read_all(kafka, topics.receipts, 6)]
    assert {r["event_id"]: r["outcome"] for r in receipts} == {"e-4": "accepted", "e-1": "rejected"}


@pytest.mark.parametrize("kind", ["ed25519", "hmac"])
def test_signed_receipts_are_verified_and_kept_as_they_came(
    kind: str, kafka: Kafka, topics: Topics, events: TestEvents, puller: Puller, configuration: Configuration
) -> None:
    """The signed text stands beside its receipts; a wrong signature records nothing."""
    certificates(events, "a", "b")
    private = Ed25519PrivateKey.generate()
    public = "whpk_" + base64.b64encode(private.public_key().public_bytes_raw()).decode()
    configuration.access(AGENCY, KEY, ack_key=public if kind == "ed25519" else SECRET)

    def headers(body: bytes) -> dict[str, str]:
        if kind == "hmac":
            return signed_headers([SECRET], "ack-1", int(time.time()), body)
        sent_at = str(int(time.time()))
        made = base64.b64encode(private.sign(f"ack-1.{sent_at}.".encode() + body)).decode()
        return {"webhook-id": "ack-1", "webhook-timestamp": sent_at, "webhook-signature": f"v1a,{made}"}

    body = json.dumps({"up_to": 1}).encode()
    assert eventually(lambda: (answer := puller.ack(body, headers(b"{}"))).status == 403 and answer)
    taken = eventually(lambda: (answer := puller.ack(body, headers(body))).status == 200 and answer)
    assert taken.json["recorded"] == 2
    found = [document(record) for record in read_all(kafka, topics.receipts, 6)]
    statement, *receipts = found
    assert (statement["kind"], statement["body"]) == ("statement", body.decode())
    assert statement["verified_by"] == ("v1a" if kind == "ed25519" else "v1")
    assert {r["statement"] for r in receipts} == {"ack-1"}


def test_one_agency_can_not_take_all_places(events: TestEvents, puller: Puller) -> None:
    """Its fourth open request is told to come later; the other agency is served."""
    certificates(events, "a")

    def wait_for_more() -> None:
        eventually(lambda: puller.get(after=0, wait=15).status == 200, 20)

    waiting = [threading.Thread(target=wait_for_more) for _ in range(3)]
    for one in waiting:
        one.start()
    full = eventually(lambda: (answer := puller.get(after=0)).status == 429 and answer)
    assert full.headers["retry-after"]
    assert Puller(puller.url, OTHER, OTHER_KEY).get(after=-1).status == 200
    certificates(events, "b")
    for one in waiting:
        one.join(10)
    assert puller.get(after=0).status == 200


def test_the_process_ends_at_once_although_agencies_wait(process: Running, puller: Puller) -> None:
    """Those who wait are answered, streams end, and nobody is kept waiting for the grace time."""
    found: list[Answered] = []
    waiting = threading.Thread(target=lambda: found.append(puller.get(after=-1, wait=30)))
    waiting.start()
    with puller.stream(after=-1) as lines:
        assert next(lines) == "retry: 2000"
        began = time.monotonic()
        assert process.terminate() == 0
        assert time.monotonic() - began < 5
    waiting.join(5)
    assert found[0].json == []


def test_the_cursor_is_the_greatest_that_any_channel_reached(
    kafka: Kafka, topics: Topics, events: TestEvents, puller: Puller
) -> None:
    """What the pusher had committed is where pulling begins."""
    cursors = certificates(events, *numbered(0, 6))
    admin = kafka.admin()
    admin.set_group_offsets(topics.group("pusher"), {Partition(topics.feed(AGENCY), 0): Committed(cursors[3])})
    admin.close()
    assert puller.get().ids == numbered(3, 6)


def test_a_feed_whose_topic_is_gone_fails_alone_and_opens_once_it_is_there_again(
    admin: Admin, own: OwnTopics, events: TestEvents, process: Running, puller: Puller
) -> None:
    """Deleted by hand: its agency is told which feed can't be opened, while the other's long poll gets its event."""
    admin.delete_topics([own.feed(OTHER)])
    eventually(lambda: own.feed(OTHER) not in admin.list_topics())
    other = Puller(process.url, OTHER, OTHER_KEY)
    refused = other.get(after=-1)
    assert refused.status == 503
    assert OTHER in refused.json["detail"]
    answers: list[Answered] = []
    waiting = threading.Thread(target=lambda: answers.append(puller.get(after=-1, wait=20)))
    waiting.start()
    certificates(events, "a")
    waiting.join(10)
    assert [answer.ids for answer in answers] == [["a"]]
    own.ensure_agency(OTHER)
    events.feed(OTHER, events.certificate("b", 1))
    assert eventually(lambda: (found := other.get(after=-1)).status == 200 and found.ids == ["b"], 30)

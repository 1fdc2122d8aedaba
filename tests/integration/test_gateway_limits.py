"""What the gateway allows whom, and how much: keys that end, tokens, divisions, rates, batches, sizes, dry runs."""

from __future__ import annotations

import gzip
import http.client
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from schemas.contracts import load_contracts
from services.identity.repository import key_digest
from services.runtime.kafka.port import Kafka
from services.runtime.settings import OAuthSettings, Settings
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import OwnTopics
from tests.events import ACCEPTED, CORRECTED, ISSUED, SOURCE, attribute, read_all
from tests.processes import Processes

pytestmark = pytest.mark.servers

KEY = "hyk_test"
ISSUER = "https://sso.example.invalid"


@dataclass
class Answer:
    """A status, its headers, its JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass
class Gateway:
    """A gateway to speak to, as any HTTP client would."""

    port: int
    key: str = KEY
    headers: Mapping[str, str] = field(default_factory=dict)

    def post(self, body: object, path: str = "/v1/events", key: str | None = None, **headers: str) -> Answer:
        """Post JSON (or bytes as they are)."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "application/cloudevents-batch+json" if isinstance(body, list) else "application/cloudevents+json"
        sent = {"Content-Type": kind, "Authorization": f"Bearer {key or self.key}"}
        return self.call("POST", path, payload, sent | {n.replace("_", "-"): v for n, v in headers.items()})

    def call(self, method: str, path: str, payload: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Make a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, payload, dict(headers or {}))
            found = connection.getresponse()
            content = found.read()
            if found.headers.get("Content-Encoding") == "gzip":
                content = gzip.decompress(content)
            is_json = "json" in found.headers.get("Content-Type", "")
            return Answer(found.status, found.headers, json.loads(content) if is_json else content.decode())
        finally:
            connection.close()


Department = Callable[..., None]


@pytest.fixture
def domains() -> list[str]:
    """Nothing is published elsewhere."""
    return ["health", "window"]


@pytest.fixture
def department(configuration: Configuration, own: OwnTopics) -> Department:
    """Make a department known, with whatever limits."""

    def put(name: str = "health", source: str = SOURCE, **more: Any) -> None:
        entry = {"id": name, "name": name, "source": source, "types": [ISSUED, CORRECTED, ACCEPTED]}
        keys = [{"id": "key-1", "digest": key_digest(KEY), "expires_at": None}]
        configuration._put(own.control_identities, f"department/{name}", {**entry, "keys": keys, **more})

    return put


@pytest.fixture
def gateway(department: Department, installation: Settings, processes: Processes) -> Gateway:
    """A gateway process and a department with a key."""
    department()
    return Gateway(processes.start("gateway", installation).port)


def event(event_id: str = "e1", kind: str = ISSUED, **changes: Any) -> dict[str, Any]:
    """Return an event in structured form."""
    data = {**load_contracts().types[kind].sample, **changes}
    return {"specversion": "1.0", "id": event_id, "type": kind, "data": data}


def published(kafka: Kafka, own: OwnTopics) -> list[str]:
    """Return the ids on the health topic, sorted."""
    return sorted(attribute(record, "ce_id") for record in read_all(kafka, own.events("health"), 12))


def test_both_keys_work_until_the_older_one_ends(gateway: Gateway, department: Department) -> None:
    """A key that has ended is refused and its number told; the newer one goes on."""
    now = datetime.now(UTC)

    def keys(ends: datetime) -> list[dict[str, Any]]:
        old = {"id": "key-old", "digest": key_digest(KEY), "expires_at": ends.isoformat()}
        return [old, {"id": "key-new", "digest": key_digest("hyk_new"), "expires_at": None}]

    department(keys=keys(now + timedelta(hours=1)))
    eventually(lambda: gateway.post(event("n1"), key="hyk_new").status == 202, 20)
    assert gateway.post(event("n2")).status == 202
    department(keys=keys(now - timedelta(seconds=1)))
    refused = eventually(lambda: (a := gateway.post(event("n3"))).status == 401 and a, 5)
    assert "key-old" in refused.body["detail"]
    assert gateway.post(event("n4"), key="hyk_new").status == 202


def test_a_department_may_speak_only_for_its_divisions(
    gateway: Gateway, department: Department, kafka: Kafka, own: OwnTopics
) -> None:
    """The attribute and the data are both looked at, and the problem names the field."""
    department(divisions={"*": ["5101"], ACCEPTED: ["5107"]})
    eventually(lambda: gateway.post(event("d0", reviewer_division="510700")).status == 403, 20)
    other = gateway.post(event("d1", reviewer_division="510700"))
    assert [e["pointer"] for e in other.body["errors"]] == ["/data/reviewer_division"]
    own_attribute = gateway.post({**event("d2", reviewer_division="510700"), "division": "510100"})
    assert (own_attribute.status, own_attribute.body["errors"][0]["pointer"]) == (403, "/data/reviewer_division")
    foreign = gateway.post({**event("d3", reviewer_division="510100"), "division": "510700"})
    assert (foreign.status, foreign.body["errors"][0]["pointer"]) == (403, "/division")
    assert gateway.post(event("d4", reviewer_division="510104")).status == 202
    assert gateway.post(event("d5", ACCEPTED, division="510700")).status == 202
    assert gateway.post(event("d6", ACCEPTED, division="510100")).status == 403
    # The first was a question whether the rule is known yet; before that it may well have been taken.
    assert [taken for taken in published(kafka, own) if taken != "d0"] == ["d4"]


def test_too_fast_is_429_and_says_when_to_come_again(gateway: Gateway, department: Department) -> None:
    """The bucket holds ten; an eleventh waits. Another department is not slowed."""
    department(rate_per_s=2.0, burst=10)
    quick = [{"id": "key-2", "digest": key_digest("hyk_quick"), "expires_at": None}]
    department("other", "urn:other", keys=quick)
    eventually(lambda: gateway.post(event("o"), key="hyk_quick").status == 202, 20)
    assert gateway.post([event(f"r{n}") for n in range(9)]).status == 202
    limited = eventually(lambda: (a := gateway.post([event(f"s{n}") for n in range(8)])).status == 429 and a, 5)
    assert 1 <= int(limited.headers["Retry-After"]) <= 5
    assert gateway.post([event(f"p{n}") for n in range(9)], key="hyk_quick").status == 202
    eventually(lambda: gateway.post(event("later")).status == 202, 15)


def test_a_batch_larger_than_the_bucket_is_taken_and_paid_for(gateway: Gateway, department: Department) -> None:
    """It was let in by its first event; whoever comes next waits for the others."""
    department(rate_per_s=20.0, burst=5)
    batch = [event(f"large{n}") for n in range(60)]
    eventually(lambda: gateway.post(event("known")).status == 202 and gateway.post(batch).status == 202, 20)
    limited = eventually(lambda: (a := gateway.post(event("next"))).status == 429 and a, 5)
    assert 1 <= int(limited.headers["Retry-After"]) <= 4
    eventually(lambda: gateway.post(event("next")).status == 202, 15)


def test_a_lenient_batch_says_exactly_which_events_were_taken(gateway: Gateway, kafka: Kafka, own: OwnTopics) -> None:
    """207 lists each by index, id and its own status; strict takes none; nothing taken is the problem itself."""
    unread = {"id": "b4", "type": ISSUED, "data_base64": "%"}
    foreign = {**event("b3"), "source": "urn:other"}
    batch = [event("b0"), event("b1", beds=-1), event("b2"), foreign, unread, 7]
    assert gateway.post(batch).status == 403
    assert published(kafka, own) == []
    answer = gateway.post(batch, Prefer="handling=lenient")
    assert (answer.status, answer.body["accepted"], answer.body["refused"]) == (207, 2, 4)
    told = [(e["index"], e["id"], e["status"]) for e in answer.body["events"]]
    assert told == [(0, "b0", 202), (1, "b1", 422), (2, "b2", 202), (3, "b3", 403), (4, "b4", 422), (5, None, 422)]
    assert answer.body["events"][1]["errors"][0]["pointer"] == "/1/data/beds"
    assert published(kafka, own) == ["b0", "b2"]
    nothing = gateway.post([event("b5", beds=-1)], Prefer="handling=lenient")
    assert (nothing.status, nothing.body["events"][0]["status"]) == (422, 422)


def test_sending_again_is_recognised_and_other_content_is_a_conflict(
    gateway: Gateway, kafka: Kafka, own: OwnTopics
) -> None:
    """The same content is answered with its first place and not appended again; other content is 409.

    Under another business key it is another event, here as everywhere behind.
    """
    first = gateway.post(event("i1")).body["events"][0]
    again = gateway.post(event("i1")).body["events"][0]
    assert again["repeated"] is True
    standing = ("partition", "offset", "recordedtime")
    assert [again[name] for name in standing] == [first[name] for name in standing]
    conflict = gateway.post(event("i1", beds=77))
    assert (conflict.status, conflict.body["errors"][0]["pointer"]) == (409, "/id")
    other = gateway.post(event("i1", certificate_no="（川）医广〔2025〕第0000077号"))
    assert (other.status, other.body["events"][0].get("repeated", False)) == (202, False)
    within = gateway.post([event("i2"), event("i2", beds=77)])
    assert (within.status, within.body["errors"][0]["pointer"]) == (409, "/1/id")
    assert published(kafka, own) == ["i1", "i1"]


def test_compressed_bodies_come_in_and_bombs_do_not(gateway: Gateway) -> None:
    """gzip in and out; what unpacks to more than the limit is 413 however small it came; other encodings are 415."""
    batch = [event(f"z{n}") for n in range(20)]
    packed = gzip.compress(json.dumps(batch).encode())
    kind = {"Content_Type": "application/cloudevents-batch+json"}
    answer = gateway.post(packed, Content_Encoding="gzip", Accept_Encoding="gzip", **kind)
    assert (answer.status, answer.body["accepted"]) == (202, 20)
    assert answer.headers["Content-Encoding"] == "gzip"
    bomb = gzip.compress(b" " * 500_000_000, 9)
    assert len(bomb) < 1024 * 1024
    began = time.monotonic()
    assert gateway.post(bomb, Content_Encoding="gzip", **kind).status == 413
    assert time.monotonic() - began < 5
    assert gateway.post(packed[:-9], Content_Encoding="gzip", **kind).status == 422
    assert gateway.post(b"no gzip at all", Content_Encoding="gzip", **kind).status == 422
    assert gateway.post(packed, Content_Encoding="br", **kind).status == 415


def test_a_dry_run_says_who_would_receive_it_and_publishes_nothing(
    gateway: Gateway, configuration: Configuration, kafka: Kafka, own: OwnTopics
) -> None:
    """Type, filters and state of the subscriptions count, as they do in the router; refusals are told per event."""
    for agency in ("market", "city"):
        configuration.agency(agency, "http://127.0.0.1:9/")
    configuration.subscription("s1", "market", [ISSUED])
    configuration.subscription("s2", "city", [ISSUED], [{"cel": "data.reviewer_division == '510700'"}])
    configuration.subscription("s3", "city", [ISSUED], state="suspended")

    def receivers(**changes: Any) -> list[str]:
        mistyped = gateway.post(event("t1", **changes), "/v1/events?dryrun=true")
        assert (mistyped.status, mistyped.body["errors"][0]["pointer"]) == (422, "/dryrun")
        answer = gateway.post(event("t1", **changes), "/v1/events?dry_run=true")
        assert answer.status == 200
        return [one["agency"] for one in answer.body["events"][0]["receivers"]]

    eventually(lambda: receivers(reviewer_division="510700") == ["city", "market"], 20)
    assert receivers(reviewer_division="510100") == ["market"]
    answer = gateway.post([event("t2"), event("t3", beds=-1)], "/v1/events?dry_run=true")
    assert [one["status"] for one in answer.body["events"]] == [202, 422]
    correction = {**event("t4", CORRECTED), "follows": "t1"}
    assert gateway.post(correction, "/v1/events?dry_run=true").body["events"][0]["follow_up"] is True
    assert published(kafka, own) == []


def test_odd_values_are_flagged_or_refused_as_the_installation_says(
    department: Department, installation: Settings, processes: Processes, kafka: Kafka, own: OwnTopics
) -> None:
    """By setting, for one type: refused by name; others carry the mark in their data, envelope and answer."""
    installation.gateway.warnings = {f"{ISSUED}:unusual-form": "reject"}
    department()
    gateway = Gateway(processes.start("gateway", installation).port)
    refused = gateway.post(event("q1", certificate_no="第一号"))
    assert (refused.status, refused.body["errors"][0]["pointer"]) == (422, "/data/certificate_no")
    flagged = gateway.post(event("q2", institution_uscc="12510100TE5T000249"))
    assert "institution_uscc:check-character" in flagged.body["events"][0]["quality"]
    (record,) = read_all(kafka, own.events("health"), 12)
    assert "institution_uscc:check-character" in attribute(record, "ce_quality").split(",")
    assert gateway.post({**event("q3"), "quality": "mine"}).status == 422


def test_the_documentation_loads_nothing_from_outside(gateway: Gateway) -> None:
    """The page is whole as it is served: no address of another host in it, and every answer is described."""
    page = gateway.call("GET", "/docs")
    assert page.status == 200
    for outside in ("src=", "http://", "https://", "//cdn", "@import"):
        assert outside not in page.body
    assert "/v1/events" in page.body
    document = gateway.call("GET", "/openapi.json").body
    assert {"202", "207", "422", "429", "503"} <= document["paths"]["/v1/events"]["post"]["responses"].keys()


@pytest.fixture
def issuer() -> RSAKey:
    """The key of an OAuth2 server."""
    return RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})


def token(key: RSAKey, **changes: Any) -> str:
    """Return a token as the server would give it to a client."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "hongyan", "exp": now + 60, "iat": now, "client_id": "health-system"}
    named = {name: value for name, value in {**claims, **changes}.items() if value is not None}
    return jwt.encode({"alg": "RS256", "kid": key.kid}, named, key)


def jwks(folder: Path, *keys: RSAKey) -> Path:
    """Write the server's public keys."""
    file = folder / "jwks.json"
    file.write_text(json.dumps(KeySet(list(keys)).as_dict(private=False)))
    return file


def test_a_token_of_the_trusted_issuer_stands_for_its_department(
    department: Department, installation: Settings, processes: Processes, issuer: RSAKey, tmp_path: Path
) -> None:
    """Signature, issuer, audience, expiry and client are all checked; a changed key is found by itself."""
    department(client_id="health-system")
    file = jwks(tmp_path, issuer)
    installation.oauth = OAuthSettings(issuer=ISSUER, jwks=str(file), leeway_s=0)
    gateway = Gateway(processes.start("gateway", installation).port)
    assert gateway.post(event("j1"), key=token(issuer)).status == 202
    assert gateway.post(event("j2")).status == 202
    stranger = RSAKey.generate_key(2048, {"kid": "one"})
    wrong = [
        token(issuer, iss="https://other.invalid"),
        token(issuer, aud="another"),
        token(issuer, exp=int(time.time()) - 5),
        token(issuer, exp=None),
        token(issuer, client_id="nobody"),
        token(issuer, client_id=None),
        token(stranger),
        ".".join(["eyJhbGciOiJub25lIn0", token(issuer).split(".")[1], ""]),
        "not.a.token",
    ]
    assert [gateway.post(event("j3"), key=one).status for one in wrong] == [401] * len(wrong)
    newer = RSAKey.generate_key(2048, {"kid": "two", "use": "sig", "alg": "RS256"})
    jwks(tmp_path, issuer, newer)
    eventually(lambda: gateway.post(event("j4"), key=token(newer)).status == 202, 20)


def test_without_the_issuers_keys_a_token_waits_and_keys_still_work(
    department: Department, installation: Settings, processes: Processes, issuer: RSAKey, tmp_path: Path
) -> None:
    """503, not 401: the token may be good. It is taken once the keys can be read."""
    department(client_id="health-system")
    installation.oauth = OAuthSettings(issuer=ISSUER, jwks=str(tmp_path / "jwks.json"))
    gateway = Gateway(processes.start("gateway", installation).port)
    assert gateway.post(event("w1"), key=token(issuer)).status == 503
    assert gateway.post(event("w2")).status == 202
    jwks(tmp_path, issuer)
    assert gateway.post(event("w3"), key=token(issuer)).status == 202

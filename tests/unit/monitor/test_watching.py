"""What is told while Kafka is away, what a command does without a monitor, and how the probe's deliveries are taken."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import orjson
import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from consumers.monitor.api import add_probe, add_snapshot
from consumers.monitor.asking import MonitorAwayError, ask, untold
from consumers.monitor.meter import known
from consumers.monitor.probe import Patience, Probe
from consumers.monitor.probing import Prober, withdraw
from consumers.monitor.process import _Monitor
from consumers.monitor.watching import Watching
from schemas.contracts import load_contracts
from schemas.topics import PROBE_AGENCY, Topics
from services.delivery.lag import ProbeLag, Snapshot
from services.delivery.receiver import PROBE_PATH
from services.delivery.signing import signed_headers
from services.portal.agencies import AgencyBody, AgencyDesk
from services.portal.contents import content_problems
from services.runtime.embedded.ports import free_port
from services.runtime.errors import InvalidError, KafkaUnavailableError
from services.runtime.kafka.port import Committed, Partition
from services.runtime.probes import Health
from services.runtime.settings import Settings
from services.runtime.web import new_app
from services.subscriptions.follower import ControlFollower
from services.subscriptions.sealing import Sealer
from tests.conditions import eventually
from tests.fakes.hand_clock import NOW, HandClock
from tests.fakes.kafka import FakeKafka
from tests.lagging import deliver, meter_of
from tests.webservers import serving_asgi

TOPICS = Topics()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def empty(at: datetime, probe: ProbeLag) -> Snapshot:
    """Return a snapshot of nobody."""
    return Snapshot(at.isoformat(), 900, [], [], probe)


def test_while_kafka_is_away_the_last_figures_stand_with_since_when_and_why() -> None:
    """The first moment of the outage stands however often it is tried; metrics give nothing meanwhile."""
    clock, stop = HandClock(), threading.Event()
    watching = Watching(clock, lambda: ProbeLag("ok", clock.now().isoformat()), 1.0)
    assert watching.latest() is None

    def once(probe: ProbeLag) -> Snapshot:
        stop.set()
        return empty(clock.now(), probe)

    def away(_probe: ProbeLag) -> Snapshot:
        raise KafkaUnavailableError("no broker")

    watching.run(once, stop)
    stop.clear()
    for seconds in (5.0, 9.0):
        clock.seconds = seconds
        with pytest.raises(KafkaUnavailableError):
            watching.run(away, stop)
    told = watching.latest()
    assert told is not None
    assert (told.at, told.away_why) == (NOW.isoformat(), "no broker")
    assert told.away_since == (NOW + timedelta(seconds=5)).isoformat()
    assert watching.fresh is None
    watching.run(once, stop)
    assert watching.fresh is not None
    assert watching.fresh.away_since is None


def test_nothing_is_measured_before_it_is_known_who_is_there(cluster: FakeKafka) -> None:
    """Who comes late is counted from what was read at the start: a look without them would have thrown it away."""
    for _ in range(3):
        deliver(cluster, 10)
    agency = {"id": "market", "name": "m", "division": "510000", "sink": "https://receiver.example/x", "keys": []}
    cluster.producer().send(TOPICS.control_subscriptions, key=b"agency/market", value=orjson.dumps(agency), partition=0)
    follower, stop = ControlFollower(cluster, [TOPICS.control_subscriptions], "t"), threading.Event()
    settings = Settings()
    settings.monitor.period_s = 0.05
    monitor = _Monitor(settings, cluster, stop)
    monitor._clock, monitor._follower = HandClock(), follower
    session = threading.Thread(target=monitor._session)
    session.start()
    with pytest.raises(KafkaUnavailableError):
        known(follower, 0.3)
    assert monitor.watching.latest() is None
    follower.start(stop)
    seen = eventually(lambda: monitor.watching.fresh, 10)
    stop.set()
    session.join(10)
    assert [(one.agency, one.latencies.delivered) for one in seen.agencies] == [("market", 3)]


def test_before_the_first_look_the_snapshot_is_not_there_yet() -> None:
    """503, with why where there is a reason."""
    watching = Watching(HandClock(), lambda: ProbeLag("off", NOW.isoformat()), 1.0)
    app = new_app("t", lambda: Health(ok=True), CollectorRegistry())
    add_snapshot(app, watching)
    with TestClient(app) as client:
        assert client.get("/v1/snapshot").status_code == 503
        watching.note_away(KafkaUnavailableError("no broker"))
        assert "no broker" in client.get("/v1/snapshot").json()["detail"]


def test_a_monitor_that_does_not_answer_is_named() -> None:
    """With its address."""
    settings = Settings()
    settings.monitor.url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(MonitorAwayError, match=settings.monitor.url):
        ask(settings)


def test_a_monitor_that_hangs_says_since_when() -> None:
    """Its last word is old, and is not taken for the state of now."""
    watching, stop = Watching(HandClock(), lambda: ProbeLag("ok", NOW.isoformat()), 1.0), threading.Event()

    def once(probe: ProbeLag) -> Snapshot:
        stop.set()
        return empty(NOW, probe)

    watching.run(once, stop)
    app, settings = new_app("t", lambda: Health(ok=True), CollectorRegistry()), Settings()
    add_snapshot(app, watching)
    with serving_asgi(app) as url:
        settings.monitor.url = url.rstrip("/")
        with pytest.raises(MonitorAwayError, match="监视进程自 2026-01-01 20:00:00 起没有新的测量"):
            ask(settings)


def test_one_look_tells_no_state_and_nothing_of_the_probe(cluster: FakeKafka) -> None:
    """Who lags behind nothing may still be dead; what stands in Kafka itself is known."""
    cluster.admin().ensure_topics(TOPICS.agency_specs("dead"))
    note = orjson.dumps({"held_since": NOW.isoformat(), "why": "HTTP 503"}).decode()
    place = Partition(TOPICS.feed("dead"), 0)
    cluster.admin().set_group_offsets(TOPICS.group("pusher"), {place: Committed(0, note)})
    seen = meter_of(cluster).measure({"market": "webhook", "dead": "webhook"})
    assert {one.state for one in seen.groups} == {"ok"}
    found = untold(seen, "no answer")
    assert {one.agency: one.state for one in found.agencies} == {"market": "unknown", "dead": "held"}
    assert {one.state for one in found.groups} == {"unknown"}
    assert (found.probe.state, found.probe.detail) == ("unknown", "no answer")


def prober(kafka: FakeKafka, probe: Probe, clock: HandClock) -> Prober:
    """Return a prober with its keys."""
    settings = Settings()
    settings.security.master_key = SecretStr("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
    return Prober(settings, kafka, TOPICS, load_contracts(), probe, clock)


def test_a_delivery_of_the_probe_counts_only_when_its_signature_holds() -> None:
    """Anything else is asked for again: it may be of a predecessor's key, and its line must not be parked."""
    clock = HandClock()
    probe = Probe(Patience(5.0, 2.0, 60.0), NOW)
    made = prober(FakeKafka(), probe, clock)
    app = new_app("t", lambda: Health(ok=True), CollectorRegistry())
    add_probe(app, made, clock)
    body = orjson.dumps({"id": "p1", "recordedtime": NOW.isoformat()})
    probe.sent("p1", NOW.timestamp())
    with TestClient(app) as client:
        for secret, status in ((SECRET, 503), (made._secret, 204)):
            headers = signed_headers([secret], "evt_1", int(NOW.timestamp()), body)
            assert client.post(PROBE_PATH, content=body, headers=headers).status_code == status
        assert client.post(PROBE_PATH, content=b"x" * 70_000).status_code == 413
    assert (probe.lag(clock.now()).state, probe.lag(clock.now()).received) == ("ok", 1)


def test_the_probe_makes_itself_known_with_keys_that_nobody_keeps_and_can_take_it_back() -> None:
    """Department by digest, agency by sealed key; each start has new ones; off means gone."""
    kafka, clock = FakeKafka(), HandClock()
    kafka.admin().ensure_topics(TOPICS.base_specs([]))
    probes = [prober(kafka, Probe(Patience(5.0, 2.0, 60.0), NOW), clock) for _ in range(2)]
    for one in probes:
        one._announce()
    told = kafka.logs[Partition(TOPICS.control_subscriptions, 0)]
    assert [record.key for record in told[:2]] == [b"agency/hongyan-probe", b"subscription/hongyan-probe"]
    sealed = [orjson.loads(record.value or b"")["keys"][0]["sealed"] for record in told[::2]]
    sealer = Sealer(probes[0]._settings.security)
    assert [sealer.open(one) for one in sealed] == [one._secret for one in probes]
    assert probes[0]._secret != probes[1]._secret
    assert not any(one._key.encode() in (r.value or b"") for one in probes for log in kafka.logs.values() for r in log)
    follower, stop = ControlFollower(kafka, [TOPICS.control_subscriptions], "t"), threading.Event()
    follower.start(stop)
    withdraw(kafka, TOPICS, follower, stop)
    stop.set()
    assert [(record.key, record.value) for record in told[-2:]] == [
        (b"agency/hongyan-probe", None),
        (b"subscription/hongyan-probe", None),
    ]


def test_nobody_can_take_the_probes_place_or_its_events() -> None:
    """Its id is reserved, and no grant can name its type."""
    with pytest.raises(InvalidError, match="自检"):
        AgencyDesk.__new__(AgencyDesk).add(AgencyBody(id=PROBE_AGENCY, name="n", sink="http://10.0.0.1/"))
    (problem,) = content_problems(load_contracts(), ["cn.gov.sc.probe.sent"], [], None)
    assert problem.pointer == "/types/0"

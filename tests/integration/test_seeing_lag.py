"""Each kind of lag and failure, provoked for real on one installation and read back within five seconds.

From the monitor's metrics, from the snapshot that the portal keeps, and from ``hongyan lag``: all three of them.
"""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from hongyan import app
from producers.publishing import Prepared
from schemas.contracts import load_contracts
from schemas.topics import EVENT_PARTITIONS, PROBE_AGENCY, PROBE_DOMAIN
from services.delivery.lag import AgencyLag, GroupLag, Snapshot
from services.portal.watching import Watch, from_monitor
from services.runtime.clock import SystemClock
from services.runtime.embedded.ports import free_port
from services.runtime.kafka.port import Admin, Committed, Kafka, Partition
from services.runtime.settings import (
    DeliverySettings,
    KafkaSettings,
    MonitorSettings,
    SecuritySettings,
    Settings,
    as_environment,
    with_environment,
)
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import OwnTopics, open_folder
from tests.events import ACCEPTED, COMPLETED, ISSUED, TestEvents, read_all
from tests.processes import Processes, Running
from tests.pulling import Puller
from tests.scripted_receiver import Answer, Request, ScriptedReceiver

pytestmark = pytest.mark.servers

SEEN_S = 5.0
"""Within so many seconds whatever happens is to be seen."""
ELSEWHERE = "127.0.0.2"
"""Where agencies' receivers are; the monitor's own is at 127.0.0.1, which no agency may name."""
SLOW_S = 0.4
PULL_KEY = "hya_puller"
PAUSE = threading.Event()
Check = Callable[[Snapshot], bool]


@dataclass
class Stack:
    """Gateway, router, pusher, feeds and monitor on the run's Kafka, with agencies that fare differently."""

    settings: Settings
    topics: OwnTopics
    kafka: Kafka
    processes: Processes
    configuration: Configuration
    events: TestEvents
    running: dict[str, Running]
    well: ScriptedReceiver
    watch: Watch

    def snapshot(self) -> Snapshot | None:
        """Return the monitor's snapshot, None before the first."""
        with suppress(OSError), urllib.request.urlopen(f"{self.running['monitor'].url}/v1/snapshot", timeout=5) as page:
            return Snapshot.from_json(json.load(page))
        return None

    def figures(self) -> dict[str, float]:
        """Return the monitor's metrics by name and labels."""
        with urllib.request.urlopen(f"{self.running['monitor'].url}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    def lag(self) -> Snapshot:
        """Return what ``hongyan lag --json`` says."""
        done = CliRunner().invoke(app, ["lag", "--json"], env=as_environment(self.settings))
        assert (done.exit_code, done.stderr) == (0, ""), "it asked the monitor"
        return Snapshot.from_json(json.loads(done.stdout))

    def read_back(self, what: str, check: Check, figure: str, *, within_s: float = SEEN_S, gone: bool = False) -> None:
        """Wait until the metrics, the command and the portal's own look tell it, all of them at once."""

        def told() -> bool:
            portal = self.watch.seen.snapshot
            metric = bool(self.figures().get(figure)) != gone
            return metric and portal is not None and check(portal) and check(self.lag())

        eventually(told, within_s, what)


@pytest.fixture(scope="module")
def stack(kafka: Kafka, admin: Admin, kafka_address: str, registry_url: str) -> Iterator[Stack]:
    """Start everything once for this module; the probe goes every half a second."""
    topics = OwnTopics(admin)
    topics.ensure_base(*load_contracts().domains())
    with open_folder() as folder, _settled(folder, kafka_address, registry_url, topics) as settings:
        processes, well = Processes(folder), ScriptedReceiver(host=ELSEWHERE)
        with (
            closing(Configuration(kafka, topics, settings)) as configuration,
            closing(TestEvents(kafka, topics, settings)) as events,
        ):
            topics.ensure_agency("well")
            configuration.agency("well", well.url)
            configuration.subscription("s-well", "well", [ISSUED])
            running = {
                name: processes.start(name, settings, port=port)
                for name, port in (
                    ("gateway", int(settings.gateway.url.rpartition(":")[2])),
                    ("router", None),
                    ("pusher", None),
                    ("feeds", None),
                    ("monitor", int(settings.monitor.url.rpartition(":")[2])),
                )
            }
            watch, stop = Watch(from_monitor(settings.monitor.url), SystemClock()), threading.Event()
            threading.Thread(target=watch.run, args=(stop,), daemon=True).start()
            found = Stack(settings, topics, kafka, processes, configuration, events, running, well, watch)
            eventually(lambda: probe_of(found) == "ok", 30, "the probe comes through")
            yield found
            stop.set()
            processes.end()
        well.close()
    topics.remove()


@contextmanager
def _settled(folder: Path, kafka_address: str, registry_url: str, topics: OwnTopics) -> Iterator[Settings]:
    settings = Settings(data_dir=folder)
    settings.kafka = KafkaSettings(bootstrap_servers=kafka_address, topic_prefix=topics.prefix)
    settings.registry.url = registry_url
    settings.delivery = DeliverySettings(
        allowed_networks=[f"{ELSEWHERE}/32"], retry_base_s=0.05, retry_cap_s=0.5, timeout_s=30.0
    )
    settings.security = SecuritySettings(
        master_key=SecretStr(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()), admin_key=SecretStr("k")
    )
    settings.gateway.url = f"http://127.0.0.1:{free_port()}"
    settings.monitor = MonitorSettings(
        url=f"http://127.0.0.1:{free_port()}", period_s=0.5, probe_every_s=0.5, probe_late_s=1.0, probe_lost_s=30.0
    )
    yield settings


def probe_of(stack: Stack) -> str:
    """Return the probe's state."""
    found = stack.snapshot()
    return found.probe.state if found else "none"


def agency(name: str, *states: str) -> Check:
    """Return a check that an agency is in one of these states."""
    return lambda found: (one := found.agency(name)) is not None and one.state in states


def lag_of(stack: Stack, name: str) -> AgencyLag:
    """Return an agency's lag of the moment."""
    found = stack.snapshot()
    one = found.agency(name) if found else None
    assert one is not None
    return one


def group_of(found: Snapshot, group: str, topic: str) -> GroupLag | None:
    """Return a group's lag on a topic."""
    return next((one for one in found.groups if (one.group, one.topic) == (group, topic)), None)


def stamped(event: Prepared, at: datetime) -> Prepared:
    """Return an event as a publisher stamps it whose clock says so."""
    headers = [(n, at.isoformat().encode() if n == "ce_recordedtime" else text) for n, text in event.headers]
    return replace(event, headers=headers)


def test_a_dead_receivers_line_is_held_with_its_reason_and_age(stack: Stack) -> None:
    """Its backlog grows older from the publication, and the other agency's does not."""
    stack.topics.ensure_agency("dead")
    stack.configuration.agency("dead", f"http://{ELSEWHERE}:{free_port()}/")
    stack.configuration.subscription("s-dead", "dead", [ISSUED])
    eventually(lambda: agency("dead", "ok")(stack.snapshot() or stack.lag()), 10, "the agency is known")
    stack.events.publish(*(stack.events.certificate(f"dead-{n}", n) for n in range(5)))
    stack.read_back("a dead receiver", agency("dead", "held"), 'hongyan_agency_state{agency="dead",state="held"}')
    lag = lag_of(stack, "dead")
    assert (lag.backlog, lag.backlog_exact, lag.held_decided) == (5, True, False)
    assert lag.held_since is not None
    assert "Connect" in (lag.held_why or "")
    aged = lag.oldest_age_s or 0.0
    eventually(lambda: (lag_of(stack, "dead").oldest_age_s or 0.0) > aged, 5, "it grows older")
    assert lag_of(stack, "well").backlog == 0
    assert lag_of(stack, "well").latencies.delivered == 5


def test_a_slow_receiver_is_told_from_a_dead_one(stack: Stack) -> None:
    """It takes events, and more come than it takes; once they stop coming, it is catching up."""

    def slowly(_request: Request, _earlier: int) -> Answer:
        PAUSE.wait(SLOW_S)
        return Answer()

    receiver = ScriptedReceiver(slowly, host=ELSEWHERE)
    stack.topics.ensure_agency("slow")
    stack.configuration.agency("slow", receiver.url, delivery={"concurrency": 1, "window": 2})
    stack.configuration.subscription("s-slow", "slow", [ACCEPTED])
    stop = threading.Event()

    def publish() -> None:
        number = 0
        while not stop.wait(0.1):
            stack.events.publish(*(stack.events.case(f"slow-{number + n}", number + n) for n in range(2)))
            number += 2

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        figure = 'hongyan_agency_state{agency="slow",state="slow"}'
        stack.read_back("a slow receiver", agency("slow", "slow"), figure)
    finally:
        stop.set()
        thread.join(10)
    assert (lag_of(stack, "slow").latencies.p50_ms or 0.0) > SLOW_S * 1000
    eventually(lambda: lag_of(stack, "slow").state == "catching-up", 10, "nothing more comes")
    receiver.script = lambda _request, _earlier: Answer()
    eventually(lambda: lag_of(stack, "slow").state == "ok", 20, "it has caught up")
    receiver.close()


def test_a_stopped_router_is_seen_though_nobody_publishes(stack: Stack) -> None:
    """The probe is late at once, and its group stands still: it is there, unlike the ledger's, which nobody started."""
    topic = stack.topics.events(PROBE_DOMAIN)

    def router(*states: str) -> Check:
        return lambda found: (one := group_of(found, "router", topic)) is not None and one.state in states

    stack.running["router"].process.send_signal(signal.SIGSTOP)
    try:
        figure = f'hongyan_group_state{{group="router",state="stalled",topic="{topic}"}}'
        stack.read_back("a router that stands", router("stalled"), figure)
        found = stack.lag()
        ledger = group_of(found, "ledger", stack.topics.events("health"))
        assert ledger is not None
        assert (ledger.state, ledger.members) == ("stopped", 0)
        assert found.probe.state == "late"
        assert stack.figures()['hongyan_probe_state{state="late"}'] == 1
        lag = group_of(found, "router", topic)
        assert lag is not None
        assert (lag.lag > 0, lag.delay_s > 0) == (True, True)
    finally:
        stack.running["router"].process.send_signal(signal.SIGCONT)
    figure = f'hongyan_group_state{{group="router",state="ok",topic="{topic}"}}'
    stack.read_back("a router that goes on", router("ok"), figure, within_s=30)
    eventually(lambda: probe_of(stack) == "ok", 10, "the probe comes through again")


def test_a_frozen_pusher_stands_still_though_its_group_has_it(stack: Stack) -> None:
    """It commits nothing of what waits: its own row says so, with for how long, and not its agencies' alone."""

    def pusher(*states: str) -> Check:
        return lambda found: (one := group_of(found, "pusher", "feed.*")) is not None and one.state in states

    stack.running["pusher"].process.send_signal(signal.SIGSTOP)
    try:
        stack.events.publish(stack.events.certificate("frozen", 990))
        figure = 'hongyan_group_state{group="pusher",state="stalled",topic="feed.*"}'
        stack.read_back("a pusher that stands", pusher("stalled"), figure)
        lag = group_of(stack.lag(), "pusher", "feed.*")
        assert lag is not None
        assert (lag.lag > 0, lag.delay_s > 0) == (True, True)
    finally:
        stack.running["pusher"].process.send_signal(signal.SIGCONT)
    figure = 'hongyan_group_state{group="pusher",state="ok",topic="feed.*"}'
    stack.read_back("a pusher that goes on", pusher("ok"), figure, within_s=30)
    eventually(lambda: probe_of(stack) == "ok", 10, "the probe comes through again")


def test_a_receiver_that_refuses_everything_does_not_read_as_well(stack: Stack) -> None:
    """Nothing waits in its feed, and all that it was given is parked; it is well again once it takes an event."""
    receiver = ScriptedReceiver(lambda _request, _earlier: Answer(401), host=ELSEWHERE)
    stack.topics.ensure_agency("refuser")
    stack.configuration.agency("refuser", receiver.url)
    stack.configuration.subscription("s-refuser", "refuser", [COMPLETED])
    eventually(lambda: agency("refuser", "ok")(stack.lag()), 10, "the agency is known")
    stack.events.publish(*(stack.events.case(f"refused-{n}", n, COMPLETED) for n in range(3)))
    figure = 'hongyan_agency_state{agency="refuser",state="parked"}'

    def refused(found: Snapshot) -> bool:
        one = found.agency("refuser")
        return one is not None and (one.state, one.parked, one.backlog, one.parked_why) == ("parked", 3, 0, "HTTP 401")

    stack.read_back("a receiver that refuses", refused, figure)
    receiver.script = lambda _request, _earlier: Answer()
    stack.events.publish(stack.events.case("taken", 9, COMPLETED))
    stack.read_back("it takes events again", agency("refuser", "ok"), figure, gone=True)
    assert lag_of(stack, "refuser").parked == 3
    receiver.close()


def test_a_group_that_was_put_back_is_rewound(stack: Stack) -> None:
    """It reads again what it had read; nobody of it is there, and that is told once the window has passed."""
    topic = stack.topics.events("window")
    place = Partition(topic, 0)
    stack.events.publish(*(stack.events.case(f"again-{n}", n, COMPLETED) for n in range(30)))
    with closing(stack.kafka.consumer(None)) as reader, closing(stack.kafka.admin()) as admin:
        places = [Partition(topic, n) for n in range(EVENT_PARTITIONS)]
        ends = reader.end_offsets(places)
        group = stack.topics.group("statistics")
        admin.set_group_offsets(group, {p: Committed(end) for p, end in ends.items()})

        def statistics(*states: str) -> Check:
            return lambda found: (one := group_of(found, "statistics", topic)) is not None and one.state in states

        figure = f'hongyan_group_state{{group="statistics",state="ok",topic="{topic}"}}'
        stack.read_back("a group at the end", statistics("ok"), figure)
        admin.set_group_offsets(group, {place: Committed(0)})
        figure = f'hongyan_group_state{{group="statistics",state="rewound",topic="{topic}"}}'
        stack.read_back("a group put back", statistics("rewound"), figure)
        one = group_of(stack.lag(), "statistics", topic)
        assert one is not None
        assert (one.lag, one.partitions, one.members) == (ends[place], 1, 0)


def test_a_deleted_topic_disappears(stack: Stack) -> None:
    """The agency's figures go with its feed; everybody else's stay."""
    stack.topics.ensure_agency("gone")
    stack.configuration.agency("gone", stack.well.url)
    figure = 'hongyan_backlog_events{agency="gone"}'
    eventually(lambda: figure in stack.figures(), 10, "the agency is measured")
    with closing(stack.kafka.admin()) as admin:
        admin.delete_topics([stack.topics.feed("gone")])
    stack.read_back("a deleted feed", lambda found: found.agency("gone") is None, figure, gone=True)
    assert agency("well", "ok")(stack.lag())
    # It looks twice before it believes so: an agency that is removed in between is looked at no more.
    eventually(lambda: "feed_deleted" in stack.running["pusher"].log.read_text(), 20, "the pusher knows")
    stack.configuration.remove_agency("gone")
    stack.events.publish(stack.events.certificate("after-the-deletion", 950))
    eventually(lambda: "after-the-deletion" in stack.well.accepted, 30, "the pusher goes on")
    eventually(lambda: probe_of(stack) == "ok", 10, "the probe comes through")


@pytest.mark.parametrize(("hours", "direction"), [(2, "ahead"), (-2, "behind")])
def test_a_publishers_wrong_clock_is_named_and_hides_nothing(stack: Stack, hours: int, direction: str) -> None:
    """Whether hours ahead or behind; what waits for the dead receiver is aged from when it came, if not from before."""
    source = f"urn:test:{direction}"
    event = stack.events.certificate(f"clock-{direction}", 900 + hours, source=source)
    stack.events.publish(stamped(event, datetime.now(UTC) + timedelta(hours=hours)))

    def named(found: Snapshot) -> bool:
        return any(
            (one.source, one.direction) == (source, direction) and abs(one.seconds - 7200) < 60 for one in found.clocks
        )

    figure = f'hongyan_publisher_clock_skew_seconds{{direction="{direction}",source="{source}"}}'
    stack.read_back("a wrong clock", named, figure)
    assert (lag_of(stack, "dead").oldest_age_s or 0.0) > 0.0


def test_from_issue_to_acknowledgement_is_told_by_channel(stack: Stack) -> None:
    """An agency that pulls, then streams, acknowledges certificates issued three hours ago."""
    stack.topics.ensure_agency("puller")
    stack.configuration.agency("puller", "http://127.0.0.1:1/")
    stack.configuration.subscription("s-puller", "puller", [ISSUED])
    stack.configuration.access("puller", PULL_KEY)
    puller = Puller(stack.running["feeds"].url, "puller", PULL_KEY)
    issued = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
    eventually(lambda: agency("puller", "ok")(stack.lag()), 10, "the agency is known")
    stack.events.publish(stack.events.certificate("pulled", 1, time=issued))
    # Until the pusher has let the feed go it is refused, which is no page.
    first = eventually(lambda: (page := puller.get(wait=2)).status == 200 and page.json and page, 30, "it comes")
    assert lag_of(stack, "puller").channel == "pull"
    assert puller.ack({"up_to": first.after}).status == 200
    with puller.stream() as lines:
        assert next(lines).startswith("retry")
        stack.events.publish(stack.events.certificate("streamed", 2, time=issued))
        cursor = next(int(line.removeprefix("id: ")) for line in lines if line.startswith("id: "))
        assert puller.ack({"up_to": cursor}).status == 200

    def acknowledged(found: Snapshot) -> bool:
        one = found.agency("puller")
        took = {each.channel: each.latencies for each in one.channels} if one else {}
        return {name: (each.delivered, round((each.issue_p50_ms or 0) / 3_600_000)) for name, each in took.items()} == {
            "pull": (1, 3),
            "sse": (1, 3),
        }

    figure = 'hongyan_acknowledgement_latency_seconds{agency="puller",channel="sse",quantile="0.5"}'
    stack.read_back("acknowledgements", acknowledged, figure)
    assert (lag_of(stack, "puller").deadline.met, lag_of(stack, "puller").deadline.share) == (2, 1.0)


def test_an_agency_may_not_name_the_probes_own_receiver(stack: Stack) -> None:
    """That the probe may go to this machine opens it for nobody else."""
    stack.topics.ensure_agency("spy")
    stack.configuration.agency("spy", f"{stack.settings.monitor.url}/v1/probe")
    stack.configuration.subscription("s-spy", "spy", [COMPLETED])
    eventually(lambda: agency("spy", "ok")(stack.lag()), 10, "the agency is known")
    stack.events.publish(stack.events.case("spied", 1, COMPLETED))
    stack.read_back("outside", agency("spy", "held"), 'hongyan_agency_state{agency="spy",state="held"}')
    assert "outside the allowed networks" in (lag_of(stack, "spy").held_why or "")


def test_the_probe_leaves_nothing_behind(stack: Stack) -> None:
    """No receipt, no ledger entry, no agency in anybody's list; and what it costs is in its own topics."""
    assert probe_of(stack) == "ok"
    receipts = read_all(stack.kafka, stack.topics.receipts, 6)
    routed = read_all(stack.kafka, stack.topics.ledger_routed, EVENT_PARTITIONS)
    assert receipts
    assert routed
    assert not [one for one in (*receipts, *routed) if b"probe" in (one.value or b"")]
    assert PROBE_AGENCY not in {one.agency for one in stack.lag().agencies}
    assert len(read_all(stack.kafka, stack.topics.feed(PROBE_AGENCY), 1)) > 5


def test_top_shows_the_same_live_until_q_and_once_into_a_pipe(stack: Stack) -> None:
    """At a terminal without colours too."""
    command = [sys.executable, "-m", "hongyan", "top", "--period", "0.3"]
    environment = with_environment(as_environment(stack.settings)) | {"NO_COLOR": "1", "COLUMNS": "130", "LINES": "40"}
    piped = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout
    assert ("dead" in piped, "! 保持" in piped, "\x1b" in piped) == (True, True, False)
    shown = at_a_terminal(command, environment | {"TERM": "xterm"}, lambda text: text.count("端到端探测") >= 3)
    assert "dead" in shown
    assert not re.search(r"\x1b\[3[0-7]m", shown)


def at_a_terminal(command: list[str], environment: dict[str, str], enough: Callable[[str], bool]) -> str:
    """Run a command at a pseudo-terminal until enough is shown, press q, see it end, and return what was shown."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(command[0], command, environment)
    shown, deadline, pressed = b"", time.monotonic() + 30, False
    try:
        while time.monotonic() < deadline:
            try:
                shown += os.read(terminal, 65536)
            except OSError:
                break
            if not pressed and enough(shown.decode(errors="replace")):
                os.write(terminal, b"q")
                pressed = True
        _, status = os.waitpid(child, 0)
    finally:
        os.close(terminal)
    assert (pressed, os.waitstatus_to_exitcode(status)) == (True, 0)
    return shown.decode(errors="replace")


def test_a_gateway_that_is_gone_is_told_by_the_probe_with_why(stack: Stack) -> None:
    """And that it is back."""
    gateway = stack.running["gateway"]
    gateway.kill()
    figure = 'hongyan_probe_state{state="refused"}'
    stack.read_back("no gateway", lambda found: found.probe.state == "refused", figure)
    assert "can't be reached" in stack.lag().probe.detail
    stack.running["gateway"] = stack.processes.start("gateway", stack.settings, port=gateway.port)
    figure = 'hongyan_probe_state{state="ok"}'
    stack.read_back("a gateway again", lambda found: found.probe.state == "ok", figure)

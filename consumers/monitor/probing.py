"""Sends the probe and receives it: a department and an agency of the system's own, with keys that nobody keeps.

At each start the monitor makes new keys and writes department, grant and agency onto the control topics, where gateway,
router and pusher follow them as they follow all others. PostgreSQL knows nothing of them, and the probe needs it not.
"""

from __future__ import annotations

import http.client
import itertools
import secrets
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
import structlog

from consumers.monitor.probe import Probe
from schemas.contracts import Contracts
from schemas.topics import PROBE_AGENCY, PROBE_SOURCE, Topics
from services.delivery.receiver import PROBE_PATH
from services.delivery.signing import verify
from services.identity.repository import key_digest, new_key
from services.runtime.clock import Clock
from services.runtime.direct import open_direct
from services.runtime.kafka.port import Kafka
from services.runtime.lifecycle import outlast
from services.runtime.settings import Settings
from services.subscriptions.follower import ControlFollower
from services.subscriptions.sealing import Sealer, new_secret

NAME = "鸿雁自检探测 (the system's own probe)"
KEYS = 12
"""So many business keys are used in turn: they fall into different partitions, so that no router is left out."""
SEND_S = 10.0
STARTING_S = 20.0
RETRY_S = 0.3
WAIT_S = 0.5
ANSWER_BYTES = 2000
# The monitor may start anew at any time: its line is never held long.
DELIVERY = {"retry_base_s": 0.2, "retry_cap_s": 1.0, "timeout_s": 5.0, "hold_after": 1000}

log = structlog.get_logger()


class Prober:
    """Sends the probe's events until told to stop, and takes them in again."""

    def __init__(
        self, settings: Settings, kafka: Kafka, topics: Topics, contracts: Contracts, probe: Probe, clock: Clock
    ) -> None:
        self._settings = settings
        self._kafka = kafka
        self._topics = topics
        (self._type,) = contracts.probe_types()
        self._probe = probe
        self._clock = clock
        self._key = new_key()
        self._secret = new_secret()
        self._numbers = itertools.count()

    def run(self, stop: threading.Event) -> None:
        """Make the probe known, then send until ``stop``."""
        outlast("probe", self._announce, stop)
        began = time.monotonic()
        while not stop.is_set():
            sent_at = time.monotonic()
            taken = self._send(count_refusal=sent_at - began > STARTING_S)
            if taken:
                began = -STARTING_S
            wait_s = self._settings.monitor.probe_every_s if taken or sent_at - began > STARTING_S else RETRY_S
            stop.wait(max(0.0, wait_s - (time.monotonic() - sent_at)))

    def take(self, headers: Mapping[str, str], body: bytes, at_s: float) -> None:
        """Take in a delivery; raises ForbiddenError where the signature does not hold, ValueError for what is no event.

        ``at_s`` is when it came. Header names are lower case.
        """
        verify(self._secret, headers, body, at_s)
        event = orjson.loads(body)
        recorded = event.get("recordedtime")
        self._probe.received(str(event.get("id")), at_s, _seconds(recorded) if recorded else None)

    def _announce(self) -> None:
        """Write the probe's own department, grant and agency; what was written before is replaced."""
        admin = self._kafka.admin()
        try:
            admin.ensure_topics(self._topics.probe_specs())
        finally:
            admin.close()
        producer = self._kafka.producer(client_id="probe", acknowledge_timeout_s=SEND_S)
        try:
            for (topic, key), entry in zip(_places(self._topics), self._entries(), strict=True):
                producer.send(topic, key=key.encode(), value=orjson.dumps(entry), partition=0).result(SEND_S)
        finally:
            producer.close()
        log.info("probe_announced", period_s=self._settings.monitor.probe_every_s)

    def _entries(self) -> list[Mapping[str, Any]]:
        """Return agency, grant and department; the key that signs is sealed, of the one that publishes a digest."""
        sealed = Sealer(self._settings.security).seal(self._secret)
        agency = {
            "id": PROBE_AGENCY,
            "name": NAME,
            "division": "000000",
            "sink": self._settings.monitor.url + PROBE_PATH,
            "keys": [{"id": "probe", "sealed": sealed}],
            "delivery": DELIVERY,
        }
        grant = {"id": PROBE_AGENCY, "agency": PROBE_AGENCY, "types": [self._type], "basis": NAME}
        department = {
            "id": PROBE_AGENCY,
            "name": NAME,
            "source": PROBE_SOURCE,
            "types": [self._type],
            "keys": [{"id": "probe", "digest": key_digest(self._key)}],
        }
        return [agency, grant, department]

    def _send(self, *, count_refusal: bool) -> bool:
        """Send one event; tell whether the gateway took it.

        While everything is starting a refusal is no news: the gateway may not run yet, or not have read the key.
        """
        event_id = f"probe-{secrets.token_hex(8)}"
        now = self._clock.now()
        event = {
            "specversion": "1.0",
            "id": event_id,
            "type": self._type,
            "data": {"probe_no": f"probe-{next(self._numbers) % KEYS}", "sent_at": now.isoformat()},
        }
        self._probe.sent(event_id, now.timestamp())
        why = self._post(orjson.dumps(event))
        if why is None:
            self._probe.answered(event_id, self._clock.now().timestamp())
        elif count_refusal:
            self._probe.refused(event_id, why)
        else:
            self._probe.forget(event_id)
        return why is None

    def _post(self, body: bytes) -> str | None:
        """Give an event to the gateway; return why it was not taken, None when it was."""
        url = f"{self._settings.gateway.url}/v1/events"
        headers = {"Content-Type": "application/cloudevents+json", "Authorization": f"Bearer {self._key}"}
        request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310  (a setting names it)
        try:
            with open_direct(request, SEND_S) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return f"HTTP {error.code}: {error.read(ANSWER_BYTES).decode(errors='replace')[:200]}"
        except (OSError, http.client.HTTPException) as error:
            return f"网关不可达 (the gateway can't be reached): {url}: {error}"
        return None


def _seconds(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def withdraw(kafka: Kafka, topics: Topics, follower: ControlFollower, stop: threading.Event) -> None:
    """Take back what a monitor with a probe announced, so that nothing is sent to where nobody listens any more."""
    while not follower.caught_up(WAIT_S):
        if stop.is_set():
            return
    if PROBE_AGENCY not in follower.view.agencies:
        return
    producer = kafka.producer(client_id="probe", acknowledge_timeout_s=SEND_S)
    try:
        for topic, key in _places(topics):
            producer.send(topic, key=key.encode(), value=None, partition=0).result(SEND_S)
    finally:
        producer.close()
    log.info("probe_withdrawn")


def _places(topics: Topics) -> list[tuple[str, str]]:
    """Return where the three records stand."""
    return [
        (topics.control_subscriptions, f"agency/{PROBE_AGENCY}"),
        (topics.control_subscriptions, f"subscription/{PROBE_AGENCY}"),
        (topics.control_identities, f"department/{PROBE_AGENCY}"),
    ]

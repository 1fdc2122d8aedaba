"""Tells of grants in force that name what a later schema has taken away: one alert for each, until it is mended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from schemas.contracts import Contracts
from schemas.topics import Topics
from services.portal.alerts import NEWEST, Alerts
from services.portal.contents import content_problems
from services.runtime.alerts import Alert, AlertKind
from services.runtime.clock import Clock
from services.runtime.kafka.port import Kafka, Producer
from services.runtime.lifecycle import outlast

IN_FORCE = frozenset({"approved", "active", "suspended"})
LOOK_S = 60.0
PAUSE_S = 0.5
WAIT_S = 10.0


class ImpairedGrants:
    """Compares the grants with the contracts of this installation: at the start, after each decision, and as time
    ends some of them. ``rows`` gives all grants in the state in which they stand.
    """

    def __init__(
        self,
        rows: Callable[[], Sequence[Mapping[str, Any]]],
        contracts: Contracts,
        kafka: Kafka,
        topics: Topics,
        clock: Clock,
    ) -> None:
        self.changed = threading.Event()
        self._rows = rows
        self._contracts = contracts
        self._kafka = kafka
        self._topics = topics
        self._clock = clock
        self._found: dict[tuple[str, int], str] = {}

    def run(self, stop: threading.Event) -> None:
        """Look until ``stop``; whatever is away is waited for."""
        outlast("impaired_grants", lambda: self._session(stop), stop)

    def _session(self, stop: threading.Event) -> None:
        producer = self._kafka.producer(client_id="impaired-grants", acknowledge_timeout_s=WAIT_S)
        try:
            told = self.told()
            while not stop.is_set():
                self.changed.clear()
                self.look(producer, told)
                deadline = self._clock.monotonic() + LOOK_S
                while not stop.is_set() and self._clock.monotonic() < deadline and not self.changed.wait(PAUSE_S):
                    pass
        finally:
            producer.close()

    def told(self) -> dict[str, Alert]:
        """Return the alerts that are open, by the grant."""
        newest = Alerts(self._kafka, self._topics, self._clock).list(everything=False, agency=None, limit=NEWEST)
        return {one.labels["subscription"]: one for one in newest if one.kind == AlertKind.GRANT_IMPAIRED}

    def look(self, producer: Producer, told: dict[str, Alert]) -> None:
        """Open and close alerts, and keep ``told``; raises UnavailableError."""
        rows = [row for row in self._rows() if row["state"] in IN_FORCE]
        impaired = {row["id"]: (row["agency"], detail) for row in rows if (detail := self._problems(row))}
        for name in sorted(impaired.keys() - told.keys()):
            agency, detail = impaired[name]
            told[name] = self._tell(producer, name, agency, detail, closed=False)
        for name in sorted(told.keys() - impaired.keys()):
            self._tell(producer, name, told.pop(name).subject, "已更正或已结束 (mended, or ended)", closed=True)

    def _problems(self, row: Mapping[str, Any]) -> str:
        """Return what is wrong with a grant; a version is looked at once."""
        key = row["id"], row["version"]
        if key not in self._found:
            problems = content_problems(self._contracts, row["types"], row["filters"], row["fields"])
            self._found[key] = "；".join(f"{one.pointer}: {one.detail}" for one in problems)
        return self._found[key]

    def _tell(self, producer: Producer, name: str, agency: str, detail: str, *, closed: bool) -> Alert:
        said = f"{name}: {detail}"[:2000]
        alert = Alert(
            AlertKind.GRANT_IMPAIRED,
            agency,
            self._clock.now().isoformat(),
            said,
            "closed" if closed else "open",
            {"subscription": name},
        )
        producer.send(self._topics.alerts, key=alert.key.encode(), value=alert.to_bytes(), partition=0).result(WAIT_S)
        return alert

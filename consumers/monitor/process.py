"""监视：投递延迟与端到端探测，JSON 与 Prometheus (delivery lag and the probe, for people and for Prometheus)。"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import structlog
from fastapi import FastAPI

from consumers.monitor.api import add_probe, add_snapshot
from consumers.monitor.exposition import LagCollector
from consumers.monitor.meter import LagMeter, known, suspended
from consumers.monitor.probe import Patience, Probe
from consumers.monitor.probing import Prober, withdraw
from consumers.monitor.watching import Watching
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.delivery.lag import ProbeLag
from services.runtime import logging
from services.runtime.clock import Clock, SystemClock
from services.runtime.errors import UnavailableError
from services.runtime.exposition import new_registry
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Kafka
from services.runtime.lifecycle import outlast, stop_event
from services.runtime.probes import Health
from services.runtime.settings import Settings
from services.runtime.web import new_app, serve
from services.subscriptions.follower import ControlFollower

NO_KEY = "没有 security.master_key，探测未启用 (no master key: the probe is off)"

log = structlog.get_logger()


def run(settings: Settings, *, port: int) -> None:
    """Measure until SIGTERM."""
    logging.configure(settings.log, process="monitor")
    monitor = _Monitor(settings, connect(settings.kafka), stop_event())
    registry = new_registry()
    registry.register(LagCollector(lambda: monitor.watching.fresh))
    app = new_app("Hongyan monitor", monitor.health, registry)
    add_snapshot(app, monitor.watching)
    monitor.start(app)
    serve(app, settings.http.host, port, monitor.stop)


class _Monitor:
    """What measures, and what sends the probe."""

    def __init__(self, settings: Settings, kafka: Kafka, stop: threading.Event) -> None:
        self._settings, wanted = settings, settings.monitor
        self._clock: Clock = SystemClock()
        self._contracts = load_contracts()
        self._kafka, self._topics = kafka, Topics(settings.kafka.topic_prefix)
        self._follower = ControlFollower(self._kafka, [self._topics.control_subscriptions], "monitor")
        probes = wanted.probe_every_s > 0 and settings.security.master_key is not None
        patience = Patience(wanted.probe_every_s, wanted.probe_late_s, wanted.probe_lost_s)
        self._probe = Probe(patience, self._clock.now()) if probes else None
        self._off = ProbeLag("off", self._clock.now().isoformat(), NO_KEY if wanted.probe_every_s else "")
        self.watching = Watching(self._clock, self._probe_now, wanted.period_s)
        self.stop = stop

    def start(self, app: FastAPI) -> None:
        """Begin to measure and to probe, each in a thread of its own."""
        self._follower.start(self.stop)
        _for_life("measure", lambda: outlast("monitor", self._session, self.stop))
        if self._probe is None:
            log.info("probe_off", why=self._off.detail)
            _for_life("probe", lambda: outlast("probe", self._withdraw, self.stop))
            return
        prober = Prober(self._settings, self._kafka, self._topics, self._contracts, self._probe, self._clock)
        add_probe(app, prober, self._clock)
        _for_life("probe", lambda: prober.run(self.stop))

    def health(self) -> Health:
        """Tell whether figures are measured now."""
        why = self.watching.away_why()
        return Health(self.watching.fresh is not None, {"away": why} if why else {})

    def _session(self) -> None:
        """Measure with clients of one's own; after an outage the windows begin anew: a gap tells nothing."""
        try:
            meter = LagMeter(
                self._kafka, self._topics, self._contracts, self._clock, self._settings.monitor.objective_s
            )
        except UnavailableError as error:
            self.watching.note_away(error)
            raise
        try:
            self.watching.run(
                lambda probe: meter.measure(known(self._follower), probe, suspended(self._follower.view)), self.stop
            )
        finally:
            meter.close()

    def _probe_now(self) -> ProbeLag:
        return self._probe.lag(self._clock.now()) if self._probe is not None else self._off

    def _withdraw(self) -> None:
        withdraw(self._kafka, self._topics, self._follower, self.stop)


def _for_life(name: str, work: Callable[[], object]) -> None:
    """Work in a thread that ends the process where it fails: a page of old figures is worse than none."""

    def worked() -> None:
        done = False
        try:
            work()
            done = True
        finally:
            if not done:
                os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=worked, name=name, daemon=True).start()

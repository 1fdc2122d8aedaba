"""监视：投递延迟与端到端探测，JSON 与 Prometheus (delivery lag and the probe, for people and for Prometheus)。"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import structlog

from consumers.monitor.api import add_probe, add_snapshot
from consumers.monitor.exposition import LagCollector
from consumers.monitor.meter import LagMeter, measured
from consumers.monitor.probe import Patience, Probe
from consumers.monitor.probing import Prober, withdraw
from consumers.monitor.watching import Watching
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.delivery.lag import ProbeLag
from services.runtime import logging
from services.runtime.clock import SystemClock
from services.runtime.errors import UnavailableError
from services.runtime.exposition import new_registry
from services.runtime.kafka.client import connect
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
    stop, clock, contracts, wanted = stop_event(), SystemClock(), load_contracts(), settings.monitor
    kafka, topics = connect(settings.kafka), Topics(settings.kafka.topic_prefix)
    follower = ControlFollower(kafka, [topics.control_subscriptions], "monitor")
    patience = Patience(wanted.probe_every_s, wanted.probe_late_s, wanted.probe_lost_s)
    probe = Probe(patience, clock.now()) if _probes(settings) else None
    off = ProbeLag("off", clock.now().isoformat(), NO_KEY if wanted.probe_every_s else "")
    watching = Watching(clock, lambda: probe.lag(clock.now()) if probe else off, wanted.period_s)

    def session() -> None:
        """Measure with clients of one's own; after an outage the windows begin anew: a gap tells nothing."""
        try:
            meter = LagMeter(kafka, topics, contracts, clock, wanted.objective_s)
        except UnavailableError as error:
            watching.note_away(error)
            raise
        try:
            watching.run(lambda shown: meter.measure(measured(follower.view), shown), stop)
        finally:
            meter.close()

    registry = new_registry()
    registry.register(LagCollector(lambda: watching.fresh))
    app = new_app("Hongyan monitor", lambda: _health(watching), registry)
    add_snapshot(app, watching)
    follower.start(stop)
    _for_life("measure", lambda: outlast("monitor", session, stop))
    if probe is not None:
        prober = Prober(settings, kafka, topics, contracts, probe, clock)
        add_probe(app, prober, clock)
        _for_life("probe", lambda: prober.run(stop))
    else:
        log.info("probe_off", why=off.detail)
        _for_life("probe", lambda: outlast("probe", lambda: withdraw(kafka, topics, follower, stop), stop))
    serve(app, settings.http.host, port, stop)


def _probes(settings: Settings) -> bool:
    return settings.monitor.probe_every_s > 0 and settings.security.master_key is not None


def _health(watching: Watching) -> Health:
    why = watching.away_why()
    return Health(watching.fresh is not None, {"away": why} if why else {})


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

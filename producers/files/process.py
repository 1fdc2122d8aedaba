"""投放目录：把放进 in/ 的文件导入，再移到 done/ 或 rejected/ (the watched drop folder)。"""

from __future__ import annotations

import signal
import threading

from producers.client import Publisher
from producers.files.conflicts import Conflicts, Placed, conflicts
from producers.files.drop import Drop, DropMetrics, DropRules
from producers.files.folder import DropFolder
from schemas.contracts import load_contracts
from schemas.topics import Topics
from schemas.validation import ensure_sound
from services.runtime import logging
from services.runtime.clock import SystemClock
from services.runtime.errors import HongyanError
from services.runtime.exposition import new_registry
from services.runtime.kafka.client import connect
from services.runtime.lifecycle import stop_event
from services.runtime.probes import Health, ProbeServer
from services.runtime.settings import Settings
from services.runtime.tracing import tracer_of

WELL = {"working", "standby"}


def run(settings: Settings, *, port: int) -> None:
    """Watch the folder until SIGTERM."""
    logging.configure(settings.log, process="drop")
    ours = settings.drop
    if ours.folder is None or not ours.source:
        raise HongyanError(
            "请设置 HONGYAN_DROP__FOLDER 与 HONGYAN_DROP__SOURCE (drop.folder and drop.source are needed)"
        )
    source, contracts = ours.source, ensure_sound(load_contracts()).types
    if ours.type is not None and ours.type not in contracts:
        raise HongyanError(f"HONGYAN_DROP__TYPE: 没有这个事件类型 (unknown type): {ours.type}")
    stop = stop_event()
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # see `being_written`
    counted = new_registry()
    tracer = tracer_of(settings.tracing, "drop", counted)
    kafka, topics = connect(settings.kafka), Topics(settings.kafka.topic_prefix)

    def find(placed: Placed, began_ms: int, wait_s: float, stopped: threading.Event) -> Conflicts | None:
        found = conflicts(kafka, topics, source, [placed], began_ms, wait_s, stopped)
        return None if found is None else found[0]

    drop = Drop(
        DropFolder(ours.folder),
        contracts,
        lambda: Publisher(settings, source, bulk=True, tracer=tracer),
        find,
        DropRules(ours.type, ours.settle_s, ours.poll_s),
        DropMetrics(counted),
        SystemClock(),
    )

    def health() -> Health:
        state, detail = drop.condition()
        return Health(state in WELL, {"state": state, **detail})

    with ProbeServer(settings.http.host, port, health, counted):
        drop.run(stop)
    tracer.close()

"""推送：签名的 webhook，按单位独立排队 (pushes signed webhooks, each agency on a line of its own)。"""

from __future__ import annotations

import asyncio
import gc
import threading

import uvloop

from consumers.pusher.engine import Pusher
from consumers.pusher.metrics import PusherMetrics
from consumers.pusher.office import PushOffice
from consumers.pusher.outbox import Outbox
from consumers.pusher.receivers import Receivers
from consumers.pusher.unwritten import start_recalling
from schemas.codec import Codec
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.delivery.network import parse_networks
from services.delivery.receiver import PROBE_PATH
from services.delivery.sender import Sender
from services.runtime import logging
from services.runtime.clock import SystemClock
from services.runtime.exposition import new_registry
from services.runtime.kafka.client import connect
from services.runtime.kafka.contact import Contact
from services.runtime.lifecycle import stop_event
from services.runtime.probes import Health, ProbeServer
from services.runtime.settings import Settings
from services.runtime.tracing import tracer_of
from services.subscriptions.follower import ControlFollower
from services.subscriptions.sealing import Sealer

WAIT_S = 0.2
COLLECT_AFTER = 20_000
"""How many objects more there are before rings among them are looked for: a few hundred events' worth."""
ANYWHERE = ["0.0.0.0/0", "::/0"]
"""The probe goes where the setting `monitor.url` says, often to this very machine, and nowhere else."""


def run(settings: Settings, *, port: int) -> None:
    """Push until SIGTERM."""
    logging.configure(settings.log, process="pusher")
    stop = stop_event()
    # A delivery is a dozen turns of the loop: on uvloop's it takes a tenth less of the processor's time.
    uvloop.run(_push(settings, port, stop))


async def _push(settings: Settings, port: int, stop: threading.Event) -> None:
    loop = asyncio.get_running_loop()
    kafka, topics, clock = connect(settings.kafka), Topics(settings.kafka.topic_prefix), SystemClock()
    metrics_registry = new_registry()
    metrics, tracer = PusherMetrics(metrics_registry), tracer_of(settings.tracing, "pusher", metrics_registry)
    follower = ControlFollower(kafka, [topics.control_subscriptions], "pusher")
    metrics_registry.register(follower)
    sender = Sender(parse_networks(settings.delivery.allowed_networks))
    probe_sender = Sender(parse_networks(ANYWHERE))
    outbox = Outbox(loop.call_soon_threadsafe)
    codec = Codec(RegistryClient(settings.registry.url, settings.registry.timeout_s))
    office = PushOffice(codec, sender, outbox, topics, clock, metrics, probe_sender, tracer)
    outbox.watch(office.unwritten)
    pusher = Pusher(
        kafka,
        topics,
        Receivers(follower, Sealer(settings.security), settings.delivery, settings.monitor.url + PROBE_PATH),
        office,
        outbox,
        clock,
        metrics,
        loop,
        f"pusher-{settings.router.slot}",
    )
    contact = Contact(kafka, clock, settings.kafka.silent_s)
    with ProbeServer(settings.http.host, port, lambda: contact.health(Health(pusher.working)), metrics_registry):
        follower.start(stop)
        contact.start(stop)
        start_recalling(kafka, topics, outbox, stop)

        def push() -> None:
            while not stop.is_set() and not follower.caught_up(WAIT_S):
                pass
            collect_seldom()
            pusher.run(stop)

        await asyncio.to_thread(push)
    await sender.close()
    tracer.close()
    await probe_sender.close()


def collect_seldom() -> None:
    """Leave what stands by now out of the garbage collector's looks, and have it look seldom.

    An event makes hundreds of objects and hardly a ring: at Python's 700 the looks cost a tenth of all CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 50)

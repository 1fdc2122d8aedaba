"""队列接口：接收单位自行拉取、长轮询、流式接收与回执 (agencies pull their feeds and give receipts)。"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI

from consumers.feeds.acknowledging import Acknowledging
from consumers.feeds.api import FeedsApi, feed_routes
from consumers.feeds.asking import Asking
from consumers.feeds.direct import DirectReading
from consumers.feeds.entry import entry_of
from consumers.feeds.feeds import Feeds
from consumers.feeds.footing import Footing
from consumers.feeds.renewing import renew
from consumers.feeds.showing import Showing
from consumers.feeds.superseding import Superseding
from consumers.feeds.withholding import Withholding
from consumers.runner.learning import Learning
from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.delivery.cursors import Cursors
from services.runtime import logging, metrics
from services.runtime.clock import SystemClock
from services.runtime.exposition import new_registry
from services.runtime.kafka.client import connect
from services.runtime.lifecycle import stop_event
from services.runtime.measuring import CollectorRegistry
from services.runtime.probes import Health
from services.runtime.settings import Settings
from services.runtime.web import new_app, serve
from services.subscriptions.follower import ControlFollower
from services.subscriptions.sealing import Sealer
from services.subscriptions.stopping import Stops

SWEEP_S = 0.5
RENEW_S = 3600.0

log = structlog.get_logger()


def run(settings: Settings, *, port: int) -> None:
    """Serve the feeds until SIGTERM."""
    logging.configure(settings.log, process="feeds")
    stop = stop_event()
    topics = Topics(settings.kafka.topic_prefix)
    follower = ControlFollower(connect(settings.kafka), [topics.control_subscriptions], "feeds")
    follower.start(stop)
    parts: list[_Parts] = []
    registry = new_registry()

    def health() -> Health:
        working = bool(parts) and parts[0].working() and follower.caught_up(0)
        return Health(working, {"agencies": len(follower.view.agencies)})

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        made = _Parts(settings, follower, topics, registry, asyncio.get_running_loop())
        parts.append(made)
        app.include_router(feed_routes(made.api, settings.feeds))
        made.start(stop)
        yield
        stop.set()
        made.close()

    def end_waiting() -> None:
        for made in parts:
            made.end_waiting()

    app = new_app("Hongyan feeds", health, registry, lifespan)
    serve(app, settings.http.host, port, stop, on_exit=end_waiting)


class _Parts:
    """What lives in the event loop."""

    def __init__(
        self,
        settings: Settings,
        follower: ControlFollower,
        topics: Topics,
        registry: CollectorRegistry,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        kafka, clock, limits = connect(settings.kafka), SystemClock(), settings.feeds
        self._view = follower.view
        codec = Codec(RegistryClient(settings.registry.url, settings.registry.timeout_s))
        self._loop = loop
        learning = Learning(codec)
        self.feeds = Feeds(
            kafka,
            topics,
            lambda record: entry_of(record, codec.decode),
            limits,
            clock,
            loop,
            render_at_once=lambda record: entry_of(record, learning.decode),
        )
        self._cursors = Cursors(kafka, topics)
        superseding = Superseding(self.feeds.history, load_contracts())
        self._asking = Asking(self._cursors)
        footing = Footing(kafka, topics, self.feeds, self._asking, clock)
        self._withholding = Withholding(kafka, topics, clock)
        showing = Showing(Stops(follower.view), superseding, self._withholding, self._asking, clock)
        self._acknowledging = Acknowledging(
            kafka, topics, self.feeds.history, self._asking, footing, showing, limits.max_ack, clock
        )
        self.api = FeedsApi(
            follower.view,
            self.feeds,
            self._asking,
            footing,
            self._acknowledging,
            showing,
            Sealer(settings.security),
            limits,
            clock,
        )
        self._direct = DirectReading(follower.view, kafka, topics, self._cursors, clock)
        self._measure(registry)

    def _measure(self, registry: CollectorRegistry) -> None:
        metrics.FEEDS_OPEN.asked(registry, lambda: float(self.api.openings.open.total()))
        metrics.FEEDS_IN_MEMORY.asked(registry, lambda: float(self.feeds.held()[0]))
        metrics.FEEDS_BYTES.asked(registry, lambda: float(self.feeds.held()[1]))

    def start(self, stop: threading.Event) -> None:
        """Start the reader and the sweeping of feeds that nobody reads."""
        threading.Thread(target=self.feeds.reader.run, args=(stop,), name="tail", daemon=True).start()
        self._chores = [self._loop.create_task(self._sweep()), self._loop.create_task(self._renew())]
        for chore in self._chores:
            chore.add_done_callback(_tell_ended)

    def working(self) -> bool:
        """Tell whether feeds can be read, and rights and cursors are seen to."""
        return self.feeds.reader.working and not any(chore.done() for chore in self._chores)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.feeds.let_idle_go()
            await asyncio.to_thread(self._direct.settle)

    async def _renew(self) -> None:
        while True:
            await asyncio.to_thread(renew, self._cursors, self._view)
            await asyncio.sleep(RENEW_S)

    def end_waiting(self) -> None:
        """Let all who wait be answered now."""
        self._loop.call_soon_threadsafe(self.api.closing.set)

    def close(self) -> None:
        """Close the clients."""
        for chore in self._chores:
            chore.cancel()
        self._acknowledging.close()
        self._withholding.close()
        self._asking.close()
        self._direct.close()
        self._cursors.close()
        self.feeds.close()


def _tell_ended(chore: asyncio.Task[None]) -> None:
    """Log what ended a chore that should not end: the process is not healthy any more."""
    if not chore.cancelled():
        log.error("chore_ended", error=repr(chore.exception()), exc_info=chore.exception())

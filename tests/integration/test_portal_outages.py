"""However a server goes away, the pages come back soon, and say which it is and since when."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from schemas.times import SHANGHAI
from services.identity.people import Role
from services.runtime.embedded.servers import Servers
from tests.broker import Broker
from tests.conditions import eventually
from tests.portal_site import PortalSite, Visitor, open_portal, portal
from tests.standstill import standing_still

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]
__all__ = ["portal"]
READERS = 4
COMES_BACK_S = 12.0
"""Three seconds until a server that owes an answer is away, one until that is seen; the rest is a loaded machine's."""
AWAY = re.compile(r'(PostgreSQL|Kafka) 没有应答，自 <time datetime="([^"]+)"')


def away(visitor: Visitor, path: str) -> list[tuple[str, datetime]]:
    """Return which servers a page says to be away, and since when."""
    return [(name, datetime.fromisoformat(at)) for name, at in AWAY.findall(visitor.get(path).text)]


class Readers:
    """People who load a page again and again, so that some are in the middle of it at any moment."""

    def __init__(self, visitors: list[Visitor], path: str) -> None:
        self._path = path
        self._stop = threading.Event()
        self.last: dict[int, tuple[float, int, str]] = {}
        """Of each: when an answer came last, its status, and its text."""
        self._pool = ThreadPoolExecutor(len(visitors))
        self._reading = [self._pool.submit(self._read, number, one) for number, one in enumerate(visitors)]

    def _read(self, number: int, visitor: Visitor) -> None:
        while not self._stop.is_set():
            answer = visitor.get(self._path)
            self.last[number] = (time.monotonic(), answer.status, answer.text)

    def since(self, moment: float) -> list[tuple[int, str]]:
        """Return what those have got who got an answer since."""
        return [(status, text) for at, status, text in self.last.values() if at > moment]

    def close(self) -> None:
        """Have them end."""
        self._stop.set()
        for one in self._reading:
            one.result(60)
        self._pool.shutdown()


def test_who_is_reading_the_month_when_postgresql_begins_to_hang_is_answered(
    portal: PortalSite, servers: Servers
) -> None:
    """Its connections are its own, and none of the pool's: they fail like those, and the page shows what it had."""
    portal.person("stat", Role.STATISTICIAN)
    path = f"/month/{portal.clock.now().astimezone(SHANGHAI):%Y-%m}"
    looker = portal.signed_in("stat")
    with closing(Readers([portal.signed_in("stat") for _ in range(READERS)], path)) as readers:
        eventually(lambda: len(readers.last) == READERS, 60, "everybody reads")
        assert {status for status, _ in readers.since(0)} == {200}
        with standing_still(int(str(conninfo_to_dict(servers.dsn)["port"]))):
            began = time.monotonic()
            eventually(lambda: len(readers.since(began)) == READERS, COMES_BACK_S, "everybody answered")
            eventually(lambda: away(looker, "/catalogue"), 15, "said")
            said = time.monotonic()
            eventually(lambda: len(readers.since(said)) == READERS, COMES_BACK_S, "everybody answered again")
            for status, text in readers.since(said):
                assert (status, [name for name, _ in AWAY.findall(text)], "截至 <time" in text) == (
                    200,
                    ["PostgreSQL"],
                    True,
                )
    eventually(lambda: not away(looker, path), 20, "said no more")


@contextmanager
def on_own_broker(
    servers: Servers, template: str, registry_url: str, folder: Path
) -> Iterator[tuple[Broker, PortalSite]]:
    """Serve a portal on a broker that can be killed."""
    broker = Broker(folder)
    broker.start()
    try:
        with closing(broker.connect().admin()) as admin:
            own = replace(servers, bootstrap_servers=broker.kafka.address)
            with open_portal(own, admin, template, registry_url, folder) as site:
                yield broker, site
    finally:
        broker.kill()


def test_a_kafka_whose_port_is_closed_is_named_on_every_page_with_since_when(
    servers: Servers, template_database: str, registry_url: str, tmp_path: Path
) -> None:
    """Nobody waits for it; what was read before is shown with its time, and all is as before once it is back."""
    pages = ["/alerts", "/parked", "/dead-letters"]
    with on_own_broker(servers, template_database, registry_url, tmp_path) as (broker, site):
        site.person("ops", Role.SYSTEM)
        ops = site.signed_in("ops")
        for path in pages:
            eventually(lambda: ops.get(path).status == 200, 30, path)  # noqa: B023
        assert ops.get("/alerts").status == 200  # young when Kafka goes, and old all the same
        broker.kill()
        since = datetime.now(UTC)
        eventually(lambda: away(ops, "/catalogue"), 15, "said")
        for path in [*pages, "/catalogue", "/"]:
            began = time.monotonic()
            answer = ops.get(path)
            assert (answer.status, time.monotonic() - began < COMES_BACK_S) == (200, True), path
            assert "截至 <time" in answer.text or path not in pages, path
            assert [(name, abs((at - since).total_seconds()) < 5) for name, at in away(ops, path)] == [("Kafka", True)]
        broker.start()
        eventually(lambda: not away(ops, "/alerts"), 30, "said no more")
        for path in pages:
            eventually(lambda: "截至 <time" not in ops.get(path).text, 30, f"{path} as it was")  # noqa: B023

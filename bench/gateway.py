"""The gateway over HTTP: single events (requests a second, and p99 at half of that) and batches of 100."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import orjson

from bench.results import Result
from bench.stack import wait_for
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.identity.repository import key_digest
from services.runtime.embedded.ports import answers, free_port
from services.runtime.kafka.client import connect
from services.runtime.settings import KafkaSettings, Settings, as_environment

TYPE = "cn.gov.sc.window.case.accepted"
KEY = "hyk_bench"
BATCH = 100
CONNECTIONS = 16
SECONDS = 6.0
ROUNDS = 3
BATCH_BAR = 8000
P99_BAR_MS = 50


@contextmanager
def gateway(address: str) -> Iterator[str]:
    """Run a registry and a gateway on this Kafka, with one department; yield the gateway's address."""
    prefix = f"bench{secrets.token_hex(3)}."
    topics, kafka = Topics(prefix), connect(KafkaSettings(bootstrap_servers=address))
    admin = kafka.admin()
    admin.ensure_topics(topics.base_specs(load_contracts().domains()))
    department = {"id": "bench", "name": "bench", "source": "urn:bench", "types": [TYPE], "rate_per_s": 1e9}
    keys = [{"id": "key-1", "digest": key_digest(KEY)}]
    producer = kafka.producer()
    entry = orjson.dumps(department | {"burst": 10**9, "keys": keys})
    producer.send(topics.control_identities, key=b"department/bench", value=entry).result(10)
    producer.close()
    running: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder))
        settings.kafka = KafkaSettings(bootstrap_servers=address, topic_prefix=prefix)
        try:
            settings.registry.url = _serve("registry", settings, running)
            yield _serve("gateway", settings, running)
        finally:
            for process in running:
                process.terminate()
                process.wait(20)
            admin.delete_topics([name for name in admin.list_topics() if name.startswith(prefix)])
            admin.close()


def _serve(name: str, settings: Settings, running: list[subprocess.Popen[bytes]]) -> str:
    port = free_port()
    command = [sys.executable, "-m", "hongyan", "serve", name, "--port", str(port)]
    running.append(subprocess.Popen(command, env={**os.environ, **as_environment(settings)}))
    url = f"http://127.0.0.1:{port}"
    wait_for(lambda: answers(port) and _healthy(url), 60)
    return url


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def bodies(run: str, size: int) -> Iterator[bytes]:
    """Return request bodies for ever; every event has an id of its own, and one of a thousand business keys."""
    sample = dict(load_contracts().types[TYPE].sample)
    for n in itertools.count():
        events = [
            {
                "specversion": "1.0",
                "id": f"{run}-{n}-{m}",
                "type": TYPE,
                "data": sample | {"project_no": f"SYN-{(n * size + m) % 1000:06d}"},
            }
            for m in range(size)
        ]
        yield orjson.dumps(events if size > 1 else events[0])


class Load:
    """Posts over kept connections."""

    def __init__(self, session: aiohttp.ClientSession, url: str, size: int) -> None:
        self._session = session
        self._url = f"{url}/v1/events"
        kind = "application/cloudevents-batch+json" if size > 1 else "application/cloudevents+json"
        self._headers = {"Authorization": f"Bearer {KEY}", "Content-Type": kind}

    async def post(self, body: bytes) -> None:
        """Post one body, and insist that it is taken."""
        async with self._session.post(self._url, data=body, headers=self._headers) as answer:
            text = await answer.read()
            if answer.status != 202:
                raise RuntimeError(f"{answer.status}: {text[:500]!r}")

    async def as_fast_as_it_goes(self, ready: list[bytes], connections: int) -> float:
        """Post all, so many at once; return the seconds."""
        waiting = iter(ready)

        async def client() -> None:
            for body in waiting:
                await self.post(body)

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(connections)))
        return time.perf_counter() - began

    async def at_rate(self, ready: list[bytes], per_s: float) -> list[float]:
        """Post at a steady rate whatever the answers take; return the seconds of each from when it was due."""
        began, took, tasks = time.perf_counter(), [], []

        async def one(body: bytes, due: float) -> None:
            await self.post(body)
            took.append(time.perf_counter() - due)

        for n, body in enumerate(ready):
            due = began + n / per_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(body, due)))
        await asyncio.gather(*tasks)
        return took


async def _open(url: str, size: int) -> AsyncIterator[Load]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=256)) as session:
        yield Load(session, url, size)


async def _rate(url: str, run: str, size: int, requests: int) -> float:
    """Return events a second: the median of some rounds after a warm-up. The bodies are made beforehand."""
    ready = bodies(run, size)
    rates = []
    async for load in _open(url, size):
        await load.as_fast_as_it_goes(list(itertools.islice(ready, max(20, requests // 10))), CONNECTIONS)
        for _ in range(ROUNDS):
            made = list(itertools.islice(ready, requests))
            rates.append(requests * size / await load.as_fast_as_it_goes(made, CONNECTIONS))
    return statistics.median(rates)


async def _p99_ms(url: str, per_s: float) -> float:
    async for load in _open(url, 1):
        took = await load.at_rate(list(itertools.islice(bodies("p99", 1), int(per_s * SECONDS))), per_s)
        return statistics.quantiles(took, n=100)[98] * 1000
    raise RuntimeError("no session")


def measure(address: str) -> list[Result]:
    """Measure all three on one gateway process; load, gateway and broker share the machine."""
    with gateway(address) as url:
        singles = asyncio.run(_rate(url, "single", 1, 3000))
        p99 = asyncio.run(_p99_ms(url, singles / 2))
        batches = asyncio.run(_rate(url, "batch", BATCH, 300))
    return [
        Result("gateway_single", round(singles), None, None, "requests/s", "none", True),
        Result("gateway_p99", round(p99, 1), None, None, "ms at half of that", f"<= {P99_BAR_MS}", p99 <= P99_BAR_MS),
        Result("gateway_batch", round(batches), None, None, "events/s", f">= {BATCH_BAR}", batches >= BATCH_BAR),
    ]

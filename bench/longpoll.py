"""Long polls: 500 agencies wait at once, each on its own feed; from append to answer, and what the process needs."""

from __future__ import annotations

import asyncio
import base64
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import aiohttp
import orjson
from pydantic import SecretStr

from bench.results import Result
from bench.stack import peak_mb, wait_for
from schemas.envelope import Envelope
from schemas.topics import Topics
from services.identity.repository import key_digest
from services.runtime.embedded.ports import free_port
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Kafka
from services.runtime.settings import KafkaSettings, SecuritySettings, Settings, as_environment, with_environment

CLIENTS = 500
ROUNDS = 6
BAR_P99_MS = 500.0
BAR_MB = 250.0
VALUE = b"\0\0\0\0\1" + b"x" * 345


def measure(address: str) -> list[Result]:
    """Let all wait, append one event to each feed over half a second, and take the times; several rounds."""
    prefix = f"b-{secrets.token_hex(3)}."
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=address, topic_prefix=prefix))
    master = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    settings.security = SecuritySettings(master_key=SecretStr(master))
    topics, kafka = Topics(prefix), connect(settings.kafka)
    agencies = [f"agency-{n}" for n in range(CLIENTS)]
    _prepare(kafka, topics, agencies)
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as folder:
        settings.data_dir = Path(folder)
        port = free_port()
        command = [sys.executable, "-m", "hongyan", "serve", "feeds", "--port", str(port)]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, env=with_environment(as_environment(settings)), stdout=log, stderr=log)
        try:
            times = asyncio.run(_rounds(f"http://127.0.0.1:{port}", kafka, topics, agencies))
            memory = peak_mb(process.pid)
        finally:
            process.terminate()
            process.wait(20)
    ordered = sorted(times)
    p50, p99 = (1000 * ordered[int(share * len(ordered))] for share in (0.5, 0.99))
    wanted = f"p99 at most {BAR_P99_MS:g} ms"
    return [
        Result("longpoll.p50", round(p50, 1), None, None, "ms", f"{CLIENTS} wait", True),
        Result("longpoll.p99", round(p99, 1), None, None, "ms", wanted, p99 <= BAR_P99_MS),
        Result("longpoll.memory", round(memory), None, None, "MB", f"at most {BAR_MB:g}", memory <= BAR_MB),
    ]


def _prepare(kafka: Kafka, topics: Topics, agencies: list[str]) -> None:
    admin = kafka.admin()
    specs = [spec for agency in agencies for spec in topics.agency_specs(agency)]
    admin.ensure_topics([*topics.base_specs([]), *specs])
    admin.close()
    producer = kafka.producer()
    for agency in agencies:
        entry = {"id": agency, "name": agency, "division": "510000", "sink": "http://127.0.0.1:9/", "keys": []}
        access = {"agency": agency, "channel": "pull", "version": 1}
        access["keys"] = [{"id": "key-1", "digest": key_digest(f"hya_{agency}"), "expires_at": None}]
        for key, value in ((f"agency/{agency}", entry), (f"access/{agency}", access)):
            producer.send(topics.control_subscriptions, key=key.encode(), value=orjson.dumps(value), partition=0)
    producer.flush(20)
    producer.close()


async def _rounds(url: str, kafka: Kafka, topics: Topics, agencies: list[str]) -> list[float]:
    producer = kafka.producer()
    sent: dict[str, float] = {}
    after = dict.fromkeys(agencies, -1)
    times: list[float] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.to_thread(wait_for, lambda: _healthy(url))

        async def poll(agency: str) -> None:
            headers = {"Authorization": f"Bearer hya_{agency}"}
            path = f"{url}/v1/feeds/{agency}/events?after={after[agency]}&wait=60"
            async with session.get(path, headers=headers) as answer:
                found = await answer.json(content_type=None)
                if answer.status == 200 and found:
                    times.append(time.monotonic() - sent[agency])
                    after[agency] = int(answer.headers["hongyan-cursor"])

        for number in range(ROUNDS + 1):
            waiting = [asyncio.ensure_future(poll(agency)) for agency in agencies]
            await asyncio.sleep(2)
            if number == 1:
                times.clear()  # the first round opens feeds and topics
            for agency in agencies:
                event = Envelope(str(number), "urn:bench", "cn.gov.sc.window.case.accepted", agency, "2025-12-02")
                sent[agency] = time.monotonic()
                producer.send(topics.feed(agency), key=b"k", value=VALUE, headers=event.to_headers(), partition=0)
                await asyncio.sleep(0.001)
            await asyncio.gather(*waiting)
    producer.close()
    return times


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return int(answer.status) == 200
    except OSError:
        return False

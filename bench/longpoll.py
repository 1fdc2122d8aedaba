"""Long polls: 500 agencies wait at once, each on its own feed; from append to answer, and what the process needs."""

from __future__ import annotations

import asyncio
import time
import urllib.request

import aiohttp

from bench.pushing import Pushing
from bench.results import Result
from bench.stack import wait_for

CLIENTS = 500
ROUNDS = 6
BAR_P99_MS = 500.0
BAR_MB = 250.0


def measure(address: str) -> list[Result]:
    """Let all wait, append one event to each feed over half a second, and take the times; several rounds."""
    agencies = [f"agency-{n}" for n in range(CLIENTS)]
    installed = Pushing(address)
    try:
        installed.agencies(dict.fromkeys(agencies, "http://127.0.0.1:9/"))
        installed.pulling({agency: f"hya_{agency}" for agency in agencies})
        url = installed.serve_feeds()
        wait_for(lambda: _healthy(url))
        times = asyncio.run(_rounds(url, installed, agencies))
        memory = installed.peak_mb("feeds")
    finally:
        installed.close()
    ordered = sorted(times)
    p50, p99 = (1000 * ordered[int(share * len(ordered))] for share in (0.5, 0.99))
    wanted = f"p99 at most {BAR_P99_MS:g} ms"
    return [
        Result("longpoll_p50", round(p50, 1), None, None, "ms", f"{CLIENTS} wait", True),
        Result("longpoll_p99", round(p99, 1), None, None, "ms", wanted, p99 <= BAR_P99_MS),
        Result("longpoll_memory", round(memory), None, None, "MB", f"at most {BAR_MB:g}", memory <= BAR_MB),
    ]


async def _rounds(url: str, installed: Pushing, agencies: list[str]) -> list[float]:
    """Return the seconds from each append to its answer; raises aiohttp.ClientResponseError for one that is refused."""
    sent: dict[str, float] = {}
    after = dict.fromkeys(agencies, -1)
    times: list[float] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), raise_for_status=True) as session:

        async def poll(agency: str) -> None:
            headers = {"Authorization": f"Bearer hya_{agency}"}
            path = f"{url}/v1/feeds/{agency}/events?after={after[agency]}&wait=60"
            async with session.get(path, headers=headers) as answer:
                found = await answer.json(content_type=None)
                times.append(time.monotonic() - sent[agency])
                assert [event["subject"] for event in found] == [f"{number}-{agency}"]
                after[agency] = int(answer.headers["hongyan-cursor"])

        for number in range(ROUNDS + 1):
            waiting = [asyncio.ensure_future(poll(agency)) for agency in agencies]
            await asyncio.sleep(2)
            if number == 1:
                times.clear()  # the first round opens feeds and topics
            for agency in agencies:
                sent[agency] = time.monotonic()
                installed.append(agency, f"{number}-{agency}")
                await asyncio.sleep(0.001)
            await asyncio.gather(*waiting)
    return times


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return int(answer.status) == 200
    except OSError:
        return False

"""Delivery, from the append to a feed to the receiver's 2xx: against bare loops in the same run, and against itself."""

from __future__ import annotations

import asyncio
import math
import secrets
import subprocess
import sys
import time
from contextlib import suppress

import aiohttp

from bench.pushing import Pushing, paced
from bench.receivers import Receivers
from bench.results import Result, keep
from bench.stack import wait_for
from schemas.topics import TopicSpec

FEEDS = 20
RATE = 200
SECONDS = 10
WARM_UP = 400
BACKLOG = 10_000
POSTS = 20_000
BATCH = 20
HUNDREDS = 500
HOUR = 18_000
"""An hour of five events a second."""


def measure(address: str) -> list[Result]:
    """Measure everything on this Kafka."""
    receivers = Receivers()
    results: list[Result] = []
    try:
        for part in (_latency, _throughput, _isolation, _hundreds, _catch_up):
            found = part(address, receivers)
            keep(found)
            results += found
    finally:
        receivers.close()
    return results


def _latency(address: str, receivers: Receivers) -> list[Result]:
    """Append to 2xx over 20 feeds at 200/s, against a bare consume-and-post loop."""
    pushing = Pushing(address)
    try:
        names = [f"a{n:02d}" for n in range(FEEDS)]
        pushing.agencies({name: f"{receivers.well}/{name}" for name in names})
        pushing.start()
        ours = _flow(pushing, receivers, names)
        plain = _bare(pushing, address, receivers)
    finally:
        pushing.close()
    return [
        _result(f"delivery_{name}", _percentile(ours, share), _percentile(plain, share), "ms", bar)
        for name, share, bar in (("p50", 0.5, 1.5), ("p99", 0.99, 2.0))
    ]


def _flow(pushing: Pushing, receivers: Receivers, names: list[str], seconds: int = SECONDS) -> list[float]:
    """Append to these feeds in turn at the rate, and return the milliseconds to each 2xx, the warm-up left out."""
    pushing.learn(names)
    wait_for(lambda: sum(f"/{name}" in receivers.counts() for name in names) == len(names), 120)
    receivers.clear()
    count = RATE * seconds + WARM_UP
    sent = paced(count, RATE, lambda n, name: pushing.append(names[n % len(names)], name))
    paths = {f"/{name}" for name in names}

    def arrived() -> dict[str, float]:
        found = receivers.arrivals()
        return {one: at for path in paths for one, at in found.get(path, {}).items()}

    wait_for(lambda: len(arrived()) >= count, 120)
    at = arrived()
    return [(at[name] - began) * 1000 for name, began in list(sent.items())[WARM_UP:]]


def _bare(pushing: Pushing, address: str, receivers: Receivers) -> list[float]:
    receivers.clear()
    feeds = [f"bare.{secrets.token_hex(3)}.{n}" for n in range(FEEDS)]
    pushing.admin.ensure_topics(TopicSpec(feed, 1) for feed in feeds)
    loop = subprocess.Popen(
        [sys.executable, "-m", "bench.bare_hops", "pusher", address, ",".join(feeds), f"{receivers.well}/bare"],
        stdout=subprocess.DEVNULL,
    )
    producer = pushing.kafka.producer()

    def append(n: int, name: str) -> None:
        headers = [("ce_id", name.encode())]
        producer.send(feeds[n % FEEDS], key=name.encode(), value=pushing.value, headers=headers, partition=0)

    try:
        for n in range(FEEDS):
            append(n, f"first-{n}")
        wait_for(lambda: receivers.counts().get("/bare", 0) >= FEEDS, 60)
        receivers.clear()
        count = RATE * SECONDS + WARM_UP
        sent = paced(count, RATE, append)
        wait_for(lambda: receivers.counts().get("/bare", 0) >= count, 120)
        at = receivers.arrivals()["/bare"]
        return [(at[name] - began) * 1000 for name, began in list(sent.items())[WARM_UP:]]
    finally:
        loop.kill()
        producer.close()
        pushing.admin.delete_topics(feeds)


def _isolation(address: str, receivers: Receivers) -> list[Result]:
    """The p99 of ten healthy agencies beside ten black holes, against the same with none dead; nothing is dropped."""
    p99 = {}
    dropped = -1
    for dead in (False, True):
        pushing = Pushing(address, timeout_s=2.0)
        try:
            well = [f"w{n}" for n in range(FEEDS // 2)]
            other = [f"o{n}" for n in range(FEEDS // 2)]
            base = receivers.hole if dead else receivers.well
            sinks = {name: f"{receivers.well}/{name}" for name in well} | {name: f"{base}/{name}" for name in other}
            pushing.agencies(sinks)
            pushing.start()
            pushing.learn([*well, *other])
            wait_for(lambda: all(f"/{name}" in receivers.counts() for name in well), 60)  # noqa: B023
            receivers.clear()
            names = [name for pair in zip(well, other, strict=True) for name in pair]
            count = RATE * SECONDS + WARM_UP
            sent = paced(count, RATE, lambda n, name: pushing.append(names[n % FEEDS], name))  # noqa: B023
            mine = list(sent)[0::2]

            def arrived(paths: list[str]) -> dict[str, float]:
                found = receivers.arrivals()
                return {one: at for path in paths for one, at in found.get(f"/{path}", {}).items()}

            wait_for(lambda: len(arrived(well)) >= len(mine), 120)  # noqa: B023
            at = arrived(well)
            p99[dead] = _percentile([(at[n] - sent[n]) * 1000 for n in mine if int(n) >= WARM_UP], 0.99)
            if dead:
                receivers.heal()
                with suppress(TimeoutError):  # what is missing then is told
                    wait_for(lambda: len(arrived(other)) >= count - len(mine) + len(other), 180)  # noqa: B023
                dropped = count - len(mine) + len(other) - len(arrived(other))
        finally:
            pushing.close()
    bar = f"healthy p99 at most 1.2x of none dead, none dropped ({dropped})"
    found = _result("delivery_isolation", p99[True], p99[False], "ms", 1.2)
    return [Result(found.name, found.ours, found.bare, found.ratio, "ms", bar, found.holds and dropped == 0)]


def _throughput(address: str, receivers: Receivers) -> list[Result]:
    """Deliveries a second from a backlog in 20 feeds, singly and in batches, against aiohttp posting alone."""
    results, plain = [], 0.0
    for name, batch in (("delivery_rate", 1), ("delivery_rate_batched", BATCH)):
        pushing = Pushing(address)
        try:
            ours = _rate(pushing, receivers, batch)
            plain = plain or asyncio.run(_posts(f"{receivers.well}/plain", pushing.value))
        finally:
            pushing.close()
        ratio = round(ours / plain, 2)
        what = "at least 0.4 of bare" + (f" posts, {batch} events a request" if batch > 1 else "")
        results.append(Result(name, round(ours), round(plain), ratio, "deliveries/s", what, ratio >= 0.4))
    return results


def _rate(pushing: Pushing, receivers: Receivers, batch: int) -> float:
    """Return how many events a second a pusher delivers that finds them all waiting."""
    names = [f"a{n:02d}" for n in range(FEEDS)]
    pushing.agencies({name: f"{receivers.well}/{name}" for name in names}, batch=batch)
    for n in range(BACKLOG):
        pushing.append(names[n % FEEDS], f"{n:07d}")
    pushing.flush()
    receivers.clear()
    pushing.start()
    wait_for(lambda: sum(receivers.counts().values()) >= BACKLOG, 120)
    times = sorted(at for path in receivers.arrivals().values() for at in path.values())
    return (len(times) - 1) / (times[-1] - times[0])


async def _posts(url: str, body: bytes) -> float:
    """Return how many posts a second a bare aiohttp client makes, 64 at once."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:

        async def worker(count: int) -> None:
            for n in range(count):
                async with session.post(url, data=body, headers={"webhook-id": str(n)}) as answer:
                    await answer.read()

        began = time.monotonic()
        await asyncio.gather(*(worker(POSTS // 64) for _ in range(64)))
        return POSTS / (time.monotonic() - began)


def _hundreds(address: str, receivers: Receivers) -> list[Result]:
    """Five hundred agencies on one pusher: its memory, and the p99 at the same rate."""
    pushing = Pushing(address)
    try:
        names = [f"h{n:03d}" for n in range(HUNDREDS)]
        pushing.agencies({name: f"{receivers.well}/{name}" for name in names})
        pushing.start()
        p99 = _percentile(_flow(pushing, receivers, names), 0.99)
        peak = pushing.peak_mb()
    finally:
        pushing.close()
    return [
        Result("delivery_500_p99", round(p99, 1), None, None, "ms", "at most 100", p99 <= 100),
        Result("delivery_500_memory", round(peak), None, None, "MB", "at most 250", peak <= 250),
    ]


def _catch_up(address: str, receivers: Receivers) -> list[Result]:
    """One agency comes back to an hour's backlog while twenty others go on at the rate."""
    pushing = Pushing(address)
    try:
        names = [f"c{n:02d}" for n in range(FEEDS)]
        pushing.agencies({name: f"{receivers.well}/{name}" for name in names})
        pushing.start()
        alone = _percentile(_flow(pushing, receivers, names), 0.99)
        pushing.admin.ensure_topics(pushing.topics.agency_specs("late"))
        for n in range(HOUR):
            pushing.append("late", f"late-{n:07d}", (HOUR - n) / 5 + 60)
        pushing.flush()
        pushing.agencies({"late": f"{receivers.well}/late"})
        beside = _percentile(_flow(pushing, receivers, names), 0.99)
        wait_for(lambda: receivers.counts().get("/late", 0) >= HOUR // 2, 180)
        times = sorted(receivers.arrivals()["/late"].values())
        rate = (len(times) - 1) / (times[-1] - times[0])
    finally:
        pushing.close()
    bar = "an hour of 5/s caught up within 2 minutes"
    return [
        Result("delivery_catch_up", round(rate), None, None, "deliveries/s", bar, HOUR / rate <= 120),
        _result("delivery_catch_up_others_p99", beside, alone, "ms", 2.0),
    ]


def _result(name: str, ours: float, bare: float, unit: str, bar: float) -> Result:
    ratio = round(ours / bare, 2)
    return Result(name, round(ours, 1), round(bare, 1), ratio, unit, f"at most {bar}x", ratio <= bar)


def _percentile(samples: list[float], share: float) -> float:
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

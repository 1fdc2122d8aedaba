"""Names are resolved so that a dead name server costs nobody but its own agency."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from services.delivery.lookups import Found, Lookups, system_lookup


def answering(address: str) -> Found:
    """Return what the system says of a host at this address."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))]


def test_a_host_without_an_answer_has_one_lookup_under_way_and_delays_no_other() -> None:
    """A hundred attempts at it time out; another host is resolved meanwhile; then it is asked anew."""
    release, asked = threading.Event(), list[str]()

    def system(host: str, port: int, family: int) -> Found:
        asked.append(host)
        if host == "dead.example":
            release.wait(20)
        return answering("10.0.0.1")

    async def body() -> None:
        lookups = Lookups(system)
        dead = [asyncio.create_task(asyncio.wait_for(lookups.resolve("dead.example", 80), 0.2)) for _ in range(100)]
        await asyncio.sleep(0)
        found = await asyncio.wait_for(lookups.resolve("well.example", 80), 5)
        assert [one["host"] for one in found] == ["10.0.0.1"]
        assert all(isinstance(one, TimeoutError) for one in await asyncio.gather(*dead, return_exceptions=True))
        assert asked == ["dead.example", "well.example"]
        release.set()
        assert (await lookups.resolve("dead.example", 80))[0]["port"] == 80
        await lookups.resolve("dead.example", 80)

    asyncio.run(body())
    assert asked.count("dead.example") <= 3


def test_a_failure_is_told_to_all_who_wait_and_kept_for_nobody() -> None:
    """Whoever asks later has the name resolved anew."""
    answers: list[OSError | Found] = [answering("10.0.0.1"), socket.gaierror(-2, "unknown")]

    def system(host: str, port: int, family: int) -> Found:
        answer = answers.pop()
        if isinstance(answer, OSError):
            raise answer
        return answer

    async def body() -> None:
        lookups = Lookups(system)
        both = await asyncio.gather(lookups.resolve("a.example"), lookups.resolve("a.example"), return_exceptions=True)
        assert [type(one) for one in both] == [socket.gaierror] * 2
        assert (await lookups.resolve("a.example"))[0]["host"] == "10.0.0.1"

    asyncio.run(body())


def test_the_systems_own_lookup_resolves_and_refuses() -> None:
    """Addresses in numbers need no name server; what is no name at all is an error of the network's kind."""

    async def body() -> None:
        (found,) = await Lookups(system_lookup).resolve("127.0.0.1", 80, socket.AF_INET)
        assert (found["host"], found["port"], found["hostname"]) == ("127.0.0.1", 80, "127.0.0.1")
        with pytest.raises(OSError):
            await Lookups(system_lookup).resolve("a" * 70 + ".example", 80)

    asyncio.run(body())

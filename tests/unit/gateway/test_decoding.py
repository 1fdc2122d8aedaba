"""Avro bodies: the event loop never waits for the registry, and nobody can make it ask again and again."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from producers.gateway.decoding import AWAY_S, UNKNOWN_S, Decoding
from producers.publishing import Publishing
from schemas.contracts import Schema, load_contracts
from schemas.topics import Topics
from services.runtime.clock import SystemClock
from services.runtime.errors import InvalidError, RegistryUnavailableError
from services.runtime.settings import GatewaySettings
from tests.events import ISSUED
from tests.fakes.schemas import MemorySchemas
from tests.fakes.virtual_time import VirtualClock

SAMPLE = load_contracts().types[ISSUED].sample


class Asked(MemorySchemas):
    """Notes in which thread it was asked for a schema."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[str] = []

    def schema_by_id(self, schema_id: int) -> Schema:
        """Return a schema."""
        self.threads.append(threading.current_thread().name)
        return super().schema_by_id(schema_id)


class Bodies:
    """Decodes as the gateway does."""

    def __init__(self) -> None:
        self.registry, self.clock = Asked(), VirtualClock()
        rules = GatewaySettings()
        publishing = Publishing(load_contracts(), self.registry, "http://r", Topics(), rules, SystemClock())
        self.decoding = Decoding(publishing, self.clock)
        self.value = publishing.prepare({"id": "1", "source": "urn:a", "type": ISSUED}, SAMPLE).value

    def decode(self, value: bytes) -> dict[str, Any]:
        """Decode one value."""
        return asyncio.run(self.decoding.within(lambda decode: decode(ISSUED, value)))


@pytest.fixture
def bodies() -> Bodies:
    """A decoder with a registry that notes who asks."""
    return Bodies()


def test_a_new_schema_is_asked_for_once_and_in_a_thread(bodies: Bodies) -> None:
    """The next value is decoded where it is."""
    for _ in range(3):
        assert bodies.decode(bodies.value)["beds"] == SAMPLE["beds"]
    assert [name.startswith("decode") for name in bodies.registry.threads] == [True]


def test_an_unknown_schema_is_the_senders_mistake_and_asked_for_once_in_a_while(bodies: Bodies) -> None:
    """Not a failure of the gateway: the field is named, and the registry is left in peace."""
    stray = b"\x00" + (4711).to_bytes(4, "big") + bodies.value[5:]
    for _ in range(3):
        with pytest.raises(InvalidError, match="4711") as caught:
            bodies.decode(stray)
        assert [problem.pointer for problem in caught.value.problems] == ["/data"]
    assert len(bodies.registry.threads) == 1
    bodies.clock.seconds += UNKNOWN_S + 1
    with pytest.raises(InvalidError):
        bodies.decode(stray)
    assert len(bodies.registry.threads) == 2


def test_a_registry_that_is_away_is_told_at_once_to_those_that_come_next(bodies: Bodies) -> None:
    """Only the first waits for it; what is no Avro at all is told as before."""
    bodies.registry.away = True
    for _ in range(3):
        with pytest.raises(RegistryUnavailableError):
            bodies.decode(bodies.value)
    assert len(bodies.registry.threads) == 1
    with pytest.raises(InvalidError):
        bodies.decode(b"{}")
    bodies.registry.away = False
    bodies.clock.seconds += AWAY_S + 1
    assert bodies.decode(bodies.value)["beds"] == SAMPLE["beds"]

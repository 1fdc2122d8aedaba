"""Decoding that never waits for the registry."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from consumers.runner.learning import VERDICT_S, Learning
from schemas.codec import Codec, UndecodableValue
from schemas.contracts import Schema
from schemas.registry_client import RegistryAway, RegistryError, SchemaUnknown
from tests.conditions import eventually
from tests.fakes.virtual_time import VirtualClock

SCHEMA: Schema = {"type": "record", "name": "r", "fields": [{"name": "n", "type": "int"}]}
VALUE = b"\x00\x00\x00\x00\x07\x02"


class Registry:
    """A registry that answers when it is let, with what it is told to."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.answers: list[Schema | RegistryError] = []
        self.asked = 0

    def schema_by_id(self, schema_id: int) -> Schema:
        """Answer in time."""
        self.asked += 1
        assert self.free.wait(20)
        answer = self.answers.pop(0)
        if isinstance(answer, RegistryError):
            raise answer
        return answer

    def id_of(self, subject: str, schema: Schema) -> int:
        """Never asked."""
        raise NotImplementedError


def rig() -> tuple[Registry, VirtualClock, Learning]:
    """Return a decoder and the registry behind it."""
    registry, clock = Registry(), VirtualClock()
    return registry, clock, Learning(Codec(registry), clock.monotonic)


def refused(learning: Learning) -> Callable[[], bool]:
    """Return a condition: decoding says that there is no such schema."""

    def found() -> bool:
        try:
            learning.decode(VALUE)
        except SchemaUnknown:
            return True
        except RegistryAway:
            return False
        raise AssertionError("it was decoded")

    return found


def test_a_schema_is_fetched_once_meanwhile_and_whoever_waits_is_told() -> None:
    """The registry hangs, then is away once, then answers: a hundred askers were told at once to come again."""
    registry, _, learning = rig()
    registry.answers = [RegistryAway("no"), SCHEMA]
    for _ in range(100):
        with pytest.raises(RegistryAway):
            learning.decode(VALUE)
    told = threading.Event()
    learning.then(VALUE, told.set)
    assert not told.is_set()
    registry.free.set()
    assert told.wait(10)
    assert learning.decode(VALUE).data == {"n": 1}
    assert registry.asked == 2
    again = threading.Event()
    learning.then(VALUE, again.set)
    assert again.is_set()


def test_a_schema_that_there_is_not_is_known_for_a_while_and_then_asked_for_again() -> None:
    """An event in it is refused at once; a registry that is mended later is believed."""
    registry, clock, learning = rig()
    registry.free.set()
    registry.answers = [SchemaUnknown("40403"), SCHEMA]
    eventually(refused(learning), 10)
    assert refused(learning)()
    assert registry.asked == 1
    clock.seconds += VERDICT_S + 1
    with pytest.raises(RegistryAway):
        learning.decode(VALUE)
    eventually(lambda: registry.asked == 2, 10)
    with pytest.raises(UndecodableValue):
        learning.decode(b"no frame")

"""Decodes Avro bodies: at once in a schema that was seen before, else in a thread that may wait for the registry.

What the registry said no to is remembered for a moment, and so is that it was away: whoever sends such ids again and
again costs neither the registry nor the others anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from producers.publishing import Publishing, UnknownSchemaError
from schemas.codec import schema_id_of
from services.runtime.clock import Clock
from services.runtime.errors import HongyanError, RegistryUnavailableError

UNKNOWN_S = 5.0
AWAY_S = 1.0
MAX_UNKNOWN = 1000

Decode = Callable[[str, bytes], dict[str, Any]]
T = TypeVar("T")


class _UnseenError(HongyanError):
    """The schema has to be asked for."""


class Decoding:
    """Decodes for one event loop."""

    def __init__(self, publishing: Publishing, clock: Clock) -> None:
        self._publishing = publishing
        self._clock = clock
        self._threads = ThreadPoolExecutor(4, "decode")
        self._unknown: dict[int, tuple[float, UnknownSchemaError]] = {}
        self._away: tuple[float, RegistryUnavailableError] | None = None

    async def within(self, parse: Callable[[Decode], T]) -> T:
        """Return what ``parse`` makes with a decoder; it is called again, in a thread, where a schema is new.

        Raises what it raises, and RegistryUnavailableError.
        """
        try:
            return parse(self._seen)
        except _UnseenError:
            return await asyncio.get_running_loop().run_in_executor(self._threads, parse, self._asked)

    def _seen(self, event_type: str, value: bytes) -> dict[str, Any]:
        if not self._publishing.has_seen(value):
            self._refuse_again(value)
            raise _UnseenError
        return self._publishing.decode_data(event_type, value)

    def _asked(self, event_type: str, value: bytes) -> dict[str, Any]:
        if not self._publishing.has_seen(value):
            self._refuse_again(value)
        try:
            return self._publishing.decode_data(event_type, value)
        except UnknownSchemaError as error:
            if len(self._unknown) >= MAX_UNKNOWN:
                self._unknown.clear()
            self._unknown[schema_id_of(value)] = (self._clock.monotonic() + UNKNOWN_S, error)
            raise
        except RegistryUnavailableError as error:
            self._away = (self._clock.monotonic() + AWAY_S, error)
            raise

    def _refuse_again(self, value: bytes) -> None:
        now = self._clock.monotonic()
        until, unknown = self._unknown.get(schema_id_of(value), (now, None))
        if unknown is not None and now < until:
            raise UnknownSchemaError(unknown.problems)
        away = self._away
        if away is not None and now < away[0]:
            raise RegistryUnavailableError(str(away[1]))

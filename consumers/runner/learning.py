"""Decoding where nobody may wait for the schema registry: what is new is fetched meanwhile, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from schemas.codec import Codec, Decoded, schema_id_of
from schemas.registry_client import RegistryAway, RegistryError

RETRY_S = 0.5
VERDICT_S = 10.0
"""For how long a registry that doesn't know a schema isn't asked for it again."""

log = structlog.get_logger()


class Learning:
    """Decodes at once or not at all; may be shared between threads.

    Each schema that is missing has one thread that asks for it until the registry has answered, however long that is.
    """

    def __init__(self, codec: Codec, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._codec = codec
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._waiting: dict[int, list[Callable[[], None]]] = {}
        self._unknown: dict[int, tuple[float, RegistryError]] = {}

    def decode(self, value: bytes | None) -> Decoded:
        """Return the data; raises UndecodableValue, RegistryAway while the schema is fetched, or RegistryError."""
        schema_id = schema_id_of(value)
        if not self._codec.has_seen(schema_id):
            self._await(schema_id)
        return self._codec.decode(value)

    def then(self, value: bytes | None, on_known: Callable[[], None]) -> None:
        """Call back once, from any thread, when ``decode`` need not be asked again in vain for this value."""
        with self._lock:
            waiting = self._waiting.get(schema_id_of(value))
            if waiting is not None:
                waiting.append(on_known)
                return
        on_known()

    def _await(self, schema_id: int) -> None:
        with self._lock:
            if self._codec.has_seen(schema_id):
                return
            at, error = self._unknown.get(schema_id, (0.0, None))
            if error is not None and self._monotonic() - at < VERDICT_S:
                raise error
            if schema_id not in self._waiting:
                self._waiting[schema_id] = []
                threading.Thread(target=self._fetch, args=(schema_id,), name=f"schema-{schema_id}", daemon=True).start()
        raise RegistryAway(f"模式 {schema_id} 正在取回 (schema {schema_id} is being fetched)")

    def _fetch(self, schema_id: int) -> None:
        pause, told = threading.Event(), False
        unknown: RegistryError | None = None
        while True:
            try:
                self._codec.learn(schema_id)
                break
            except RegistryAway as error:
                if not told:
                    log.warning("schema_awaited", schema=schema_id, error=str(error))
                told = True
                pause.wait(RETRY_S)
            except RegistryError as error:
                unknown = error
                break
        with self._lock:
            if unknown is not None:
                self._unknown[schema_id] = self._monotonic(), unknown
            waiting = self._waiting.pop(schema_id)
        for on_known in waiting:
            on_known()

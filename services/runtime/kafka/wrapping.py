"""The library's errors become ours in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kafka.errors import IllegalStateError, KafkaConfigurationError, KafkaError

from services.runtime.errors import KafkaUnavailableError


@contextmanager
def wrapped(what: str) -> Iterator[None]:
    """Turn the library's error into ours, once, with the cause kept."""
    try:
        yield
    except (KafkaConfigurationError, IllegalStateError):
        raise  # our own mistake: waiting does not mend it
    except (KafkaError, OSError) as error:
        raise KafkaUnavailableError(f"{what}: {type(error).__name__} {error}".strip()) from error

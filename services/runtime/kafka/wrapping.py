"""The library's errors become ours in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kafka.errors import (
    IllegalStateError,
    InvalidRecordError,
    InvalidTimestampError,
    KafkaConfigurationError,
    KafkaError,
    LogTruncationError,
    MessageSizeTooLargeError,
    OffsetOutOfRangeError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from services.runtime.errors import (
    HongyanError,
    KafkaUnavailableError,
    OffTheLogError,
    RecordTooLargeError,
    UnknownTopicError,
)
from services.runtime.kafka.health import CLIENTS

TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
REFUSED = frozenset(
    {*TOO_LARGE, InvalidTimestampError, InvalidRecordError, PolicyViolationError, TopicAuthorizationFailedError}
)
"""What is wrong with one record or its topic, and not with the producer."""


@contextmanager
def wrapped(what: str) -> Iterator[None]:
    """Turn the library's error into ours, once, with the cause kept."""
    try:
        yield
    except (KafkaConfigurationError, IllegalStateError):
        raise  # our own mistake: waiting does not mend it
    except (KafkaError, OSError) as error:
        raise ours(what, error) from error


def _kind(error: BaseException) -> type[HongyanError]:
    if isinstance(error, TOO_LARGE):
        return RecordTooLargeError
    if isinstance(error, UnknownTopicOrPartitionError):
        return UnknownTopicError
    # A log made anew is found out by the one or by the other, whichever the library asks first.
    off = isinstance(error, OffsetOutOfRangeError | LogTruncationError)
    return OffTheLogError if off else KafkaUnavailableError


def ours(what: str, error: BaseException) -> HongyanError:
    """Return our error for the library's: most pass by themselves, a record of too many bytes does not."""
    CLIENTS.failed(what.partition(" ")[0])
    return _kind(error)(f"{what}: {type(error).__name__} {error}".strip())

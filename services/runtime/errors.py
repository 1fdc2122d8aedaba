"""The error tree. A caller retries by type: ``retriable`` is a class attribute, and the docstring is the message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

NOT_HERE = "这里没有运行的系统：在启动 hongyan up 的目录里运行，或先设 HONGYAN_DATA_DIR"
"""What a command says that finds no installation."""


class HongyanError(Exception):
    """Hongyan could not do what was asked."""

    retriable: ClassVar[bool] = False

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.__doc__)


class UnavailableError(HongyanError):
    """A server that is needed is away; the same call may work later."""

    retriable = True


class KafkaUnavailableError(UnavailableError):
    """Kafka does not answer."""


class NoAuthoriserError(HongyanError):
    """Kafka does not go by rights: no authoriser is on, so none can be given or taken away."""


class OffTheLogError(KafkaUnavailableError):
    """A position is not on its log, which was cut, made anew, or has let go of what was there."""


class UnknownTopicError(KafkaUnavailableError):
    """Kafka does not know a topic: it was deleted, or is a moment old."""


class BufferFullError(UnavailableError):
    """Too many events wait for Kafka's acknowledgement."""


class DatabaseUnavailableError(UnavailableError):
    """PostgreSQL does not answer."""


class RegistryUnavailableError(UnavailableError):
    """The schema registry does not answer, and the schema was not seen before."""


class SchemaRefusedError(UnavailableError):
    """The schema registry refuses a schema; it is tried again, since its compatibility or its subject may be mended."""


class RecordTooLargeError(HongyanError):
    """Kafka refuses the record for its size; sending it again does not help."""


class TransactionFailedError(UnavailableError):
    """The Kafka transaction did not commit; nothing of it is visible, and its input is read again."""


class ProducerLostError(UnavailableError):
    """The Kafka producer was fenced or broke; it must be closed and built anew."""


class UndecodableError(HongyanError):
    """The record is not an event in a known schema."""


class NotFoundError(HongyanError):
    """There is no such thing."""


class TookTooLongError(HongyanError):
    """超过时限没有做完，没有结果；缩小范围，或稍后再试 (it took too long and was ended; ask for less, or try later)"""


class GoneError(HongyanError):
    """What was asked for is no longer kept; ``earliest`` is the first cursor that is."""

    def __init__(self, earliest: int) -> None:
        super().__init__(
            f"早于保留范围，现存最早的游标是 {earliest}；从 after={earliest - 1} 继续，"
            f"回执从 from={earliest} 起，其间的事件另行对账 "
            f"(before what is kept; the earliest cursor is {earliest}: read on after={earliest - 1}, "
            f"acknowledge from={earliest})"
        )
        self.earliest = earliest


class ConflictError(HongyanError):
    """The thing exists already, or has changed since it was read; a value that is taken is named by its field."""

    def __init__(self, detail: str | None = None, problems: Sequence[FieldProblem] = ()) -> None:
        super().__init__(detail)
        self.problems = tuple(problems)


class UnauthenticatedError(HongyanError):
    """没有给出凭证：Authorization: Bearer … (no credential was given)"""


class ForbiddenError(HongyanError):
    """The credential lacks the right."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One bad field: a JSON pointer into the request, and what is wrong with it."""

    pointer: str
    detail: str


class InvalidError(HongyanError):
    """What was sent is not valid; every bad field is named."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(f"{p.pointer}: {p.detail}" for p in problems))
        self.problems = tuple(problems)


class TooLargeError(InvalidError):
    """What was sent is larger than may be; the field is named."""

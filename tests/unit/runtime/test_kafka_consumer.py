"""A commit that a broker has not answered is not made again under another membership."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from kafka import TopicPartition
from kafka.coordinator.base import Generation
from kafka.errors import CommitFailedError, NotCoordinatorError
from kafka.structs import OffsetAndMetadata

from services.runtime.kafka.consumer import KafkaPythonConsumer

WANTED = {TopicPartition("feed.a", 0): OffsetAndMetadata(5, "", -1)}


class Coordinator:
    """A member whose commits a broker answers by a script.

    Shares may be dealt anew with an answer, or while the coordinator is looked for.
    """

    def __init__(self, answers: list[Exception | None], *, dealt_anew: Literal["with it", "before", ""]) -> None:
        self._generation = Generation(1, "member", "range")
        self._answers, self._dealt_anew = answers, dealt_anew
        self.tries = 0

    async def ensure_coordinator_ready_async(self, timeout_ms: float) -> None:
        """Be ready."""
        if self._dealt_anew == "before":
            self._generation = Generation(2, "member", "range")

    async def _send_offset_commit_request(self, wanted: object) -> None:
        self.tries += 1
        answer = self._answers.pop(0)
        if answer is not None:
            if self._dealt_anew == "with it":
                self._generation = Generation(2, "member", "range")
            raise answer


async def commit(coordinator: Coordinator) -> None:
    """Commit as the adapter does."""

    async def wait_for(answer: Awaitable[None], _timeout_ms: float) -> None:
        await answer

    manager = SimpleNamespace(call_soon=lambda ask, wanted: ask(wanted), wait_for=wait_for)
    consumer: Any = KafkaPythonConsumer.__new__(KafkaPythonConsumer)
    consumer.client = SimpleNamespace(
        _coordinator=coordinator, _manager=manager, _net=SimpleNamespace(sleep=asyncio.sleep)
    )
    await consumer._commit(WANTED)


def test_a_commit_is_tried_again_while_the_membership_is_the_same() -> None:
    """A coordinator that has moved costs a moment."""
    coordinator = Coordinator([NotCoordinatorError(), None], dealt_anew="")
    asyncio.run(commit(coordinator))
    assert coordinator.tries == 2


@pytest.mark.parametrize(("dealt_anew", "tries"), [("with it", 1), ("before", 0)])
def test_a_commit_is_not_made_once_shares_were_dealt_anew(dealt_anew: Literal["with it", "before"], tries: int) -> None:
    """Another may have had the feed meanwhile, and have gone on from there."""
    coordinator = Coordinator([NotCoordinatorError(), None], dealt_anew=dealt_anew)
    with pytest.raises(CommitFailedError):
        asyncio.run(commit(coordinator))
    assert coordinator.tries == tries

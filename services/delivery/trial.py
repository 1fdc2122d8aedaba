"""Trying a receiver: a signed challenge before its first event, and a test event whenever somebody asks.

Both go the way of real deliveries: the same network check, keys, TLS, token and format.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from schemas.codec import Codec, Decoded
from schemas.content import ContentDigester
from schemas.envelope import binary_headers
from services.delivery.causes import refusal, with_answer
from services.delivery.message import Message, batch, message_of, single
from services.delivery.network import Network
from services.delivery.outcome import Delivered
from services.delivery.receiver import Receiver
from services.delivery.sender import Attempt, Lookup, Sender
from services.runtime.kafka.port import HeaderList

CHALLENGE_TYPE = "cn.gov.sc.hongyan.endpoint.challenged"
TEST_TYPE = "cn.gov.sc.hongyan.delivery.tested"
SOURCE = "urn:hongyan:delivery"
SHOWN_BYTES = 500
_SCHEMA: Mapping[str, Any] = {
    "type": "record",
    "name": "Trial",
    "namespace": "cn.gov.sc.hongyan",
    "doc": "A challenge to echo, or a test: no act of any department stands behind it.",
    "fields": [{"name": "challenge", "type": "string"}, {"name": "note", "type": "string"}],
}
NOTE = "试投递，非业务数据 (a trial, no business data)"


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What came of it, for people; ``answer`` is the beginning of what the receiver said."""

    passed: bool
    detail: str
    status: int | None
    milliseconds: float
    answer: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


class Trial:
    """Sends challenges and tests; ``lookup`` resolves names (the system's by default)."""

    def __init__(self, networks: Sequence[Network], codec: Codec, lookup: Lookup | None = None) -> None:
        self._networks = networks
        self._codec = codec
        self._lookup = lookup

    async def challenge(self, receiver: Receiver) -> TrialResult:
        """Ask the receiver to echo a random word that we signed: it must be reached, and verify before it answers."""
        word = secrets.token_urlsafe(24)
        attempt = await self._send(receiver, CHALLENGE_TYPE, word)
        if not isinstance(attempt.outcome, Delivered):
            why = with_answer(_why(attempt, attempt.outcome.reason), attempt.answer)
            return _result(attempt, False, f"未通过验证：{why}")
        if _echo(attempt.answer) != word:
            detail = (
                f'未通过验证：HTTP {attempt.status}，应答须为 JSON {{"challenge": "…"}}，原样带回收到的 data.challenge '
                "(answered without the challenge: echo data.challenge as JSON)"
            )
            return _result(attempt, False, with_answer(detail, attempt.answer))
        return _result(attempt, True, "接收端正确回应了签名质询 (verified)")

    async def test(self, receiver: Receiver) -> TrialResult:
        """Deliver a test event."""
        attempt = await self._send(receiver, TEST_TYPE, "")
        if isinstance(attempt.outcome, Delivered):
            return _result(attempt, True, f"已送达 (delivered)：HTTP {attempt.status}")
        return _result(attempt, False, f"未送达：{_why(attempt, attempt.outcome.reason)}")

    async def _send(self, receiver: Receiver, kind: str, word: str) -> Attempt:
        now = datetime.now(UTC)
        attributes = {
            "specversion": "1.0",
            "id": f"trial-{secrets.token_hex(8)}",
            "source": SOURCE,
            "type": kind,
            "subject": receiver.agency,
            "time": now.isoformat(),
        }
        message = self._message(binary_headers(attributes), {"challenge": word, "note": NOTE}, receiver)
        post = single(message, 0) if receiver.profile.batch == 1 else batch([message], 0)
        sender = Sender(self._networks, self._lookup)
        try:
            return await sender.attempt(receiver, post, now)
        finally:
            await sender.close()

    def _message(self, headers: HeaderList, data: dict[str, Any], receiver: Receiver) -> Message:
        if receiver.profile.format == "json":
            return message_of(headers, b"", lambda _: Decoded(0, "", data, ContentDigester({})))
        value = self._codec.encode("cn.gov.sc.hongyan.trial-value", dict(_SCHEMA), data)
        return message_of(headers, value, self._codec.decode, receiver.profile.format)


def _why(attempt: Attempt, reason: str) -> str:
    """Return why it was not taken in, and what to do; where nothing was answered the reason says it already."""
    return reason if attempt.status is None else refusal(attempt.status)


def _echo(answer: bytes) -> object:
    try:
        found = orjson.loads(answer)
    except ValueError:
        return None
    return found.get("challenge") if isinstance(found, dict) else None


def _result(attempt: Attempt, passed: bool, detail: str) -> TrialResult:
    text = attempt.answer[:SHOWN_BYTES].decode(errors="replace")
    return TrialResult(passed, detail, attempt.status, round(attempt.seconds * 1000, 1), text)

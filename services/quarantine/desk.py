"""Corrects a dead letter and puts it on the log again, with the correction on record beside it.

Event and record are written in one Kafka transaction: killed at any point, there are both or neither. Which id the
event then has follows from the rule of identity (``source``, ``id`` and business key stand for one content, the
first): a letter whose identity was never accepted keeps its id, so that its publisher's own repetition is recognised;
one whose identity stands already (a conflict, or put aside after routing) gets a new one, made of the old one and its
content.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from schemas.codec import Codec, UndecodableValue, to_jsonable
from schemas.contracts import Contracts, EventContract
from schemas.envelope import RECEIVERS, RECEIVERS_SEPARATOR, Envelope, is_receivers
from schemas.formats import check_division
from schemas.registry_client import RegistryAway, RegistryError
from schemas.times import parse_time
from schemas.topics import EVENT_MAX_BYTES, Topics, record_bytes
from schemas.validation import InvalidData, ValidationRules, Validator
from services.quarantine.aside import original
from services.quarantine.letters import DeadLetters, Letter
from services.runtime.clock import Clock
from services.runtime.errors import ConflictError, FieldProblem, InvalidError, RegistryUnavailableError, TooLargeError
from services.runtime.kafka.port import Kafka

Rights = Callable[[EventContract, Mapping[str, str], Mapping[str, Any]], Sequence[FieldProblem]]
"""Tells what of a corrected event (its type, attributes and data) whoever corrects it may not publish."""
_WRITTEN_BY_US = {"specversion", "subject", "dataschema", "recordedtime", "quality"}


@dataclass(frozen=True, slots=True)
class Correction:
    """What to change, by whom and why: attributes and data as JSON merge patches (RFC 7396; null removes)."""

    by: str
    reason: str
    attributes: Mapping[str, str | None] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resubmission:
    """A corrected event, ready to send."""

    topic: str
    envelope: Envelope
    value: bytes


class Desk:
    """Shows dead letters with their data, and resubmits them."""

    def __init__(
        self, kafka: Kafka, topics: Topics, contracts: Contracts, codec: Codec, rules: ValidationRules, clock: Clock
    ) -> None:
        self.letters = DeadLetters(kafka, topics)
        self._kafka = kafka
        self._topics = topics
        self._contracts = contracts
        self._codec = codec
        self._rules = rules
        self._clock = clock
        self._one_at_a_time = threading.Lock()

    def show(self, stage: str, offset: int) -> dict[str, Any]:
        """Return a letter with its data, as far as it can be read, and its correction; raises NotFoundError."""
        letter = self.letters.letter(stage, offset)
        data, trouble = self._data(letter)
        correction = self.letters.corrections().get(letter.number)
        return letter.to_json() | {"data": data, "unreadable": trouble, "correction": correction}

    def resubmit(
        self, stage: str, offset: int, correction: Correction, rights: Rights = lambda *_: ()
    ) -> dict[str, Any]:
        """Put the corrected event on the log and return the record of it.

        Asked again with the same correction it returns the first record and sends nothing. Raises NotFoundError,
        InvalidError that names each bad field, ConflictError when it was corrected otherwise before, UnavailableError.
        """
        letter = self.letters.letter(stage, offset)
        event = self._compose(letter, correction, rights)
        with self._one_at_a_time:
            # The producer comes first: it ends what a killed predecessor left open, so that the reading is final.
            producer = self._kafka.transactional_producer(self._topics.transactional_id("deadletter", "desk"))
            try:
                before = self.letters.corrections().get(letter.number)
                if before is not None:
                    return _same(before, event)
                record = self._record(letter, correction, event)
                producer.begin()
                headers, key = event.envelope.to_headers(), event.envelope.subject.encode()
                producer.send(event.topic, key=key, value=event.value, headers=headers)
                corrections, number = self._topics.control_corrections, letter.number.encode()
                producer.send(corrections, key=number, value=orjson.dumps(record), partition=0)
                producer.commit()
            finally:
                producer.close()
        return record

    def _record(self, letter: Letter, correction: Correction, event: Resubmission) -> dict[str, Any]:
        return {
            "number": letter.number,
            "by": correction.by,
            "reason": correction.reason,
            "at": self._clock.now().isoformat(),
            "changed": [*(f"/{n}" for n in correction.attributes), *(f"/data/{n}" for n in correction.data)],
            "before": _digest(letter.value),
            "after": _digest(event.value),
            "event": {"source": event.envelope.source, "id": event.envelope.id, "topic": event.topic},
        }

    def _data(self, letter: Letter) -> tuple[dict[str, Any], str | None]:
        """Return what can be read of a letter's data, as JSON and without what the platform derives; else why not."""
        value = letter.value
        if letter.left_out:
            topic, partition, offset = letter.origin.rsplit("/", 2)
            found = original(self._kafka, topic, int(partition), int(offset))
            if found is None:
                return {}, f"原记录 {letter.origin} 已不再保存 (the original is no longer kept)"
            value = found.value
        try:
            data = self._codec.decode(value).data
        except UndecodableValue as error:
            return {}, str(error)
        except RegistryAway as error:
            raise RegistryUnavailableError(str(error)) from error
        except RegistryError as error:
            return {}, str(error)
        contract = self._contracts.types.get(letter.attributes.get("type", ""))
        derived = {f["name"] for f in contract.fields() if "derived" in f} if contract else set()
        return to_jsonable({name: value for name, value in data.items() if name not in derived}), None

    def _compose(self, letter: Letter, correction: Correction, rights: Rights) -> Resubmission:
        problems = [
            FieldProblem(f"/attributes/{name}", "由平台填写，不能给出 (written by the platform)")
            for name in correction.attributes
            if name in _WRITTEN_BY_US
        ]
        given = {n: v for n, v in letter.attributes.items() if n not in _WRITTEN_BY_US} | dict(correction.attributes)
        attributes = {name: text for name, text in given.items() if text is not None}
        problems += [
            FieldProblem(f"/attributes/{name}", "缺少必填属性 (missing)")
            for name in ("id", "source")
            if not attributes.get(name)
        ]
        contract = self._contracts.types.get(attributes.get("type", ""))
        if contract is None:
            problems.append(FieldProblem("/attributes/type", "没有这个事件类型 (unknown event type)"))
            raise InvalidError(problems)
        removed = {name for name, value in correction.data.items() if value is None}
        patched = self._data(letter)[0] | dict(correction.data)
        data = {name: value for name, value in patched.items() if name not in removed}
        return self._encode(letter, contract, attributes, correction, data, problems, rights)

    def _encode(
        self,
        letter: Letter,
        contract: EventContract,
        attributes: dict[str, str],
        correction: Correction,
        data: Mapping[str, Any],
        problems: list[FieldProblem],
        rights: Rights,
    ) -> Resubmission:
        now = self._clock.now()
        try:
            valid = Validator(contract, self._rules).validate(data, now)
        except InvalidData as error:
            problems += [FieldProblem(f"/data{p.pointer}", p.detail) for p in error.problems]
            raise InvalidError(problems) from error
        attributes["time"] = _time(attributes.get("time") or str(valid.data[contract.catalogue.time_field]), problems)
        division = _division(attributes, contract, correction, valid.data, problems)
        receivers = _receivers(contract, valid.data, problems)
        problems += rights(contract, attributes, valid.data)
        if problems:
            raise InvalidError(problems)
        try:
            value = self._codec.encode(contract.subject, contract.schema, valid.data)
        except RegistryAway as error:
            raise RegistryUnavailableError(str(error)) from error
        if letter.accepted_before and "id" not in correction.attributes:
            attributes["id"] = f"{attributes['id']}.r{_digest(value)[:8]}"
        if letter.stage != "router":
            attributes.setdefault("follows", letter.attributes.get("id", ""))
        attributes |= {"subject": contract.business_key(valid.data), "recordedtime": now.isoformat()}
        if receivers is not None:
            attributes[RECEIVERS] = receivers
        attributes |= ({"division": division} if division else {}) | (
            {"quality": ",".join(valid.quality)} if valid.quality else {}
        )
        envelope = Envelope.from_attributes(attributes)
        if record_bytes(envelope.subject.encode(), value, envelope.to_headers()) > EVENT_MAX_BYTES:
            detail = f"整个事件超过 {EVENT_MAX_BYTES} 字节 (the whole event is larger than {EVENT_MAX_BYTES} bytes)"
            raise TooLargeError([FieldProblem("/data", detail)])
        return Resubmission(self._topics.events(contract.domain), envelope, value)


def _time(text: str, problems: list[FieldProblem]) -> str:
    try:
        return parse_time(text)[0].isoformat()
    except ValueError as error:
        problems.append(FieldProblem("/attributes/time", str(error)))
        return ""


def _division(
    attributes: Mapping[str, str],
    contract: EventContract,
    correction: Correction,
    data: Mapping[str, Any],
    problems: list[FieldProblem],
) -> str | None:
    """Return the division: the one given now, else that of the data, else the letter's."""
    named = next((f["name"] for f in contract.fields() if f.get("format") == "division"), None)
    given = correction.attributes.get("division")
    text = given or (str(data[named]) if named else attributes.get("division"))
    try:
        return check_division(text)[0] if text else None
    except ValueError as error:
        problems.append(FieldProblem("/attributes/division", str(error)))
        return None


def _receivers(contract: EventContract, data: Mapping[str, Any], problems: list[FieldProblem]) -> str | None:
    """Return the agencies that an event of a restricted type names: always the data's, never what a letter said."""
    named = contract.catalogue.named_receivers
    if named is None:
        return None
    receivers = RECEIVERS_SEPARATOR.join(sorted(set(data[named])))
    if not is_receivers(receivers):
        problems.append(FieldProblem(f"/data/{named}", "应为单位标识 (ids of agencies)"))
    return receivers


def _same(before: dict[str, Any], event: Resubmission) -> dict[str, Any]:
    if (before["after"], before["event"]["id"]) == (_digest(event.value), event.envelope.id):
        return before
    raise ConflictError(
        f"死信 {before['number']} 已由 {before['by']} 更正并重新提交 (corrected otherwise before, on {before['at']})"
    )


def _digest(value: bytes | None) -> str:
    return hashlib.sha256(value or b"").hexdigest()

"""One way in for every event: check it against its contract, complete its envelope, encode it.

The gateway, the Python client and the file import all publish through here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from schemas.codec import Codec, SchemaSource, UndecodableValue, schema_id_of
from schemas.contracts import Contracts, EventContract
from schemas.envelope import RECEIVERS_SEPARATOR, SPEC_VERSION, Envelope, Headers, binary_headers, is_receivers
from schemas.formats import check_division
from schemas.reading import MAX_TEXT_BYTES, control_character, too_long
from schemas.registry_client import RegistryAway, RegistryError
from schemas.times import SHANGHAI, is_rfc_3339, parse_time
from schemas.topics import EVENT_MAX_BYTES, Topics, record_bytes
from schemas.tracing import PARENT, STATE, TraceContext, context_of
from schemas.validation import InvalidData, ValidationRules, Validator
from services.runtime.clock import Clock
from services.runtime.errors import (
    FieldProblem,
    InvalidError,
    RegistryUnavailableError,
    SchemaRefusedError,
    TooLargeError,
    UnavailableError,
)
from services.runtime.settings import GatewaySettings
from services.runtime.tracing import Span, Tracer, Untraced, now_ns

_ATTRIBUTE_NAME = re.compile(r"^[a-z0-9]{1,20}$")
_OURS = {"recordedtime", "dataschema", "quality"}
_USUAL = frozenset({"specversion", "id", "source", "type", "subject", "time", "division", "follows"})
_MAX_TEXT = 1024
REQUIRED = frozenset({"id", "source", "type"})
Identify = Callable[[str, datetime], str]
"""Gives an event's id, from its business key and the time that it happened."""
TOO_LONG = f"业务主键超过 {MAX_TEXT_BYTES} 字节 (the business key takes more than {MAX_TEXT_BYTES} bytes)"
UNREGISTERED = "还没有在模式注册中心登记模式 (the schema registry has not been told of the schemas yet)"
NO_TIME = "不是 RFC 3339 时间 (not a time of RFC 3339)"
CONTROL = "含有控制字符 (holds a control character)"
TOO_LARGE = (
    f"整个事件编码后超过 {EVENT_MAX_BYTES} 字节，此项最大 (the whole event is larger than {EVENT_MAX_BYTES} bytes; "
    "this field is the largest)"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an event's trace comes from: its own span's context, what that is under, and what it links to."""

    context: TraceContext
    parent: TraceContext | None
    links: Sequence[TraceContext]
    began_ns: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """An event ready for Kafka: topic, key, value and headers, with its attributes and quality marks."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers
    attributes: Mapping[str, str]
    quality: Sequence[str]
    origin: Origin

    @property
    def envelope(self) -> Envelope:
        """The attributes by name."""
        return Envelope.from_attributes(self.attributes)


class UnknownSchemaError(InvalidError):
    """An Avro value names a schema that the registry does not have."""


def _no_id(contract: EventContract, error: RegistryError) -> UnavailableError:
    """Return what to raise where the registry does not give a schema's id; a schema that it refuses is named."""
    if isinstance(error, RegistryAway):
        return RegistryUnavailableError(str(error))
    named = f"模式注册中心 (schema registry) 不接受 {contract.subject}，请由管理员处理 (refuses this schema)"
    return SchemaRefusedError(f"{named}: {error}")


def _largest(data: Mapping[str, Any]) -> str:
    return max(data, key=lambda name: len(str(data[name])))


class Publishing:
    """Prepares events of all types."""

    def __init__(
        self,
        contracts: Contracts,
        registry: SchemaSource,
        registry_url: str,
        topics: Topics,
        rules: GatewaySettings,
        clock: Clock,
        tracer: Tracer | None = None,
    ) -> None:
        self._tracer: Tracer = tracer or Untraced()
        self._contracts = contracts
        self.types = contracts.types.keys()
        self.unregistered = UNREGISTERED
        """Why :meth:`register_all` has not yet ended well; empty once it has."""
        self._codec = Codec(registry)
        self._registry_url = registry_url.rstrip("/")
        self._topics = topics
        self._clock = clock
        self._skew = timedelta(seconds=rules.future_skew_s)
        self._policy = ValidationRules(rules.reject_bad_uscc, self._skew, rules.warnings)
        self._validators: dict[str, Validator] = {}
        self._division_fields = {name: _division_field(contract) for name, contract in contracts.types.items()}

    def register_all(self) -> None:
        """Make every type's schema known to the registry; raises RegistryUnavailableError or SchemaRefusedError."""
        for contract in self._contracts.types.values():
            try:
                self._codec.schema_id(contract.subject, contract.schema)
            except RegistryError as error:
                away = _no_id(contract, error)
                self.unregistered = str(away)
                raise away from error
        self.unregistered = ""

    def has_seen(self, value: bytes) -> bool:
        """Tell whether :meth:`decode_data` can judge a value without asking the registry."""
        try:
            return self._codec.has_seen(schema_id_of(value))
        except UndecodableValue:
            return True

    def decode_data(self, event_type: str, value: bytes) -> dict[str, Any]:
        """Return the data of an Avro value, without the fields that the platform derives.

        Raises UnknownSchemaError, another InvalidError or RegistryUnavailableError.
        """
        contract = self._contracts.types.get(event_type)
        if contract is None:
            raise InvalidError([_unknown_type(event_type)])
        try:
            data = self._codec.decode(value).data
        except UndecodableValue as error:
            raise InvalidError([FieldProblem("/data", f"不能按 Avro 解码 (no Avro): {error}")]) from error
        except RegistryAway as error:
            raise RegistryUnavailableError(str(error)) from error
        except RegistryError as error:
            detail = f"模式 id 未在注册中心登记，或不是事件的模式 (no schema of an event has this id): {error}"
            raise UnknownSchemaError([FieldProblem("/data", detail)]) from error
        derived = {field["name"] for field in contract.fields() if "derived" in field}
        return {name: value for name, value in data.items() if name not in derived}

    def prepare(
        self,
        attributes: Mapping[str, Any],
        data: object,
        identify: Identify | None = None,
        caller: TraceContext | None = None,
    ) -> Prepared:
        """Return the event ready to send; raises InvalidError that names every bad field of envelope and data, or
        TooLargeError, which is one too.

        ``time`` may be left out: the catalogue names the field it is taken from. ``subject`` likewise; one that is
        given must be the business key, since the order of a certificate's events hangs on it. ``identify`` gives the
        ``id`` of an event that has none. ``caller`` is the span that asks for it: an event that says itself which trace
        it belongs to links to that one, another is under it, and where there is none either a trace begins.
        """
        problems = _attribute_problems(attributes, REQUIRED if identify is None else REQUIRED - {"id"})
        contract = self._contracts.types.get(str(attributes.get("type")))
        if contract is None:
            raise InvalidError([*problems, *([_unknown_type(attributes["type"])] if attributes.get("type") else [])])
        now = self._clock.now()
        if not isinstance(data, Mapping):
            raise InvalidError([*problems, FieldProblem("/data", "应为对象 (an object is needed)")])
        happened, marks = self._time(attributes, data, contract, now, problems)
        valid: Mapping[str, Any]
        try:
            valid = self._validator(contract).validate(data, now, marks).data
        except InvalidData as error:
            problems += [FieldProblem(f"/data{p.pointer}", p.detail) for p in error.problems]
            valid = error.sound
        if happened is None and attributes.get("time") is None and contract.catalogue.time_field in valid:
            problems.append(FieldProblem(f"/data/{contract.catalogue.time_field}", NO_TIME))
        key = _subject(attributes, contract, valid, problems)
        derived = {
            "division": self._division(attributes, contract, valid, problems),
            "receivers": _receivers(attributes, contract, valid, problems),
        }
        if problems or happened is None:
            raise InvalidError(problems)
        if identify is not None and not attributes.get("id"):
            attributes = {**attributes, "id": identify(key, happened)}
        return self._encode(contract, attributes, valid, key, happened, derived, now, caller)

    def _validator(self, contract: EventContract) -> Validator:
        """Return a type's validator, made when the first of its events comes: an import needs one of dozens."""
        found = self._validators.get(contract.type)
        if found is None:
            found = self._validators[contract.type] = Validator(contract, self._policy)
        return found

    def _encode(
        self,
        contract: EventContract,
        attributes: Mapping[str, Any],
        data: Mapping[str, Any],
        key: str,
        happened: datetime,
        derived: Mapping[str, str | None],
        now: datetime,
        caller: TraceContext | None,
    ) -> Prepared:
        origin = self._origin(attributes, caller)
        try:
            value = self._codec.encode(contract.subject, contract.schema, data)
        except RegistryError as error:
            raise _no_id(contract, error) from error
        except (ValueError, OverflowError) as error:
            # Avro's own limits, such as 32 bits of an int.
            raise InvalidError([FieldProblem("/data", f"不能按模式编码 (does not fit the schema): {error}")]) from error
        completed = {name: str(text) for name, text in (*attributes.items(), *derived.items()) if text is not None}
        for name in (PARENT, STATE):
            completed.pop(name, None)
        completed |= origin.context.attributes()
        completed["specversion"] = SPEC_VERSION
        completed["subject"] = key
        completed["time"] = happened.isoformat()
        completed["recordedtime"] = now.astimezone(UTC).isoformat(timespec="microseconds")
        completed["dataschema"] = f"{self._registry_url}/schemas/ids/{int.from_bytes(value[1:5], 'big')}"
        quality: Sequence[str] = data.get("quality", ())
        if quality:
            completed["quality"] = ",".join(quality)
        topic = self._topics.events(contract.domain)
        prepared = Prepared(topic, key.encode(), value, binary_headers(completed), completed, quality, origin)
        if record_bytes(prepared.key, prepared.value, prepared.headers) > EVENT_MAX_BYTES:
            raise TooLargeError([FieldProblem(f"/data/{_largest(data)}", TOO_LARGE)])
        return prepared

    def _origin(self, attributes: Mapping[str, Any], caller: TraceContext | None) -> Origin:
        own = context_of(attributes)
        parent = own or caller
        context = self._tracer.begin() if parent is None else self._tracer.child(parent)
        links = [caller] if own is not None and caller is not None and own != caller else ()
        return Origin(context, parent, links, now_ns())

    def published(self, event: Prepared) -> None:
        """Record the span of an event that stands on the log."""
        if not self._tracer.exports:
            return
        origin, named = event.origin, event.attributes
        told = {
            "cloudevents.event_id": named["id"],
            "cloudevents.event_source": named["source"],
            "cloudevents.event_type": named["type"],
            "messaging.system": "kafka",
            "messaging.destination.name": event.topic,
        }
        span = Span("publish", "producer", origin.context, origin.parent, origin.began_ns, now_ns(), told, origin.links)
        self._tracer.record(span)

    def _time(
        self,
        attributes: Mapping[str, Any],
        data: Mapping[str, Any],
        contract: EventContract,
        now: datetime,
        problems: list[FieldProblem],
    ) -> tuple[datetime | None, list[str]]:
        given = attributes.get("time")
        text = given if given is not None else data.get(contract.catalogue.time_field)
        if isinstance(text, date):
            text = text.isoformat()
        try:
            happened, assumed = parse_time(str(text or ""))
        except ValueError as error:
            if given is not None:
                problems.append(FieldProblem("/time", str(error)))
            return None, []  # a bad or missing data field is named by the data's own validation
        if not is_rfc_3339(happened):
            # A zone of other than whole minutes (Shanghai's before 1901), or a day that UTC does not have.
            field = "/time" if given is not None else f"/data/{contract.catalogue.time_field}"
            problems.append(FieldProblem(field, f"{NO_TIME}: {text}"))
        if happened > now + self._skew:
            problems.append(FieldProblem("/time", f"时间在未来：{text} (in the future)"))
        return happened.astimezone(SHANGHAI) if assumed else happened, ["time:offset-assumed"] if assumed else []

    def _division(
        self,
        attributes: Mapping[str, Any],
        contract: EventContract,
        data: Mapping[str, Any],
        problems: list[FieldProblem],
    ) -> str | None:
        given = attributes.get("division")
        if given is None:
            named = self._division_fields[contract.type]
            return str(data[named]) if named and named in data else None
        try:
            return check_division(str(given))[0]
        except ValueError as error:
            problems.append(FieldProblem("/division", str(error)))
            return None


def _subject(
    attributes: Mapping[str, Any], contract: EventContract, data: Mapping[str, Any], problems: list[FieldProblem]
) -> str:
    """Return the business key, empty while a field of it is bad."""
    if not all(name in data for name in contract.catalogue.business_key):
        return ""
    key = contract.business_key(data)
    if attributes.get("subject", key) != key:
        problems.append(FieldProblem("/subject", f"应为业务主键 {key}，或不填 (the business key, or left out)"))
    if too_long(key):
        problems.append(FieldProblem("/subject", TOO_LONG))
    if control_character(key):
        problems.append(FieldProblem("/subject", f"业务主键{CONTROL}"))
    return key


def _receivers(
    attributes: Mapping[str, Any], contract: EventContract, data: Mapping[str, Any], problems: list[FieldProblem]
) -> str | None:
    """Return the attribute that keeps an event to the agencies that it names; the router goes by it undecoded."""
    named = contract.catalogue.named_receivers
    given = attributes.get("receivers")
    if named and named not in data:
        return None
    receivers = RECEIVERS_SEPARATOR.join(sorted(set(data[named]))) if named else given
    if receivers is not None and not is_receivers(str(receivers)):
        detail = "应为单位标识，用逗号分隔 (ids of agencies, parted by commas)"
        problems.append(FieldProblem(f"/data/{named}" if named else "/receivers", detail))
    elif given is not None and given != receivers:
        problems.append(FieldProblem("/receivers", f"应与 data.{named} 一致，或不填 (as in the data, or left out)"))
    return receivers


def _division_field(contract: EventContract) -> str | None:
    return next((f["name"] for f in contract.fields() if f.get("format") == "division"), None)


def _unknown_type(event_type: object) -> FieldProblem:
    return FieldProblem("/type", f"没有这个事件类型 (unknown event type): {event_type}")


def _attribute_problems(attributes: Mapping[str, Any], required: Collection[str]) -> list[FieldProblem]:
    problems = [
        FieldProblem(f"/{name}", "缺少必填属性 (missing)") for name in sorted(required) if not attributes.get(name)
    ]
    for name, value in attributes.items():
        if name in _USUAL and type(value) is str and len(value) <= _MAX_TEXT and not control_character(value):
            continue
        if name in _OURS:
            problems.append(FieldProblem(f"/{name}", "由平台填写，不能给出 (written by the platform)"))
        elif not _ATTRIBUTE_NAME.match(name):
            problems.append(FieldProblem(f"/{name}", "不是 CloudEvents 属性名 (no CloudEvents attribute name)"))
        elif not isinstance(value, str | int | bool) or len(str(value)) > _MAX_TEXT:
            problems.append(FieldProblem(f"/{name}", f"应为不超过 {_MAX_TEXT} 字的文字 (short text is needed)"))
        elif control_character(str(value)):
            problems.append(FieldProblem(f"/{name}", CONTROL))
    problems += [
        FieldProblem(f"/{name}", f"超过 {MAX_TEXT_BYTES} 字节 (takes more than {MAX_TEXT_BYTES} bytes)")
        for name in ("id", "source", "follows")
        if isinstance(text := attributes.get(name), str) and too_long(text)
    ]
    if attributes.get("specversion", "1.0") != "1.0":
        problems.append(FieldProblem("/specversion", "应为 1.0 (is 1.0)"))
    return problems

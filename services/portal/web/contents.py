"""What an event says, as its reader may see it: field by field, personal ones only where they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from schemas.codec import Codec, UndecodableValue, to_jsonable
from schemas.contracts import Contracts, EventContract, Schema
from schemas.registry_client import RegistryAway, RegistryClient, RegistryError
from services.portal.event_log import EventLog
from services.portal.web.plain_words import field_label, symbol_name
from services.portal.web.sides import Side
from services.portal.web.wording import Language, Text
from services.routing.fields import FieldPolicy, policy_of
from services.routing.redaction import PolicyFailedError, Redactor, Unregistered
from services.runtime.errors import UnavailableError
from services.subscriptions.control import policy_id
from services.subscriptions.grants import GrantRepository

OPEN = FieldPolicy.of({"levels": ["public", "internal"]})
"""What is shown without asking: nothing that is about a person."""
GUARDED = frozenset({"personal", "sensitive"})
LONGEST = 500


@dataclass(frozen=True, slots=True)
class Shown:
    """A field: its name, what it is, its value as text (None: empty), and whether it is there but not shown."""

    name: str
    label: str
    value: str | None
    sensitivity: str
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """An event's fields, or why there are none; ``personal`` are those about persons that are shown now."""

    fields: Sequence[Shown] = ()
    problem: Text | None = None
    may_see_personal: bool = False
    personal: Sequence[str] = ()


class Contents:
    """Reads what events say."""

    def __init__(self, log: EventLog, contracts: Contracts, registry: RegistryClient, grants: GrantRepository) -> None:
        self._log = log
        self._contracts = contracts
        self._registry = registry
        self._grants = grants

    def show(self, side: Side, story: Mapping[str, Any], language: Language, *, personal: bool) -> Content:
        """Return an event's fields. Who runs the system sees none that is about persons, whoever asks for them."""
        contract = self._contracts.types.get(story["type"])
        if contract is None:
            return Content(problem=Text("目录里没有这个事件类型，不能显示内容。"))
        try:
            return self._shown(side, story, contract, language, personal=personal and not side.all)
        except RegistryAway:
            return Content(problem=Text("模式注册中心没有应答，暂不能显示内容。"))
        except UnavailableError:
            return Content(problem=Text("Kafka 没有应答，暂不能显示内容；其余来自台账。"))
        except (UndecodableValue, RegistryError, PolicyFailedError):
            return Content(problem=Text("事件的内容不能解码。"))

    def _shown(
        self, side: Side, story: Mapping[str, Any], contract: EventContract, language: Language, *, personal: bool
    ) -> Content:
        record = self._log.record(story)
        if record is None or record.value is None:
            return Content(problem=Text("事件已过 Kafka 的保存期，内容不再保留；其余来自台账。"))
        policies = [] if side.agency is None else self._given(side.agency, story)
        if policies is None:
            return Content(problem=Text("路由记录已过保存期，不能确定当时给了哪些字段，不显示内容。"))
        granted = _outcomes(policies, contract)
        data = self._read(record.value, [*policies, *([] if personal else [OPEN])])
        shown = [_field(field, data, language, granted) for field in contract.fields()]
        fields = [one for one in shown if one is not None]
        seen = [one.name for one in fields if one.sensitivity in GUARDED and not one.hidden and one.value is not None]
        hidden = any(one.hidden for one in fields)
        return Content(fields, None, not side.all and (hidden or personal), seen if personal else ())

    def _given(self, agency: str, story: Mapping[str, Any]) -> list[FieldPolicy] | None:
        """Return the field policy by which an agency got an event, as the router noted it; none for whole."""
        entry = self._log.entry(story)
        if entry is None or not (agency in entry["agencies"] or agency in entry["follow_up"]):
            return None  # given later, by a backfill: by which policy is not noted here
        identity = entry.get("fields", {}).get(agency, "")
        if not identity:
            return []
        documents = {
            policy_id(row["fields"]): row["fields"] for row in self._grants.list() if row["fields"] is not None
        }
        return [policy_of(identity, documents)]

    def _read(self, value: bytes, policies: Sequence[FieldPolicy]) -> Mapping[str, Any]:
        own = Unregistered(self._registry)
        for policy in policies:
            value = Redactor(own, partial(_itself, policy)).redact(value, policy.id)[0]
        found: Mapping[str, Any] = to_jsonable(Codec(own).decode(value).data)
        return found


def _itself(policy: FieldPolicy, _identity: str) -> FieldPolicy:
    return policy


def _outcomes(policies: Sequence[FieldPolicy], contract: EventContract) -> Mapping[str, str]:
    return policies[0].listing(contract.schema) if policies else {}


def _field(field: Schema, data: Mapping[str, Any], language: Language, granted: Mapping[str, str]) -> Shown | None:
    """Return a field as it is shown; None for one that its reader was not given."""
    name, level = field["name"], field["sensitivity"]
    label = field_label(field, language)
    if granted.get(name) == "drop" and name not in data:
        return None
    if name not in data:
        return Shown(name, label, None, level, hidden=level in GUARDED)
    value = data[name]
    if value is None or value in ([], ""):
        return Shown(name, label, None, level)
    several = isinstance(value, list) and all(isinstance(one, str) for one in value)
    if isinstance(value, str) or several:
        text = ("、" if language == "zh" else ", ").join(
            symbol_name(field, one, language) for one in ([value] if isinstance(value, str) else value)
        )
    else:
        text = orjson.dumps(value).decode()
    return Shown(name, label, text[:LONGEST], level)

"""The configuration that processes follow: agencies, subscriptions and departments, folded from the control topics.

Keys are ``agency/<id>``, ``subscription/<id>``, ``policy/<id>``, ``access/<id>``, ``department/<id>`` and
``park/<agency>/<cursor>`` (an event that somebody wants parked); values are JSON; a null value removes. A field policy
stays for ever under the id that its content gives it, so that a follow-up can go by the policy that its original went
by. What an entry says beyond what is known here is left out: it may come from a later version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from hashlib import blake2b
from threading import Lock
from typing import Any, TypeVar

import orjson
import structlog

from schemas.receipts import Channel
from services.identity.access import Access

log = structlog.get_logger()
T = TypeVar("T")
D = TypeVar("D", "Agency", "Subscription", "Department")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs an agency's deliveries, sealed, and when it ends by itself."""

    id: str
    sealed: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Agency:
    """A receiving agency (接收单位): where its feed is pushed, signed with which keys, and how it wants it.

    ``delivery`` is what differs from the installation's settings (see :mod:`services.delivery.profile`); a webhook
    that is not ``verified`` yet has not answered the signed challenge, and gets nothing until it has.
    """

    id: str
    name: str
    division: str
    sink: str
    keys: Sequence[SigningKey] = ()
    delivery: Mapping[str, Any] = field(default_factory=dict)
    verified: bool = True
    state: str = "active"
    version: int = 1


@dataclass(frozen=True, slots=True)
class Subscription:
    """A grant (订阅) as it stands: types, filters of CloudEvents Subscriptions, and its legal part.

    ``fields`` is its field policy (None: whole events). ``divisions`` are the prefixes of division codes it reaches
    (none: the agency's own). ``forward_to`` names agencies that it may be passed on to. ``backfill_from``: it begins in
    the past. ``replaces`` is the grant whose place it took. ``state`` is the one decided; what time does to it needs no
    record.
    """

    id: str
    agency: str
    types: Sequence[str]
    filters: Sequence[Mapping[str, Any]] = ()
    state: str = "active"
    version: int = 1
    basis: str = ""
    scene: str = ""
    scope: str = ""
    method: str = ""
    valid_from: str | None = None
    valid_until: str | None = None
    backfill_from: str | None = None
    fields: Mapping[str, Any] | None = None
    divisions: Sequence[str] = ()
    forward_to: Sequence[str] = ()
    replaces: str | None = None

    def begins_at(self) -> datetime | None:
        """Return when it begins by itself, None for at once."""
        return datetime.fromisoformat(self.valid_from) if self.valid_from else None

    def expires_at(self) -> datetime | None:
        """Return when it ends by itself, None for never."""
        return datetime.fromisoformat(self.valid_until) if self.valid_until else None

    def policy(self) -> str:
        """Return the id of its field policy, empty for whole events."""
        return policy_id(self.fields) if self.fields is not None else ""


def policy_id(fields: Mapping[str, Any]) -> str:
    """Return the id of a field policy: the same for the same content, in whatever order it is written."""
    content = {name: sorted(value) for name, value in fields.items() if value or name == "levels"}
    return blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=6).hexdigest()


@dataclass(frozen=True, slots=True)
class Key:
    """A department's key: its digest (SHA-256, hex), and when it ends by itself."""

    id: str
    digest: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Department:
    """A publishing department: the source it publishes under, its keys, the types and divisions it may publish.

    ``divisions`` maps a type, or ``*`` for every type, to prefixes of division codes (GB/T 2260); where neither is
    named the whole country is allowed. ``rate_per_s`` and ``burst`` (events) are None where the gateway's own hold.
    """

    id: str
    name: str
    source: str
    types: Sequence[str]
    keys: Sequence[Key] = ()
    divisions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    client_id: str | None = None
    rate_per_s: float | None = None
    burst: int | None = None
    version: int = 1

    def prefixes(self, event_type: str) -> Sequence[str]:
        """Return the division prefixes that a type is limited to; none: not limited."""
        return self.divisions.get(event_type, self.divisions.get("*", ()))


def _department(entry: Mapping[str, Any]) -> Department:
    """Read a department; a document from before keys could be rotated holds one ``key_hash``."""
    rest = dict(entry)
    held = rest.pop("keys", None)
    digest = rest.pop("key_hash", None)
    held = held if held is not None else [{"id": "key-1", "digest": digest}]
    keys = [
        Key(k["id"], k["digest"], datetime.fromisoformat(k["expires_at"]) if k.get("expires_at") else None)
        for k in held
    ]
    return _known(Department, rest | {"keys": keys})


@dataclass(frozen=True, slots=True)
class ParkOrder:
    """Somebody wants an event parked: why, and which, by its message id. Its place may be another's by and by."""

    reason: str
    event: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The configuration at one position of its topic: whatever was written before ``position`` is in it."""

    position: int
    agencies: Mapping[str, Agency]
    subscriptions: Mapping[str, Subscription]
    policies: Mapping[str, Mapping[str, Any]]


@dataclass(slots=True)
class ControlView:
    """What the control topics say. ``version`` rises with every change that was taken in."""

    agencies: dict[str, Agency] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    departments: dict[str, Department] = field(default_factory=dict)
    policies: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    access: dict[str, Access] = field(default_factory=dict)
    parks: dict[str, Mapping[int, ParkOrder]] = field(default_factory=dict)
    version: int = 0
    position: int = 0
    _lock: Lock = field(default_factory=Lock)

    def take(self, key: str, value: bytes | None, offset: int) -> None:
        """Take in the record at this offset of the topic that positions are told by."""
        with self._lock:
            self.apply(key, value)
            self.position = offset + 1

    def snapshot(self) -> Snapshot:
        """Return the configuration of one moment."""
        with self._lock:
            return Snapshot(self.position, dict(self.agencies), dict(self.subscriptions), dict(self.policies))

    def apply(self, key: str, value: bytes | None) -> bool:
        """Take in one record; tells whether it was one of ours. What can't be read is logged and left out."""
        kind, _, name = key.partition("/")
        try:
            known = self._apply(kind, name, _object(value) if value is not None else None)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.error("control_record_refused", key=key, error=str(error))
            return False
        self.version += known
        return known

    def _apply(self, kind: str, name: str, entry: dict[str, Any] | None) -> bool:
        match kind:
            case "agency":
                _put(self.agencies, name, _agency(entry) if entry else None)
            case "subscription":
                _put(self.subscriptions, name, _known(Subscription, entry) if entry else None)
            case "policy":
                _put(self.policies, name, entry)
            case "access":
                _put(self.access, name, Access.from_json(entry) if entry else None)
            case "park":
                agency, _, cursor = name.partition("/")
                held = {at: order for at, order in self.parks.get(agency, {}).items() if at != int(cursor)}
                wanted = {int(cursor): ParkOrder(str(entry["reason"]), str(entry.get("event")))} if entry else {}
                self.parks[agency] = held | wanted
            case "department":
                _put(self.departments, name, _department(entry) if entry else None)
            case _:
                return False
        return True

    def channel(self, agency: str) -> Channel:
        """Return by which channel an agency takes its feed now."""
        held = self.access.get(agency)
        return held.channel if held else "webhook"

    def held(self, agency: str) -> str | None:
        """Return why an agency gets nothing by decision now, None when it does.

        Grants hold no line: what came by a stopped one is kept back event by event (see ``stopping``), and follow-ups
        are owed whatever has become of a grant.
        """
        found = self.agencies.get(agency)
        if found is None or found.state != "active":
            return "接收单位已暂停 (the agency is suspended)"
        return None

    def active_agencies(self) -> frozenset[str]:
        """Return the agencies that are active and have an active subscription."""
        served = {s.agency for s in self.subscriptions.values() if s.state == "active"}
        return frozenset(a.id for a in self.agencies.values() if a.state == "active" and a.id in served)


def _agency(entry: Mapping[str, Any]) -> Agency:
    """Read an agency; a document from before keys could be rotated holds one sealed ``secret``."""
    held = entry.get("keys", [{"id": "sec-1", "sealed": entry.get("secret")}])
    ends = [datetime.fromisoformat(key["expires_at"]) if key.get("expires_at") else None for key in held]
    keys = [SigningKey(key["id"], key["sealed"], end) for key, end in zip(held, ends, strict=True)]
    return replace(_known(Agency, {**entry, "keys": ()}), keys=keys)


def _known(kind: type[D], entry: Mapping[str, Any]) -> D:
    names = {one.name for one in fields(kind)}
    return kind(**{name: value for name, value in entry.items() if name in names})


def _object(value: bytes) -> dict[str, Any]:
    found = orjson.loads(value)
    if not isinstance(found, dict):
        raise TypeError(f"an object is needed, not {type(found).__name__}")
    return found


def _put(held: dict[str, T], name: str, entry: T | None) -> None:
    if entry is None:
        held.pop(name, None)
    else:
        held[name] = entry

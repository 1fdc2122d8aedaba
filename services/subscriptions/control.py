"""The configuration that processes follow: agencies, subscriptions and departments, folded from the control topics.

Keys are ``agency/<id>``, ``subscription/<id>`` and ``department/<id>``; values are JSON; a null value removes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import orjson
import structlog

log = structlog.get_logger()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Agency:
    """A receiving agency (接收单位): where its feed is pushed, and the sealed secret that signs it."""

    id: str
    name: str
    division: str
    sink: str
    secret: str
    state: str = "active"
    version: int = 1


@dataclass(frozen=True, slots=True)
class Subscription:
    """A grant (订阅) as it stands: types, filters of CloudEvents Subscriptions, and its legal part."""

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
    valid_until: str | None = None

    def expires_at(self) -> datetime | None:
        """Return when it ends by itself, None for never."""
        return datetime.fromisoformat(self.valid_until) if self.valid_until else None


@dataclass(frozen=True, slots=True)
class Department:
    """A publishing department: the source it publishes under, the digest of its key, the types it may publish."""

    id: str
    name: str
    source: str
    key_hash: str
    types: Sequence[str]


@dataclass(slots=True)
class ControlView:
    """What the control topics say. ``version`` rises with every change that was taken in."""

    agencies: dict[str, Agency] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    departments: dict[str, Department] = field(default_factory=dict)
    version: int = 0

    def apply(self, key: str, value: bytes | None) -> bool:
        """Take in one record; tells whether it was one of ours. What can't be read is logged and left out."""
        kind, _, name = key.partition("/")
        try:
            known = self._apply(kind, name, orjson.loads(value) if value is not None else None)
        except (ValueError, TypeError) as error:
            log.error("control_record_refused", key=key, error=str(error))
            return False
        self.version += known
        return known

    def _apply(self, kind: str, name: str, entry: dict[str, Any] | None) -> bool:
        match kind:
            case "agency":
                _put(self.agencies, name, Agency(**entry) if entry else None)
            case "subscription":
                _put(self.subscriptions, name, Subscription(**entry) if entry else None)
            case "department":
                _put(self.departments, name, Department(**entry) if entry else None)
            case _:
                return False
        return True

    def active_agencies(self) -> frozenset[str]:
        """Return the agencies that are active and have an active subscription."""
        served = {s.agency for s in self.subscriptions.values() if s.state == "active"}
        return frozenset(a.id for a in self.agencies.values() if a.state == "active" and a.id in served)


def _put(held: dict[str, T], name: str, entry: T | None) -> None:
    if entry is None:
        held.pop(name, None)
    else:
        held[name] = entry

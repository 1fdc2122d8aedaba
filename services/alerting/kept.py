"""What must outlive the process, as records of one compacted topic: groups with what was told, silences, counts.

In Kafka and not in PostgreSQL: pushing depends on Kafka alone, and so does telling people that PostgreSQL is away.
Keys are ``group/<kind>/<subject>``, ``alert/<key>`` (open ones), ``silence/<id>`` and ``position`` (up to where
``ops.alerts`` is in them), all in partition 0, and ``burn/<subject>`` in partition 1, which people's questions need not
read. A null value removes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

import orjson
import structlog

from services.alerting.burn import Ledger
from services.alerting.groups import Group, Told
from services.alerting.silences import Silence
from services.runtime.alerts import Alert, AlertKind

log = structlog.get_logger()
GROUP, ALERT, SILENCE, BURN, POSITION = "group/", "alert/", "silence/", "burn/", "position"
STATE, COUNTS = 0, 1
"""The topic's partitions."""


@dataclass(slots=True)
class Kept:
    """Everything that the topic says."""

    groups: dict[str, Group] = field(default_factory=dict)
    alerts: dict[str, Alert] = field(default_factory=dict)
    silences: dict[str, Silence] = field(default_factory=dict)
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    position: int = 0

    def assembled(self) -> dict[str, Group]:
        """Return the groups with the alerts that are open in them."""
        groups = dict(self.groups)
        for alert in self.alerts.values():
            group = groups.get(alert.group)
            if group is None:
                group = Group(alert.kind, alert.subject, datetime.fromisoformat(alert.at), {})
            if group.closed_at is None:
                groups[alert.group] = replace(group, alerts={**group.alerts, alert.key: alert})
        return {name: group for name, group in groups.items() if group.alerts}

    def take(self, key: str, value: bytes | None) -> None:
        """Take in one record. What can't be read is logged and left out: it may come from a later version."""
        try:
            self._take(key, value)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.error("kept_record_refused", key=key, error=str(error))

    def _take(self, key: str, value: bytes | None) -> None:
        if key == POSITION:
            self.position = int(orjson.loads(value or b"0"))
        elif key.startswith(ALERT):
            _put(self.alerts, key.removeprefix(ALERT), Alert.from_bytes(value) if value else None)
        elif key.startswith(GROUP):
            _put(self.groups, key.removeprefix(GROUP), group_of(orjson.loads(value)) if value else None)
        elif key.startswith(SILENCE):
            _put(self.silences, key.removeprefix(SILENCE), Silence.from_json(orjson.loads(value)) if value else None)
        elif key.startswith(BURN):
            _put(self.ledgers, key.removeprefix(BURN), Ledger.from_json(orjson.loads(value)) if value else None)


def _put(held: dict[str, Any], name: str, entry: object | None) -> None:
    if entry is None:
        held.pop(name, None)
    else:
        held[name] = entry


def group_bytes(group: Group) -> bytes:
    """Return a group as a record's value, without open alerts: there may be many, and each has a record of its own."""
    kept = group if group.closed_at is not None else replace(group, alerts={})
    return orjson.dumps(asdict(kept))


def group_of(entry: Mapping[str, Any]) -> Group:
    """Read a group; raises ValueError, TypeError or KeyError."""
    alerts = {key: Alert(**one | {"kind": AlertKind(one["kind"])}) for key, one in entry["alerts"].items()}
    told = {
        way: Told(**one | {"at": _moment(one["at"]), "tried_at": _moment(one["tried_at"])})
        for way, one in entry["told"].items()
    }
    times = {"opened_at": datetime.fromisoformat(entry["opened_at"]), "closed_at": _moment(entry["closed_at"])}
    return Group(**{**entry, **times, "kind": AlertKind(entry["kind"]), "alerts": alerts, "told": told})


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None

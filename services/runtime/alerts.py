"""Alerts: what somebody must see. Every give-up is one, as a record on ``ops.alerts``; who is told is decided there.

An alert is raised by the process that meets the trouble and closed by the one that sees it end; the key says which
belong together. Kinds are spelled here once, with what it means and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

import orjson


class AlertKind(StrEnum):
    """What happened."""

    EVENT_PARKED = "event-parked"
    EVENT_UNDECODABLE = "event-undecodable"
    LINE_HELD = "line-held"
    AGENCY_GONE = "agency-gone"
    RECEIVER_UNUSABLE = "receiver-unusable"
    POLICY_FAILED = "policy-failed"
    GRANT_IMPAIRED = "grant-impaired"
    FEED_UNGUARDED = "feed-unguarded"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a kind means to people, and what they do about it."""

    title: str
    action: str
    severity: Literal["warning", "critical"]


MEANINGS: Mapping[AlertKind, Meaning] = {
    AlertKind.EVENT_PARKED: Meaning(
        "接收单位拒收一个事件，已停放 (an event was refused and is parked)",
        "与接收单位核对原因，修正后执行 hongyan parked replay (settle the reason, then replay it)",
        "critical",
    ),
    AlertKind.EVENT_UNDECODABLE: Meaning(
        "一个事件无法解码，已停放并进入死信 (an event can't be decoded; parked and dead-lettered)",
        "查看 hongyan deadletter list，更正后重新提交 (correct the dead letter and resubmit it)",
        "critical",
    ),
    AlertKind.LINE_HELD: Meaning(
        "接收单位无应答或暂不接收，队列保持，事件不丢 (a receiver is away; its line is held, nothing is lost)",
        "联系接收单位恢复服务；恢复后自动续推 (have the receiver brought back; delivery goes on by itself)",
        "warning",
    ),
    AlertKind.AGENCY_GONE: Meaning(
        "接收单位答复 410，已请求暂停 (a receiver answered 410; its suspension was asked for)",
        "与接收单位确认；恢复执行 hongyan agency resume (ask the agency; resume when it is right)",
        "critical",
    ),
    AlertKind.RECEIVER_UNUSABLE: Meaning(
        "接收单位的密钥或投递设置不可用，队列保持 (an agency's keys or delivery settings can't be used)",
        "换发密钥或更正投递设置：hongyan agency rotate-key、set-delivery (mend them)",
        "critical",
    ),
    AlertKind.POLICY_FAILED: Meaning(
        "事件不能按一个单位的字段策略写成，未送该单位，别的单位照常 (an event can't be written under a field policy)",
        "更正订阅的字段策略（取代），再补送：hongyan subscription draft --replaces --backfill-from (replace the grant)",
        "critical",
    ),
    AlertKind.GRANT_IMPAIRED: Meaning(
        "模式演进后，订阅所列的类型、属性或字段不复存在 (a later schema has taken away what a grant names)",
        "查看 hongyan subscription show，由申请单位另行申请取代 (look at it, and replace it)",
        "warning",
    ),
    AlertKind.FEED_UNGUARDED: Meaning(
        "Kafka 未收回一个单位直读队列的权限，它可能读到已停发的事件 (Kafka did not take a right to read away)",
        "检查 Kafka 的 authorizer 与本系统用户的权限；在此之前从网络上断开该单位 (see to the broker's authoriser)",
        "critical",
    ),
}


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert, or its end. ``subject`` is the agency; ``labels`` say which event; ``at`` is RFC 3339."""

    kind: AlertKind
    subject: str
    at: str
    detail: str
    state: Literal["open", "closed"] = "open"
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return what this alert and its end have in common."""
        return "/".join([self.kind, self.subject, *(f"{n}={v}" for n, v in sorted(self.labels.items()))])

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, with what it means."""
        return asdict(self) | {"key": self.key} | asdict(MEANINGS[self.kind])

    def to_bytes(self) -> bytes:
        """Return the record's value."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_bytes(cls, value: bytes | None) -> Alert:
        """Read a record's value; raises ValueError for what is no alert."""
        try:
            entry = orjson.loads(value or b"")
            return cls(**entry | {"kind": AlertKind(entry["kind"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"no alert: {error}") from error


def current(alerts: Iterable[Alert]) -> list[Alert]:
    """Return the newest state of each alert, newest first."""
    held: dict[str, Alert] = {}
    for alert in alerts:
        held.pop(alert.key, None)
        held[alert.key] = alert
    return list(reversed(held.values()))

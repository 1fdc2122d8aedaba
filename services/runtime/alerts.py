"""Alerts: what somebody must see. Every give-up is one, as a record on ``ops.alerts``; who is told is decided there.

An alert is raised by the process that meets the trouble and closed by the one that sees it end; the key says which
belong together. Kinds are spelled here once, with what it means and what to do. Whatever was raised and never closed
(a process was killed in between) is closed by the alerter, which looks at how things stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

import orjson

Severity = Literal["warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("warning", "critical")
"""In rising order."""
SEVERITY_NAMES: Mapping[Severity, str] = {"warning": "警告", "critical": "紧急"}
"""What people read, in a mail, at a terminal and on a page alike."""
Telling = Literal["at once", "afterwards", "never"]
"""When an agency is told of an alert about itself on its own feed: one about the feed's own delivery can't go by it."""


class AlertKind(StrEnum):
    """What happened."""

    EVENT_PARKED = "event-parked"
    EVENT_UNDECODABLE = "event-undecodable"
    LINE_HELD = "line-held"
    AGENCY_GONE = "agency-gone"
    RECEIVER_UNUSABLE = "receiver-unusable"
    FEED_GAP = "feed-gap"
    POLICY_FAILED = "policy-failed"
    GRANT_IMPAIRED = "grant-impaired"
    FEED_UNGUARDED = "feed-unguarded"
    AGENCY_BEHIND = "agency-behind"
    LAG_BURNING = "lag-burning"
    DEAD_LETTERS = "dead-letters"
    FOLLOW_UP_DUE = "follow-up-due"
    CERTIFICATE_ENDING = "certificate-ending"
    KEY_ENDING = "key-ending"
    GRANT_ENDING = "grant-ending"
    PROBE_FAILED = "probe-failed"
    GROUP_TROUBLED = "group-troubled"
    TOPIC_UNWRITABLE = "topic-unwritable"
    TRANSACTION_OPEN = "transaction-open"
    DISK_FILLING = "disk-filling"
    SERVER_AWAY = "server-away"
    LOOK_FAILING = "look-failing"
    FACTS_LOST = "facts-lost"
    WAY_FAILING = "way-failing"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a kind means to people, what they do about it, and when the agency is told that it is about."""

    title: str
    action: str
    severity: Severity
    agency: Telling = "never"
    commands: tuple[str, ...] = ("hongyan alerts",)
    """What to run, exactly; ``{subject}`` stands for whom the alert is about."""

    def commands_for(self, subject: str) -> list[str]:
        """Return the commands about this subject."""
        return [command.format(subject=subject) for command in self.commands]


MEANINGS: Mapping[AlertKind, Meaning] = {
    AlertKind.EVENT_PARKED: Meaning(
        "接收单位拒收一个事件，已停放 (an event was refused and is parked)",
        "与接收单位核对原因，修正后执行 hongyan parked replay (settle the reason, then replay it)",
        "critical",
        "at once",
        commands=(
            "hongyan parked list {subject}",
            "hongyan parked replay {subject} --all --reason …",
        ),
    ),
    AlertKind.EVENT_UNDECODABLE: Meaning(
        "一个事件无法解码，已停放并进入死信 (an event can't be decoded; parked and dead-lettered)",
        "查看 hongyan deadletter list，更正后重新提交 (correct the dead letter and resubmit it)",
        "critical",
        "at once",
        commands=(
            "hongyan deadletter list --stage pusher --state open",
            "hongyan parked list {subject}",
        ),
    ),
    AlertKind.LINE_HELD: Meaning(
        "接收单位无应答或暂不接收，队列保持，事件不丢 (a receiver is away; its line is held, nothing is lost)",
        "联系接收单位恢复服务；恢复后自动续推 (have the receiver brought back; delivery goes on by itself)",
        "warning",
        "afterwards",
        commands=(
            "hongyan lag",
            "hongyan agency test {subject}",
        ),
    ),
    AlertKind.AGENCY_GONE: Meaning(
        "接收单位答复 410，已请求暂停 (a receiver answered 410; its suspension was asked for)",
        "与接收单位确认；恢复执行 hongyan agency resume (ask the agency; resume when it is right)",
        "critical",
        "afterwards",
        commands=(
            "hongyan agency show {subject}",
            "hongyan agency resume {subject} --reason …",
        ),
    ),
    AlertKind.RECEIVER_UNUSABLE: Meaning(
        "接收单位的密钥或投递设置不可用，队列保持 (an agency's keys or delivery settings can't be used)",
        "换发密钥或更正投递设置：hongyan agency rotate-key、set-delivery (mend them)",
        "critical",
        "afterwards",
        commands=(
            "hongyan agency show {subject}",
            "hongyan agency rotate-key {subject} --reason …",
        ),
    ),
    AlertKind.FEED_GAP: Meaning(
        "单位的游标与队列日志对不上：越过末尾、低于保留期，或主题被删除 (an agency's cursor is not on its feed's log)",
        "保持的用 hongyan feed go-on 定从何处续推；已续推的补送后用 hongyan feed seen 销号 (decide, or make good)",
        "critical",
        "afterwards",
        commands=(
            "hongyan agency show {subject}",
            "hongyan feed go-on {subject} --at … --reason …",
            "hongyan feed seen {subject} --reason …",
        ),
    ),
    AlertKind.POLICY_FAILED: Meaning(
        "事件不能按一个单位的字段策略写成，未送该单位，别的单位照常 (an event can't be written under a field policy)",
        "更正订阅的字段策略（取代），再补送：hongyan subscription draft --replaces --backfill-from (replace the grant)",
        "critical",
        "at once",
        commands=("hongyan subscription list",),
    ),
    AlertKind.GRANT_IMPAIRED: Meaning(
        "模式演进后，订阅所列的类型、属性或字段不复存在 (a later schema has taken away what a grant names)",
        "查看 hongyan subscription show，由申请单位另行申请取代 (look at it, and replace it)",
        "warning",
        "at once",
        commands=("hongyan subscription list",),
    ),
    AlertKind.FEED_UNGUARDED: Meaning(
        "直读权限未能给予或收回，或单位的客户端占着消费组 (a direct reader of Kafka is not guarded)",
        "检查 Kafka 的 authorizer 与本系统的权限；在此之前断开该单位的客户端 (see to the authoriser)",
        "critical",
        commands=("hongyan agency show {subject}",),
    ),
    AlertKind.AGENCY_BEHIND: Meaning(
        "接收单位有事件久未取走 (an agency has not taken an event for long)",
        "查看 hongyan lag；推送的联系接收端，拉取的请其取数并回执"
        " (see hongyan lag; have the receiver mended, or have who pulls fetch and acknowledge)",
        "warning",
        "afterwards",
        commands=(
            "hongyan lag",
            "hongyan agency show {subject}",
        ),
    ),
    AlertKind.LAG_BURNING: Meaning(
        "按时送达的比例低于目标，误差预算消耗过快 (too many deliveries miss the objective: its error budget burns)",
        "查看 hongyan lag 找出慢在哪里：接收端、消费组还是机器 (see hongyan lag: receiver, consumer group or machine)",
        "warning",
        "afterwards",
        commands=("hongyan lag --all",),
    ),
    AlertKind.DEAD_LETTERS: Meaning(
        "有死信未处理 (dead letters wait for somebody)",
        "查看 hongyan deadletter list，更正后 hongyan deadletter resubmit (correct and resubmit them)",
        "critical",
        commands=("hongyan deadletter list --stage {subject} --state open",),
    ),
    AlertKind.FOLLOW_UP_DUE: Meaning(
        "后续事件临近或已过法定时限，仍未回执 (follow-ups unacknowledged near or past their legal deadline)",
        "查看 hongyan follow-ups，催接收单位提交业务回执 (see hongyan follow-ups; ask the agency for its receipt)",
        "warning",
        "at once",
        commands=("hongyan follow-ups",),
    ),
    AlertKind.CERTIFICATE_ENDING: Meaning(
        "证书即将到期 (a certificate is about to end)",
        "换证书：客户端证书用 hongyan agency set-delivery，接收端证书请接收单位更换 (renew it)",
        "warning",
        "at once",
        commands=(
            "hongyan agency show {subject}",
            "hongyan agency set-delivery {subject} @delivery.json --reason …",
        ),
    ),
    AlertKind.KEY_ENDING: Meaning(
        "密钥或令牌即将到期，且没有后继 (a key or token is about to end, with none after it)",
        "换发新的，按密钥的种类选一条命令；令牌用 set-delivery (give out a new one)",
        "warning",
        "at once",
        commands=(
            "hongyan agency rotate-key {subject} --reason …",
            "hongyan agency key add {subject} --reason …",
            "hongyan department key rotate {subject} --reason …",
        ),
    ),
    AlertKind.GRANT_ENDING: Meaning(
        "订阅即将到期 (a grant is about to end)",
        "确需继续的，由申请单位申请取代：hongyan subscription draft --replaces (apply for its replacement)",
        "warning",
        "at once",
        commands=("hongyan subscription list",),
    ),
    AlertKind.PROBE_FAILED: Meaning(
        "全程探测失败：网关、路由或推送有一处不通 (the end-to-end probe fails)",
        "查看 hongyan top 与各进程 /health；日志在数据目录的 logs 下 (see hongyan top and the processes' /health)",
        "critical",
        commands=("hongyan lag --all",),
    ),
    AlertKind.GROUP_TROUBLED: Meaning(
        "消费组停止、停滞、回退或跟不上 (a consumer group is stopped, stalled, rewound or too slow)",
        "查看 hongyan lag --all 与该进程日志，必要时重启或增开该进程 (see its log; restart it or start one more)",
        "critical",
        commands=("hongyan lag --all",),
    ),
    AlertKind.TOPIC_UNWRITABLE: Meaning(
        "一个主题写不进：停放的事件或回执等着它，队列会停住，事件不丢 (a topic can't be written to)",
        "按原因补建主题或给予写权限；好了自动补写、续推 (create the topic or give the right that the reason names)",
        "warning",
        commands=(
            "hongyan alerts",
            "hongyan lag --all",
        ),
    ),
    AlertKind.TRANSACTION_OPEN: Meaning(
        "一个主题上有事务不结束，其后的记录谁也读不到 (a transaction never ends: what stands after it can't be read)",
        "照 docs/operate.md 的“事务不结束”处置；此间不要重启路由 (as docs/operate.md says; don't restart the router)",
        "critical",
        commands=(
            "hongyan lag --all",
            "hongyan alerts",
        ),
    ),
    AlertKind.DISK_FILLING: Meaning(
        "磁盘或数据库空间将尽 (a disk or the database is filling up)",
        "扩容，或调整保留期限：hongyan ledger trim (add space, or keep less)",
        "critical",
        commands=("df -h",),
    ),
    AlertKind.SERVER_AWAY: Meaning(
        "所依赖的服务没有应答 (a server that is needed does not answer)",
        "恢复该服务；恢复后各进程自动继续，事件不丢 (bring it back; everything goes on by itself)",
        "critical",
        commands=("hongyan lag",),
    ),
    AlertKind.LOOK_FAILING: Meaning(
        "一项查看失败，服务却在应答；靠它判断的告警此时看不出来 (a look fails, though the servers answer)",
        "按原因更正权限或设置，或看该进程的日志；好了自动继续判断 (mend the rights or settings that the reason names)",
        "critical",
        commands=(
            "hongyan alerts",
            "hongyan lag",
        ),
    ),
    AlertKind.FACTS_LOST: Meaning(
        "已关账月份有记录不在日志中，不能重新统计；公布数不变 (a closed month can't be counted again)",
        "查看 hongyan statistics coverage；有备份的恢复统计库，并核对 Kafka 的保留期 (restore the store from a backup)",
        "critical",
        commands=(
            "hongyan statistics coverage",
            "hongyan statistics verify {subject}",
        ),
    ),
    AlertKind.WAY_FAILING: Meaning(
        "告警送不出去 (alerts can't be sent by one of their ways)",
        "执行 hongyan alerts test 查明原因 (find out why with hongyan alerts test)",
        "critical",
        commands=("hongyan alerts test",),
    ),
}


OF_AGENCIES = frozenset(
    {
        AlertKind.EVENT_PARKED,
        AlertKind.EVENT_UNDECODABLE,
        AlertKind.LINE_HELD,
        AlertKind.AGENCY_GONE,
        AlertKind.RECEIVER_UNUSABLE,
        AlertKind.FEED_GAP,
        AlertKind.POLICY_FAILED,
        AlertKind.GRANT_IMPAIRED,
        AlertKind.FEED_UNGUARDED,
        AlertKind.AGENCY_BEHIND,
        AlertKind.FOLLOW_UP_DUE,
        AlertKind.CERTIFICATE_ENDING,
        AlertKind.GRANT_ENDING,
    }
)
"""Kinds whose subject is always an agency: with it, they end."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert, or its end. ``subject`` is the agency, or what else it is about; ``labels`` say which event.

    ``at`` is RFC 3339. ``severity`` is the kind's own where it is None; ``size`` counts what is wrong.
    """

    kind: AlertKind
    subject: str
    at: str
    detail: str
    state: Literal["open", "closed"] = "open"
    labels: Mapping[str, str] = field(default_factory=dict)
    severity: Severity | None = None
    size: int = 1

    @property
    def key(self) -> str:
        """Return what this alert and its end have in common."""
        return "/".join([self.kind, self.subject, *(f"{n}={v}" for n, v in sorted(self.labels.items()))])

    @property
    def group(self) -> str:
        """Return what alerts have in common that people are told of together."""
        return f"{self.kind}/{self.subject}"

    @property
    def weight(self) -> Severity:
        """Return its severity, or its kind's."""
        return self.severity or MEANINGS[self.kind].severity

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, with what it means."""
        meaning = MEANINGS[self.kind]
        told = {
            "title": meaning.title,
            "action": meaning.action,
            "commands": meaning.commands_for(self.subject),
            "severity": self.weight,
        }
        return asdict(self) | {"key": self.key} | told

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

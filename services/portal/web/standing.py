"""How an agency stands, for people: its configuration and its lag put together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.delivery.lag import AgencyLag
from services.portal.web.flow import Look
from services.portal.web.wording import Text

STATES: Mapping[str, tuple[Look, Text, Text]] = {
    "ok": ("ok", Text("正常"), Text("按时送达")),
    "catching-up": ("warn", Text("追赶中"), Text("有积压，正在减少")),
    "slow": ("warn", Text("偏慢"), Text("在送，但来得更快，积压在涨")),
    "stalled": ("bad", Text("停滞"), Text("取件方在，但没有前进")),
    "stopped": ("bad", Text("停止"), Text("没有进程在推，或取件方没有来取、取了没有回执")),
    "rewound": ("warn", Text("回退"), Text("游标被拨回，正在重读")),
    "held": ("bad", Text("保持"), Text("接收端不应答，队列保持，事件不丢")),
    "parked": ("bad", Text("停放"), Text("最近送的没有收下，已停放，还没有人处理")),
    "unknown": ("off", Text("观察中"), Text("刚开始观察，尚不能判断")),
    "suspended": ("off", Text("已暂停"), Text("由人决定或因接收端答 410 而暂停，事件留在队列")),
    "unverified": ("bad", Text("待验证"), Text("接收端还没有答对签名质询，不推送")),
    "unseen": ("off", Text("无数据"), Text("监视进程还没有它的数据")),
}
"""Each state with how it looks, its name, and what it means."""

TO_DO: Mapping[str, tuple[Text, Text]] = {
    "slow": (
        Text("看接收端应答是否变慢；请单位加快处理。"),
        Text("请看接收端应答是否变慢，必要时加快处理。"),
    ),
    "stalled": (
        Text("请单位检查取件程序；推送的看推送进程的日志。"),
        Text("请检查取件程序：它在线，但没有前进。"),
    ),
    "stopped": (
        Text("看推送进程是否在工作；自己取件的请单位取数并回执。"),
        Text("自己取件的请恢复取件程序；推送的由系统管理员处理。"),
    ),
    "rewound": (
        Text("向单位确认是否有意重读；不用处理，读完自动恢复。"),
        Text("正在重读已取过的事件；不是有意的，请联系系统管理员。"),
    ),
    "held": (
        Text("联系单位恢复接收端，可先试投递；恢复后自动续推，不用重放。"),
        Text("请恢复接收端，再点“试投递”验证；恢复后自动续推，不用重放。"),
    ),
    "parked": (
        Text("看停放的理由，与单位核对接收端的应答，更正后重放。"),
        Text("请看接收端为何拒收（应答 4xx），更正后由系统管理员重放。"),
    ),
    "suspended": (
        Text("看暂停的理由，解决后在下面恢复推送。"),
        Text("请联系系统管理员，解决后由他们恢复，事件不丢。"),
    ),
    "unverified": (
        Text("请单位按质询作答，再点“发送签名质询”。"),
        Text("请让接收端答对签名质询，再请系统管理员发送质询。"),
    ),
}
"""What somebody has to do, by the state: who runs the system, and the agency itself."""

CHANNELS: Mapping[str, Text] = {
    "webhook": Text("webhook 推送"),
    "pull": Text("拉取"),
    "sse": Text("流式拉取"),
    "kafka": Text("直读 Kafka"),
    "table": Text("写入数据库"),
}

_ORDER: Mapping[Look, int] = {"bad": 0, "warn": 1, "off": 2, "ok": 3}


@dataclass(frozen=True, slots=True)
class Standing:
    """One agency: its row, its lag as it was measured last (None: not measured), and its state for people."""

    row: Mapping[str, Any]
    lag: AgencyLag | None
    state: str

    @property
    def id(self) -> str:
        """Return the agency's id."""
        return str(self.row["id"])

    @property
    def look(self) -> Look:
        """Return how it looks."""
        return STATES[self.state][0]

    @property
    def troubled(self) -> bool:
        """Tell whether somebody should help it: what the lists of those who need help hold, and is counted as such."""
        return self.look in {"bad", "warn"}

    @property
    def label(self) -> Text:
        """Return its state's name."""
        return STATES[self.state][1]

    @property
    def meaning(self) -> Text:
        """Return what its state means."""
        return STATES[self.state][2]

    def to_do(self, *, own: bool) -> Text | None:
        """Return what is to be done, by the agency itself (``own``) or by who runs the system; None for nothing."""
        found = TO_DO.get(self.state)
        return None if found is None else found[1 if own else 0]

    @property
    def channel(self) -> Text:
        """Return by which channel it takes its feed."""
        return CHANNELS[self.lag.channel if self.lag else "webhook"]

    @property
    def held_since(self) -> datetime | None:
        """Return since when its line is held."""
        return datetime.fromisoformat(self.lag.held_since) if self.lag and self.lag.held_since else None

    def judged_s(self, now: datetime) -> float:
        """Return over what time its share within the legal deadline is counted, in seconds."""
        return (now - datetime.fromisoformat(self.lag.deadline.since)).total_seconds() if self.lag else 0.0

    @property
    def state_since(self) -> datetime | None:
        """Return since when its line is in the state that was measured."""
        return datetime.fromisoformat(self.lag.state_since) if self.lag else None


def standing(row: Mapping[str, Any], lag: AgencyLag | None) -> Standing:
    """Return how an agency stands: what was decided goes before what was measured."""
    if row["state"] == "suspended":
        state = "suspended"
    elif row["verified_at"] is None and (lag is None or lag.channel == "webhook"):
        state = "unverified"
    elif lag is None:
        state = "unseen"
    else:
        state = lag.state if lag.state in STATES else "unknown"
    return Standing(row, lag, state)


def ranked(found: Iterable[Standing]) -> list[Standing]:
    """Return who needs help first: by state, then by the age of what waits."""
    return sorted(found, key=lambda s: (_ORDER[s.look], -((s.lag.oldest_age_s if s.lag else None) or 0.0), s.id))


@dataclass(frozen=True, slots=True)
class Totals:
    """All agencies together: how many need help, of them how many badly, what waits, and the worst.

    ``backlog`` is a lower bound where ``backlog_exact`` is false.
    """

    agencies: int
    troubled: int
    bad: int
    backlog: int
    backlog_exact: bool
    oldest_s: float | None
    delivered: int
    p95_ms: float | None


def totals(found: Iterable[Standing]) -> Totals:
    """Return the sums; ``p95_ms`` is the worst agency's."""
    all_of_them = list(found)
    lags = [one.lag for one in all_of_them if one.lag is not None]
    return Totals(
        len(all_of_them),
        sum(one.troubled for one in all_of_them),
        sum(one.look == "bad" for one in all_of_them),
        sum(lag.backlog for lag in lags),
        all(lag.backlog_exact for lag in lags),
        max((lag.oldest_age_s for lag in lags if lag.oldest_age_s is not None), default=None),
        sum(lag.latencies.delivered for lag in lags),
        max((lag.latencies.p95_ms for lag in lags if lag.latencies.p95_ms is not None), default=None),
    )

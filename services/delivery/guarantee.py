"""The tables of docs/delivery-guarantee.md that the code makes: ``python -m services.delivery.guarantee PAGE``."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from services.delivery.outcome import ABORT, HINT_HEADER, RETRY, Delivered, Gone, Later, Outcome, outcome_of
from services.delivery.profile import Wishes
from services.delivery.retry import RetryPolicy
from services.runtime.alerts import MEANINGS
from services.runtime.settings import DeliverySettings

STATUSES = (101, *range(200, 600))
RETRY_AFTER = 30
_MEANS: Mapping[type[Outcome], tuple[str, str]] = {
    Delivered: ("已收到", "写回执，游标前移"),
    Later: ("现在不行", "按间隔重试，从不放弃；要求更久的（Retry-After）照办"),
    Gone: ("不再接收", "保持队列，请求暂停该单位并告警；恢复后继续，不丢事件"),
}
_REFUSED = ("拒收这一个事件", "停放到 `parked.<单位>` 并告警；`hongyan parked replay` 可放回")


def delays() -> str:
    """Return the delays by failures in a row, with the installation's default settings."""
    policy = RetryPolicy(DeliverySettings().retry_base_s, DeliverySettings().retry_cap_s)
    rows: list[str] = []
    failures, waited = 1, 0.0
    while not rows or policy.longest_s(failures - 1) < policy.cap_s:
        longest = policy.longest_s(failures)
        waited += longest
        rows.append(f"| {failures} | {longest / 2:g} s | {longest:g} s | {waited:g} s |")
        failures += 1
    head = "| 连续失败 | 最短间隔 | 最长间隔 | 至此最久已等 |\n|---|---|---|---|"
    last = f"| 之后每次 | {policy.cap_s / 2:g} s | {policy.cap_s:g} s | |"
    return "\n".join([head, *rows, last])


def answers() -> str:
    """Return what each answer means, by evaluating every status."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    groups: dict[tuple[str, str], list[int]] = {}
    for status in STATUSES:
        outcome = outcome_of(status, str(RETRY_AFTER), now)
        means, then = _MEANS.get(type(outcome), _REFUSED)
        if isinstance(outcome, Later) and outcome.not_before_s != RETRY_AFTER:
            then = "按间隔重试，从不放弃"
        groups.setdefault((means, then), []).append(status)
    rows = [f"| {_ranges(statuses)} | {means} | {then} |" for (means, then), statuses in groups.items()]
    later, refused = _MEANS[Later], _REFUSED
    rows += [
        f"| 没有应答：超时、拒绝连接、重置、半截应答、TLS 或域名失败 | {later[0]} | {later[1]} |",
        f"| 任何错误应答带 `{HINT_HEADER}: {ABORT}`（410 除外） | {refused[0]} | {refused[1]} |",
        f"| 任何错误应答带 `{HINT_HEADER}: {RETRY}`（410 除外） | {later[0]} | {later[1]} |",
        f"| 配了令牌的单位答 401 | {later[0]} | 换新令牌再试：被拒的是令牌，不是事件 |",
    ]
    return "\n".join(["| 应答 | 含义 | 之后 |\n|---|---|---|", *rows])


def wishes() -> str:
    """Return what an agency may set, with the defaults that hold otherwise."""
    defaults = DeliverySettings()
    rows = []
    for name, field in Wishes.model_fields.items():
        default = getattr(defaults, name, field.default)
        described = DeliverySettings.model_fields.get(name)
        meaning = _WISHES.get(name) or (described.description if described else "")
        rows.append(f"| `{name}` | {'—' if default is None else f'`{default}`'} | {meaning} |")
    return "\n".join(["| 设置 | 默认 | 含义 |\n|---|---|---|", *rows])


_WISHES: Mapping[str, str] = {
    "format": "`json`（CloudEvents 结构化 JSON）或 `avro`（二进制模式，正文就是日志里的 Avro，需注册中心的 schema）",
    "batch": "一个请求最多几个事件（CloudEvents JSON 批），不多于一秒的限额；1 为逐个",
    "rate_per_s": "每秒最多几个事件，均匀发送；不填不限",
    "catch_up_per_s": "补送积压（超过一分钟的事件）时每秒最多几个：别的单位照常",
    "window": "已提交游标之后最多几个未了结的事件，即被杀后最多重复的个数",
    "concurrency": "最多几个请求同时进行",
    "timeout_s": "一次投递最久几秒",
    "connect_timeout_s": "其中建立连接（含 TLS）最久几秒",
    "retry_base_s": "第一次重试的最长间隔，秒",
    "retry_cap_s": "重试间隔的上限，秒",
    "hold_after": "连续失败几次后保持整条线，只用最早的事件试探",
    "auth": '`{"kind": "bearer", "token"}` 或 `{"kind": "oauth2", "token_url", "client_id", "client_secret", "scope"}`',
    "tls": "`ca`：签发接收端证书的 CA；`certificate`、`private_key`：对方要求的客户端证书，均为 PEM",
}


def alerts() -> str:
    """Return every kind of alert with what to do about it."""
    rows = [f"| `{kind}` | {meaning.title} | {meaning.action} |" for kind, meaning in MEANINGS.items()]
    return "\n".join(["| 告警 | 含义 | 处置 |\n|---|---|---|", *rows])


BLOCKS: Mapping[str, Callable[[], str]] = {"delays": delays, "answers": answers, "wishes": wishes, "alerts": alerts}


def filled(page: str) -> str:
    """Return a page with every generated block as the code has it."""
    pattern = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)
    return pattern.sub(lambda found: found[1] + BLOCKS[found[2]]() + "\n" + found[3], page)


def _ranges(numbers: list[int]) -> str:
    """Return numbers as text, runs as first–last."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return " ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(filled(file.read_text(encoding="utf-8")), encoding="utf-8")

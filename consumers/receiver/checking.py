"""The black-box suite that an agency's receiver passes before it goes live; each check says what to mend, for people.

All events are trials (see :mod:`services.delivery.trial`): they carry no business data, and say so.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from consumers.receiver.probing import Probe, Reply
from services.delivery.outcome import RETRIED
from services.delivery.signing import PREFIX

AT_ONCE = 20
BUSY = frozenset({429, 503})
BIG_BYTES = 1024 * 1024
OLD_S = 10 * 60


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of one check; ``milliseconds`` is its slowest answer."""

    name: str
    title: str
    passed: bool
    detail: str
    statuses: Sequence[int | None]
    milliseconds: float

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self) | {"milliseconds": round(self.milliseconds, 1)}


def check(probe: Probe) -> list[Checked]:
    """Run every check against a receiver."""
    return [run(probe) for run in CHECKS]


def _challenge(probe: Probe) -> Checked:
    word = secrets.token_urlsafe(24)
    reply = probe.challenge(word)
    good = reply.accepted and reply.json().get("challenge") == word
    return _checked(
        "challenge",
        "签名质询 (challenge)",
        good,
        [reply],
        "收到 type 为 cn.gov.sc.hongyan.endpoint.challenged 的事件，验签后答 200 和 JSON："
        '{"challenge": data.challenge 的原值} (verify, then echo data.challenge as JSON)',
    )


def _accepted(probe: Probe) -> Checked:
    reply = probe.send(probe.event())
    detail = "签名正确的事件应答 2xx；核对密钥、地址与本机时钟 (answer a genuine event with 2xx)"
    return _checked("accepted", "正常投递 (a plain delivery)", reply.accepted, [reply], detail)


def _duplicate(probe: Probe) -> Checked:
    event = probe.event()
    replies = [probe.send(event), probe.send(event, same_cursor=True)]
    detail = (
        "同一事件（webhook-id 相同）再来时也要答 2xx，只是不再处理；答 409 或 5xx 会被一直重试，后面的事件都得等"
        " (answer a repetition with 2xx too, and handle it once)"
    )
    return _checked("duplicate", "重复投递 (duplicate)", all(r.accepted for r in replies), replies, detail)


def _out_of_order(probe: Probe) -> Checked:
    newer, older = probe.event(), probe.event()
    replies = [probe.send(newer, cursor=probe.cursor + 10), probe.send(older, cursor=probe.cursor - 5)]
    detail = (
        "不同主键的事件并行投递，停放后重放的更晚到：游标变小也要接收，不要按游标拒收"
        " (cursors may come out of order: accept them)"
    )
    return _checked("out-of-order", "乱序到达 (out of order)", all(r.accepted for r in replies), replies, detail)


def _bad_signature(probe: Probe) -> Checked:
    event = probe.event()
    other = PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
    replies = [
        probe.send(event, keys=[other]),
        probe.send(event, tampered=True),
        probe.send(event, keys=[]),
    ]
    detail = (
        "签名不符、正文被改、没有签名的请求都要拒收（答 401），否则任何人都能冒充推送"
        " (refuse what is not signed with the key: 401)"
    )
    return _checked("bad-signature", "错误签名 (bad signature)", all(r.refused for r in replies), replies, detail)


def _old_timestamp(probe: Probe) -> Checked:
    replies = [probe.send(probe.event(), age_s=OLD_S), probe.send(probe.event(), age_s=-OLD_S)]
    detail = (
        "webhook-timestamp 与本机时钟相差超过 5 分钟的要拒收（答 401），防止截获后重放"
        " (refuse timestamps more than 5 minutes off: 401)"
    )
    return _checked("old-timestamp", "过期时间戳 (old timestamp)", all(r.refused for r in replies), replies, detail)


def _unknown_type(probe: Probe) -> Checked:
    reply = probe.send(probe.event(kind="cn.gov.sc.hongyan.something.new"))
    fine = reply.accepted or (reply.refused and reply.status not in RETRIED)
    detail = (
        "不认识的事件类型答 2xx（忽略）或 422（停放，由人处理），不要答 404 或 5xx：那会被一直重试"
        " (ignore an unknown type with 2xx, or refuse it with 422)"
    )
    return _checked("unknown-type", "未知类型 (unknown type)", fine, [reply], detail)


def _slow_answer(probe: Probe) -> Checked:
    events = [probe.event() for _ in range(AT_ONCE)]
    cursor = probe.cursor + 1  # one for all: whether they may come out of order is another check's question
    with ThreadPoolExecutor(AT_ONCE) as pool:
        replies = list(pool.map(lambda event: probe.send(event, cursor=cursor), events))
    fine = all((r.accepted or r.status in BUSY) and r.seconds <= probe.limit_s for r in replies)
    detail = (
        f"{AT_ONCE} 个同时到达时，每个都要在 {probe.limit_s:g} 秒内答 2xx，忙不过来答 429 或 503：先落库再应答，"
        "耗时处理放到应答之后；别的 4xx 会使事件停放，410 会暂停推送"
        " (store, answer, and do what takes long afterwards; 429 or 503 when busy)"
    )
    return _checked("slow-answer", "并发下的应答时间 (slow answer)", fine, replies, detail)


def _big_body(probe: Probe) -> Checked:
    reply = probe.send(probe.event(note="大" * (BIG_BYTES // 3)))
    detail = "正文最大 1 MiB，放宽接收端和前置代理的上限，如 nginx client_max_body_size (accept 1 MiB)"
    return _checked("big-body", "大正文 (big body)", reply.accepted, [reply], detail)


def _key_rotation(probe: Probe) -> Checked:
    other = PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
    replies = [
        probe.send(probe.event(), keys=[other, probe.key]),
        probe.send(probe.event(), keys=[probe.key, other]),
    ]
    detail = (
        "换密钥期间 webhook-signature 里有空格分隔的多个签名，有一个相符就要接收"
        " (several signatures, parted by spaces: one that fits is enough)"
    )
    return _checked("key-rotation", "换密钥 (key rotation)", all(r.accepted for r in replies), replies, detail)


CHECKS: Sequence[Callable[[Probe], Checked]] = (
    _challenge,
    _accepted,
    _duplicate,
    _out_of_order,
    _bad_signature,
    _old_timestamp,
    _unknown_type,
    _slow_answer,
    _big_body,
    _key_rotation,
)


def _checked(name: str, title: str, passed: bool, replies: Sequence[Reply], detail: str) -> Checked:
    """Return a result; the detail is for those who must mend something, with what went wrong on the wire."""
    trouble = next((reply.trouble for reply in replies if reply.trouble), "")
    said = "" if passed else detail + (f"；{trouble}" if trouble else "")
    slowest = max(reply.seconds for reply in replies) * 1000
    return Checked(name, title, passed, said, [reply.status for reply in replies], slowest)

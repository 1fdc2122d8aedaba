"""The black-box suite that an agency's receiver passes before it goes live; each check says what to mend, for people.

All events are trials (see :mod:`services.delivery.trial`): they carry no business data, and say so.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from consumers.receiver.probing import Probe, Reply
from services.delivery.causes import refusal, with_answer
from services.delivery.outcome import RETRIED
from services.delivery.signing import PREFIX

AT_ONCE = 20
BUSY = frozenset({429, 503})
BIG_BYTES = 1024 * 1024
OLD_S = 10 * 60
BASE = "accepted"
"""The check that must be passed before the others can tell anything: a receiver that takes nothing refuses well."""
TIMED = "slow-answer"
UNTOLD = "先要正常投递被接收 (needs a plain delivery taken in)"

HANDLED_TWICE = (
    "答了 2xx，但同一事件又交给处理函数一次：按 webhook-id 去重，已处理的只答不做"
    " (answered with 2xx, yet handled twice: remember each webhook-id, and handle it once)"
)
WITH_HANDLER = "时间含处理函数 (your handler included)"
_WITHOUT_HANDLER = (
    "时间不含处理函数：接收包没有把试投递交给它；要一并量，接收端以 trials=True（样例用 --trials）启动后再查"
    " (your handler was not called and not measured: start the receiver with trials=True and check again)"
)
_PERHAPS_HANDLER = (
    "量的是试投递的应答时间；真事件的处理只在接收端照样处理试投递时才算在内"
    " (measured on trial events: handling real ones is included only if yours handles trials alike)"
)


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of one check; ``milliseconds`` is its slowest answer.

    ``passed`` is None where it could not be told. ``detail`` is what to mend, or what was measured.
    """

    name: str
    title: str
    passed: bool | None
    detail: str
    statuses: Sequence[int | None]
    milliseconds: float

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self) | {"milliseconds": round(self.milliseconds, 1)}


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found; ``why`` takes the place of what to mend, and ``measured`` is said in any case."""

    passed: bool
    replies: Sequence[Reply]
    why: str = ""
    measured: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what it is called, how it is run, and what to mend where it is failed."""

    name: str
    title: str
    run: Callable[[Probe], Found]
    mend: str = ""

    def on(self, probe: Probe) -> Checked:
        """Run it against a receiver."""
        found = self.run(probe)
        trouble = next((reply.trouble for reply in found.replies if reply.trouble), "")
        mend = [found.why] if found.why else [self.mend, trouble]
        said = [*([] if found.passed else mend), found.measured]
        detail = "；".join(part for part in said if part)
        slowest = max(reply.seconds for reply in found.replies) * 1000
        return Checked(self.name, self.title, found.passed, detail, [r.status for r in found.replies], slowest)

    def untold(self) -> Checked:
        """Return that it was not run."""
        return Checked(self.name, self.title, None, UNTOLD, [], 0.0)


def check(probe: Probe) -> list[Checked]:
    """Run every check against a receiver; those after the base only where a good event is taken in."""
    results: list[Checked] = []
    told = True
    for one in CHECKS:
        results.append(one.on(probe) if told else one.untold())
        told = told and (one.name != BASE or results[-1].passed is True)
    return results


def _challenge(probe: Probe) -> Found:
    word = secrets.token_urlsafe(24)
    reply = probe.challenge(word)
    return Found(reply.accepted and reply.json().get("challenge") == word, [reply], _cause(reply))


def _accepted(probe: Probe) -> Found:
    reply = probe.send(probe.event())
    return Found(reply.accepted, [reply], _cause(reply))


def _cause(reply: Reply) -> str:
    """Return what most likely keeps a receiver from taking in a good event; nothing where it took it."""
    if reply.status is None:
        return reply.trouble
    return "" if reply.accepted else with_answer(refusal(reply.status), reply.body)


def _duplicate(probe: Probe) -> Found:
    event = probe.event()
    found = _all_accepted([probe.send(event), probe.send(event, same_cursor=True)])
    if found.passed and found.replies[1].handled:
        return replace(found, passed=False, why=HANDLED_TWICE)
    return found


def _out_of_order(probe: Probe) -> Found:
    newer, older = probe.event(), probe.event()
    return _all_accepted([probe.send(newer, cursor=probe.cursor + 10), probe.send(older, cursor=probe.cursor - 5)])


def _bad_signature(probe: Probe) -> Found:
    event = probe.event()
    return _all_refused(
        [
            probe.send(event, keys=[_another_key()]),
            probe.send(event, tampered=True),
            probe.send(event, keys=[]),
        ]
    )


def _old_timestamp(probe: Probe) -> Found:
    return _all_refused([probe.send(probe.event(), age_s=OLD_S), probe.send(probe.event(), age_s=-OLD_S)])


def _unknown_type(probe: Probe) -> Found:
    reply = probe.send(probe.event(kind="cn.gov.sc.hongyan.something.new"))
    return Found(reply.accepted or (reply.refused and reply.status not in RETRIED), [reply])


def _slow_answer(probe: Probe) -> Found:
    events = [probe.event() for _ in range(AT_ONCE)]
    cursor = probe.cursor + 1  # one for all: whether they may come out of order is another check's question
    with ThreadPoolExecutor(AT_ONCE) as pool:
        replies = list(pool.map(lambda event: probe.send(event, cursor=cursor), events))
    fine = all((r.accepted or r.status in BUSY) and r.seconds <= probe.limit_s for r in replies)
    return Found(fine, replies, measured=_measured([r for r in replies if r.accepted]))


def _measured(taken: Sequence[Reply]) -> str:
    """Return whether the seconds are the handler's too, as far as the receiver has said."""
    if not taken:
        return ""
    said = {reply.handled for reply in taken}
    if None in said:
        return _PERHAPS_HANDLER
    return _WITHOUT_HANDLER if False in said else WITH_HANDLER


def _big_body(probe: Probe) -> Found:
    return _all_accepted([probe.send(probe.event(note="大" * (BIG_BYTES // 3)))])


def _key_rotation(probe: Probe) -> Found:
    other = _another_key()
    return _all_accepted([probe.send(probe.event(), keys=keys) for keys in ([other, probe.key], [probe.key, other])])


def _another_key() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def _all_accepted(replies: Sequence[Reply]) -> Found:
    return Found(all(reply.accepted for reply in replies), replies)


def _all_refused(replies: Sequence[Reply]) -> Found:
    # What is answered with a status that is tried again is not refused: it comes for ever.
    return Found(all(reply.refused and reply.status not in RETRIED for reply in replies), replies)


CHECKS: Sequence[Check] = (
    Check(
        "challenge",
        "签名质询 (challenge)",
        _challenge,
        "收到 type 为 cn.gov.sc.hongyan.endpoint.challenged 的事件，验签后答 200 和 JSON："
        '{"challenge": data.challenge 的原值} (verify, then echo data.challenge as JSON)',
    ),
    Check(BASE, "正常投递 (a plain delivery)", _accepted),
    Check(
        "duplicate",
        "重复投递 (duplicate)",
        _duplicate,
        "同一事件（webhook-id 相同）再来时也要答 2xx，只是不再处理；答 409 或 5xx 会被一直重试，后面的事件都得等"
        " (answer a repetition with 2xx too, and handle it once)",
    ),
    Check(
        "out-of-order",
        "乱序到达 (out of order)",
        _out_of_order,
        "不同主键的事件并行投递，停放后重放的更晚到：游标变小也要接收，不要按游标拒收"
        " (cursors may come out of order: accept them)",
    ),
    Check(
        "bad-signature",
        "错误签名 (bad signature)",
        _bad_signature,
        "签名不符、正文被改、没有签名的请求都要拒收（答 401），否则任何人都能冒充推送"
        " (refuse what is not signed with the key: 401)",
    ),
    Check(
        "old-timestamp",
        "过期时间戳 (old timestamp)",
        _old_timestamp,
        "webhook-timestamp 与本机时钟相差超过 5 分钟的要拒收（答 401），防止截获后重放"
        " (refuse timestamps more than 5 minutes off: 401)",
    ),
    Check(
        "unknown-type",
        "未知类型 (unknown type)",
        _unknown_type,
        "不认识的事件类型答 2xx（忽略）或 422（停放，由人处理），不要答 404 或 5xx：那会被一直重试"
        " (ignore an unknown type with 2xx, or refuse it with 422)",
    ),
    Check(
        TIMED,
        "并发下的应答时间 (slow answer)",
        _slow_answer,
        f"{AT_ONCE} 个同时到达时，每个都要在时限（--limit-s）内答 2xx，忙不过来答 429 或 503：先落库再应答，"
        "耗时处理放到应答之后；别的 4xx 会使事件停放，410 会暂停推送"
        " (store, answer, and do what takes long afterwards; 429 or 503 when busy)",
    ),
    Check(
        "big-body",
        "大正文 (big body)",
        _big_body,
        "正文最大 1 MiB，放宽接收端和前置代理的上限，如 nginx client_max_body_size (accept 1 MiB)",
    ),
    Check(
        "key-rotation",
        "换密钥 (key rotation)",
        _key_rotation,
        "换密钥期间 webhook-signature 里有空格分隔的多个签名，有一个相符就要接收"
        " (several signatures, parted by spaces: one that fits is enough)",
    ),
)

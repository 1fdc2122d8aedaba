"""Why an agency has an event or not, in plain words, and what to do next: pure, from what was found out about both."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlencode

from services.delivery.lag import at_least
from services.portal.web.flow import Look
from services.portal.web.plain_words import division_name, filter_words, type_name
from services.portal.web.standing import Standing
from services.portal.web.wording import Text

Kind = Literal["got", "parked", "line", "queue", "route", "grant", "withheld", "gone"]


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence with the values that stand in it."""

    text: Text
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next, and where."""

    label: Text
    href: str


@dataclass(frozen=True, slots=True)
class Reason:
    """Why: one sentence, more of them, the words of whoever refused, since when, and the next steps."""

    kind: Kind
    look: Look
    said: Said
    more: Sequence[Said] = ()
    words: str = ""
    since: datetime | None = None
    steps: Sequence[Step] = ()


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks: which grants they may open, and where they read on about the event, None where they can't.

    A publisher asks about its event, an agency about itself; who operates may go anywhere.
    """

    kind: Literal["operator", "publisher", "agency"] = "operator"
    grants: Collection[str] = ()
    back: str | None = None


_CLOSED: Mapping[str, tuple[str, ...]] = {
    "publisher": ("/agencies/", "/parked", "/alerts"),
    "agency": ("/dead-letters",),
}
_OTHERS: Mapping[str, Text] = {
    "publisher": Text("下一步由接收单位或系统管理员来做，您不用重发。"),
    "agency": Text("下一步由发布部门或系统管理员来做。"),
}


def for_reader(reason: Reason, reader: Reader) -> Reason:
    """Return a reason with the steps that its reader can go; where none is theirs it says whose it is.

    A publisher is not told where a receiver stands, nor an agency what is wrong with an event that it did not get.
    """
    if reader.kind == "operator":
        return reason
    steps = [one for one in reason.steps if _leads(one.href, reason, reader)]
    more = reason.more if steps or not reason.steps else (*reason.more, Said(_OTHERS[reader.kind]))
    if reader.back is not None:
        steps.append(Step(Text("看这一件到了哪些单位"), reader.back))
    withheld = (reader.kind, reason.kind) in {("publisher", "line"), ("agency", "route")}
    return replace(reason, steps=steps, more=more, words="" if withheld else reason.words)


def _leads(href: str, reason: Reason, reader: Reader) -> bool:
    path, _, query = href.partition("?")
    if path.startswith("/subscriptions/"):
        return path.removeprefix("/subscriptions/") in reader.grants
    if path == "/subscriptions" and reader.kind == "publisher":
        return bool(query and reader.grants)
    # How the installation works is for who operates it.
    return path != "/" and not path.startswith(_CLOSED[reader.kind]) and (reason.kind, path) != ("route", "/alerts")


def _at(value: object) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value if isinstance(value, datetime) else None


def why(
    story: Mapping[str, Any], agency: str, standing: Standing | None, explanation: Mapping[str, Any] | None
) -> Reason:
    """Return why an agency has an event or has not.

    ``story`` is the ledger's, ``standing`` how the agency stands now, ``explanation`` what its grants say of the event
    (see :class:`services.portal.explaining.Explaining`; ``of_type``: of those on its type alone), None where it was not
    asked for.
    """
    not_routed = _not_routed(story)
    if not_routed is not None:
        return not_routed
    part = next((one for one in story["agencies"] if one["agency"] == agency), None)
    if part is not None:
        return _entitled(story, part, agency, standing)
    return _not_entitled(story, agency, standing, explanation)


def _not_routed(story: Mapping[str, Any]) -> Reason | None:
    verdict, reason = story["verdict"], str(story["reason"] or "")
    if verdict is None:
        said = Said(Text("事件已在日志上，路由还没有读到它，所以谁都还没有收到。"))
        steps = (Step(Text("看路由是否在工作"), "/"), Step(Text("看告警"), "/alerts"))
        return Reason("route", "warn", said, since=_at(story["published_at"]), steps=steps)
    if verdict == "deadletter":
        said = Said(Text("事件不能处理，进了死信，没有送给任何单位。"))
        found = urlencode({"text": story["id"]})
        return Reason("route", "bad", said, words=reason, steps=(Step(Text("更正死信"), f"/dead-letters?{found}"),))
    if verdict == "conflict":
        said = Said(Text("同一编号已有内容不同的事件，先到的有效，这一件没有送给任何单位。"))
        found = urlencode({"text": story["id"]})
        return Reason("route", "bad", said, words=reason, steps=(Step(Text("看死信"), f"/dead-letters?{found}"),))
    return None


def _entitled(story: Mapping[str, Any], part: Mapping[str, Any], agency: str, standing: Standing | None) -> Reason:
    state = part["state"]
    if state in {"delivered", "accepted", "rejected"}:
        return _got(part)
    if state == "parked":
        return _parked(part, agency)
    if standing is None:
        said = Said(Text("单位有权收到，还没有送达。此单位现已不在名录中。"))
        return Reason("gone", "off", said, since=_at(part["routed_at"]))
    return _line(part, agency, standing)


def _got(part: Mapping[str, Any]) -> Reason:
    said = {
        "delivered": Said(Text("单位已经收到，还没有提交业务回执。")),
        "accepted": Said(Text("单位已经收到，并已确认接收。")),
        "rejected": Said(Text("单位已经收到，但在业务回执中拒收。")),
    }[part["state"]]
    words = next((r["reason"] for r in reversed(part["receipts"]) if r["outcome"] == "rejected" and r["reason"]), "")
    look: Look = "warn" if part["state"] == "rejected" else "ok"
    return Reason("got", look, said, words=str(words or ""), since=_at(part["delivered_at"]))


def _parked(part: Mapping[str, Any], agency: str) -> Reason:
    last: Mapping[str, Any] = next((r for r in reversed(part["receipts"]) if r["outcome"] == "parked"), {})
    status = last.get("status")
    said = (
        Said(Text("单位的接收端以 HTTP {status} 拒收了这一件，事件已停放，没有丢。"), {"status": status})
        if status
        else Said(Text("这一件没有送出，已停放，没有丢。"))
    )
    steps = (
        Step(Text("看停放的事件，更正后重放"), f"/parked?{urlencode({'agency': agency})}"),
        Step(Text("看接收单位"), f"/agencies/{agency}"),
    )
    # Who may not know the receiver's words is told the status alone, which stands in the sentence.
    words = "" if last.get("reason") == f"HTTP {status}" else str(last.get("reason") or "")
    return Reason("parked", "bad", said, words=words, since=_at(last.get("at")), steps=steps)


def _line(part: Mapping[str, Any], agency: str, standing: Standing) -> Reason:
    """Say why what is owed has not been delivered yet: the line, or those before it."""
    here, lag = f"/agencies/{agency}", standing.lag
    open_page = Step(Text("打开接收单位"), here)
    routed_at = _at(part["routed_at"])
    if standing.state == "suspended":
        said = Said(Text("单位有权收到；它的推送已被暂停，事件留在队列，恢复后按序送达。"))
        return Reason("line", "bad", said, since=routed_at, steps=(Step(Text("看暂停的理由，恢复推送"), here),))
    if standing.state == "unverified":
        said = Said(Text("单位有权收到；它的接收端还没有答对签名质询，验证前不推送。"))
        return Reason("line", "bad", said, since=routed_at, steps=(Step(Text("让接收端答质询"), here),))
    if lag is not None and lag.held_since is not None:
        said = Said(Text("单位有权收到；它的接收端没有正常应答，队列保持，事件不丢，恢复后自动续推。"))
        steps = (Step(Text("试投递，联系接收单位"), here), Step(Text("看告警"), f"/alerts?{urlencode({'q': agency})}"))
        return Reason("line", "bad", said, words=lag.held_why or "", since=standing.held_since, steps=steps)
    if lag is not None and lag.channel not in {"webhook", "table"}:
        said = Said(Text("单位有权收到；它自己来取件，这一件还没有回执：没有来取，或取了没有回执。"))
        return Reason("queue", standing.look, said, since=routed_at, steps=(open_page,))
    if lag is not None and lag.state == "stopped":
        said = Said(Text("单位有权收到；没有进程在为它投递。"))
        steps = (Step(Text("看推送进程是否在工作"), "/"), open_page)
        return Reason("line", "bad", said, since=_at(lag.state_since), steps=steps)
    waiting = at_least(lag.backlog, exact=lag.backlog_exact) if lag is not None else "0"
    said = Said(Text("单位有权收到，事件在它的队列里等候投递；队列现有 {n} 件。"), {"n": waiting})
    return Reason("queue", standing.look, said, since=routed_at, steps=(open_page,))


def _not_entitled(
    story: Mapping[str, Any], agency: str, standing: Standing | None, explanation: Mapping[str, Any] | None
) -> Reason:
    if explanation is None:
        return Reason("grant", "off", Said(Text("路由时，没有一个订阅让这个单位收到这一件。")))
    for held in explanation["withheld"]:
        said = Said(Text("按订阅 {grants} 本可收到，但被留下了。"), {"grants": held["subscription"]})
        step = Step(Text("看这个订阅"), f"/subscriptions/{held['subscription'].partition(',')[0]}")
        return Reason("withheld", "warn", said, words=held["reason"], steps=(step,))
    if not explanation["kept"]:
        said = Said(Text("路由时没有订阅匹配。事件已过 Kafka 的保存期，不能再逐条试它的过滤条件。"))
        return Reason("grant", "off", said, steps=(_grants_of(agency),))
    then, now = explanation["then"], explanation["now"]
    later = next((one for one in now if one["matches"]), None)
    if not then and later is not None:
        said = Said(
            Text("事件发布时，单位还没有订阅；订阅 {grant} 是后来批准的，只送以后的事件。"),
            {"grant": later["subscription"]},
        )
        step = Step(Text("看这个订阅；要以前的事件须补送"), f"/subscriptions/{later['subscription']}")
        return Reason("grant", "warn", said, steps=(step,))
    if not then and not now and explanation.get("of_type"):
        said = Said(Text("单位没有订阅这个类型：没有申请过，或没有批准。"))
        return Reason("grant", "warn", said, steps=(Step(Text("申请订阅"), "/subscriptions"),))
    if not then and not now:
        said = Said(Text("单位没有任何订阅：没有申请过，或没有批准。"))
        return Reason("grant", "warn", said, steps=(Step(Text("申请订阅"), "/subscriptions"),))
    tried = then or now
    nearest = max(tried, key=_nearness)
    found = list(_obstacles(nearest, story))
    first = found[0] if found else Said(Text("订阅没有匹配这一件。"))
    step = Step(Text("看这个订阅"), f"/subscriptions/{nearest['subscription']}")
    more = [Said(Text("最接近的是订阅 {grant}（第 {version} 版）。"), _named(nearest)), *found[1:]]
    if later is not None:
        more.append(Said(Text("按现在的订阅会收到；以前的事件须补送。")))
    return Reason("grant", "warn", first, more, steps=(step, _grants_of(agency)))


def _named(one: Mapping[str, Any]) -> Mapping[str, object]:
    return {"grant": one["subscription"], "version": one["version"]}


def _grants_of(agency: str) -> Step:
    return Step(Text("看单位的全部订阅"), f"/subscriptions?{urlencode({'agency': agency})}")


def _nearness(one: Mapping[str, Any]) -> tuple[bool, int, int]:
    """Return how near a grant is to matching: the right type first, then how much of it holds."""
    rights = {right["right"]: right["holds"] for right in one["rights"]}
    return rights.get("type", False), sum(rights.values()), sum(bool(f["holds"]) for f in one["filters"])


def _obstacles(one: Mapping[str, Any], story: Mapping[str, Any]) -> Iterator[Said]:
    """Give in plain words what of a grant does not hold for an event, the weightiest first."""
    for right in one["rights"]:
        if not right["holds"]:
            yield _right(right["right"], right["said"], story)
    for verdict in one["filters"]:
        if not verdict["holds"]:
            said, values = filter_words(verdict, story)
            yield Said(said, values)


def _right(name: str, said: str, story: Mapping[str, Any]) -> Said:
    match name:
        case "type":
            return Said(Text("订阅里没有这个事件类型（{type}）。"), {"type": type_name(story["type"])})
        case "state":
            return Said(_STATES.get(said, Text("订阅当时不在有效状态：{state}。")), {"state": said})
        case "sharing":
            return Said(Text("目录规定这个类型不予共享。"))
        case "receivers":
            return Said(Text("事件指明了接收单位（{said}），其中没有它。"), {"said": said})
        case "division":
            return Said(
                Text("事件的行政区划是 {division}，不在订阅所及的范围内（{said}）。"),
                {"division": division_name(story["division"]), "said": said.partition("∈")[2].strip()},
            )
        case "agency":
            return Said(Text("单位自己的状态是 {state}，不在有效状态。"), {"state": said})
        case _:
            return Said(Text("订阅属于 {said}，没有允许转给它。"), {"said": said})


_STATES: Mapping[str, Text] = {
    "suspended": Text("订阅已被暂停。"),
    "expired": Text("订阅已经到期。"),
    "terminated": Text("订阅已经终止。"),
    "approved": Text("订阅已批准，但还没有到生效时间。"),
    "submitted": Text("订阅还没有批准。"),
    "draft": Text("订阅还是草稿，没有提交。"),
}

"""Why a genuine, signed trial was most likely not taken in, and what to do: told by the status of the answer. Pure.

A trial carries no business data, so what the receiver said to it may be shown to whoever tries.
"""

from __future__ import annotations

from collections.abc import Mapping

SAID_CHARS = 200
_CAUSES: Mapping[int, str] = {
    400: "接收端不认这个请求，看它的日志 (it does not know what to do with the request: see its log)",
    401: "密钥不符？核对接收端用的密钥，以及它的时钟和要的令牌 (wrong key? check the receiver's key, clock and token)",
    404: "此路径没有接收端？核对地址里的路径 (nothing at this path? check the path of the address)",
    405: "此路径没有接收端？接收端须收 POST，核对路径 (nothing at this path? deliveries are POST; check the path)",
    410: "接收端说不再要任何事件 (the receiver says that it wants no more events)",
    413: "正文超过接收端或前置代理的上限 (the body is larger than the receiver, or a proxy before it, allows)",
    429: "接收端忙，稍后再试 (the receiver is busy: try again later)",
    502: "前置代理后面的接收端没有应答 (the proxy gets no answer from the receiver behind it)",
    503: "接收端忙或没有就绪，稍后再试 (the receiver is busy or not ready: try again later)",
}
_LIKE: Mapping[int, int] = {403: 401, 504: 502}
_FOUND_ELSEWHERE = "不跟随重定向，改用最终的地址 (redirects are not followed: give the final address)"
_REFUSED = "接收端拒收，看它的应答和日志 (the receiver refuses it: see what it says and its log)"
_FAILED = "接收端处理时出错，看它的日志 (the receiver failed at it: see its log)"


def likely_cause(status: int) -> str:
    """Return why a receiver most likely gave this answer to a good event, as 「中文 (English)」."""
    if 300 <= status < 400:
        return _FOUND_ELSEWHERE
    return _CAUSES.get(_LIKE.get(status, status), _FAILED if status >= 500 else _REFUSED)


def refusal(status: int) -> str:
    """Return the likely cause of a status, and the status."""
    return f"{likely_cause(status)}；HTTP {status}"


def with_answer(told: str, answer: bytes) -> str:
    """Return what is told with the beginning of what the receiver said; a page for a browser says nothing more."""
    words = said(answer)
    if not words or words.startswith("<"):
        return told
    return f"{told}；应答 (it said)：{words}{'…' if len(words) == SAID_CHARS else ''}"


def said(body: bytes) -> str:
    """Return the beginning of what a receiver said, on one line: people will ask it why."""
    text = body.decode(errors="replace")
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:SAID_CHARS]

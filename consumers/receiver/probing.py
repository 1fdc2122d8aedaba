"""Sends single requests to a receiver under check: good ones, and ones with exactly one thing wrong."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from consumers.receiver.kit import HANDLED_HEADER
from schemas.envelope import message_id
from services.delivery.message import CURSOR_HEADER, JSON_TYPE
from services.delivery.signing import ID_HEADER, PUBLIC_PREFIX, SIGNATURE_HEADER, TIMESTAMP_HEADER, signature
from services.delivery.trial import CHALLENGE_TYPE, NOTE, SOURCE, TEST_TYPE

ANSWER_BYTES = 64 * 1024
# Waits a little longer than the limit, so that how slow a slow answer was can be told.
PATIENCE = 1.5


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back; ``status`` is None where nothing did, and ``trouble`` says why.

    ``handled`` tells whether a receiver of the kit called its handler; None where the answer doesn't say.
    """

    status: int | None
    seconds: float
    body: bytes = b""
    trouble: str = ""
    handled: bool | None = None

    @property
    def accepted(self) -> bool:
        """Tell whether it was a 2xx."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def refused(self) -> bool:
        """Tell whether it was a 4xx that refuses this request; 410 would end all delivery."""
        return self.status is not None and 400 <= self.status < 500 and self.status != 410

    def json(self) -> Mapping[str, Any]:
        """Return the answer's JSON object; empty where there is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@dataclass
class Probe:
    """A receiver under check: where it is, the key to sign with, the seconds that it has, and headers it needs."""

    url: str
    key: str
    limit_s: float
    headers: Mapping[str, str] = field(default_factory=dict)
    context: ssl.SSLContext | None = None
    cursor: int = 100
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Raises ValueError for what can be no address or no key: nothing sent would tell about the receiver."""
        if urlsplit(self.url).scheme not in {"http", "https"} or not urlsplit(self.url).hostname:
            raise ValueError(f"地址应形如 https://主机/路径 (no address of a receiver): {self.url}")
        if self.key.startswith(PUBLIC_PREFIX):
            raise ValueError(
                "公钥只能验签：给接收端另加一把 whsec_…，用那一把检查"
                " (a public key can't sign: let the receiver know a whsec_ key too, and check with that)"
            )
        try:
            signature(self.key, "", 0, b"")
        except ValueError as error:
            raise ValueError("密钥应为 whsec_… 或 whsk_… 加 base64 (no key to sign with)") from error

    def event(self, kind: str = TEST_TYPE, **data: str) -> dict[str, Any]:
        """Return a new trial event."""
        return {
            "specversion": "1.0",
            "id": f"trial-{secrets.token_hex(8)}",
            "source": SOURCE,
            "type": kind,
            "subject": "check",
            "time": datetime.now(UTC).isoformat(),
            "datacontenttype": "application/json",
            "data": {"challenge": "", "note": NOTE} | data,
        }

    def challenge(self, word: str) -> Reply:
        """Send the signed challenge."""
        return self.send(self.event(CHALLENGE_TYPE, challenge=word))

    def send(
        self,
        event: Mapping[str, Any],
        *,
        keys: Sequence[str] | None = None,
        age_s: int = 0,
        cursor: int | None = None,
        same_cursor: bool = False,
        tampered: bool = False,
    ) -> Reply:
        """Send an event: signed with other keys, of another age, at another cursor or with its body changed."""
        body = json.dumps(event, ensure_ascii=False).encode()
        sent_at = int(time.time()) - age_s
        named = message_id(event["source"], event["id"], event["subject"])
        signed = [signature(key, named, sent_at, body) for key in ([self.key] if keys is None else keys)]
        if tampered:
            body = body.replace(b'"subject"', b'"Subject"')
        headers = {
            "Content-Type": JSON_TYPE,
            "User-Agent": "hongyan-check",
            ID_HEADER: named,
            TIMESTAMP_HEADER: str(sent_at),
            CURSOR_HEADER: str(self._next(cursor, same_cursor)),
            **({SIGNATURE_HEADER: " ".join(signed)} if signed else {}),
            **self.headers,
        }
        return self._post(headers, body)

    def _next(self, cursor: int | None, same: bool) -> int:
        with self._lock:
            if not same:
                self.cursor = self.cursor + 1 if cursor is None else max(self.cursor, cursor)
            return self.cursor if cursor is None else cursor

    def _post(self, headers: Mapping[str, str], body: bytes) -> Reply:
        request = urllib.request.Request(self.url, body, dict(headers), method="POST")  # noqa: S310
        # As real deliveries: by way of no proxy, following no redirect.
        handlers = (urllib.request.ProxyHandler({}), _NoRedirect, urllib.request.HTTPSHandler(context=self.context))
        opener = urllib.request.build_opener(*handlers)
        began = time.monotonic()
        try:
            with opener.open(request, timeout=self.limit_s * PATIENCE) as answer:
                handled = _handled(answer.headers.get(HANDLED_HEADER))
                return Reply(answer.status, time.monotonic() - began, answer.read(ANSWER_BYTES), handled=handled)
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, time.monotonic() - began, error.read(ANSWER_BYTES))
        except (OSError, http.client.HTTPException) as error:
            return Reply(None, time.monotonic() - began, trouble=_trouble(error, self.limit_s * PATIENCE))


def _handled(said: str | None) -> bool | None:
    """Read the kit's word on how many events its handler was called for."""
    return None if said is None else said.strip() not in {"", "0"}


def _trouble(error: Exception, patience_s: float) -> str:
    """Return what went wrong: before the request was sent, or while its answer was waited for."""
    if isinstance(error, TimeoutError):
        return (
            f"没有得到应答 (no answer)：等了 {patience_s:g} 秒；先落库再应答，耗时处理放到应答之后"
            " (timed out: store, answer, and do what takes long afterwards)"
        )
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(error, urllib.error.URLError) and not isinstance(cause, ssl.SSLError):
        return f"连不上 (can't connect)：{_why(cause)}"
    return f"没有得到应答 (no answer)：{_why(cause)}"


def _why(cause: object) -> str:
    """Return why nothing was answered, in plain words and with what to do where that is known."""
    if isinstance(cause, TimeoutError):
        return "超时 (timed out)"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"证书没有通过验证，签发它的 CA 用 --ca 给出 (certificate refused: {cause.verify_message})"
    if isinstance(cause, ssl.SSLError):
        return f"TLS 连接不成；地址是 https 吗，要不要 --certificate (no TLS connection: {cause.reason})"
    if isinstance(cause, ConnectionRefusedError):
        return "这个地址没有程序在听 (connection refused)"
    if isinstance(cause, socket.gaierror):
        return "域名解析不了 (the name can't be resolved)"
    if isinstance(cause, ConnectionError | http.client.HTTPException):
        return "对方断开了连接，或应答不是 HTTP (it closed the connection, or speaks no HTTP)"
    return str(cause)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """As in real deliveries, a redirect is an answer and is not followed."""

    def redirect_request(self, *_: object) -> None:
        """Follow nothing."""

"""What went wrong with a connection to a receiver, in plain words: the same at a terminal, by mail and on every page.

In both languages, 「中文 (English)」, and without what the receiver has said: that may be anything.
"""

from __future__ import annotations

import errno
import os
import ssl

import aiohttp

_WHY = {
    errno.ECONNREFUSED: "没有程序在听",
    errno.EHOSTUNREACH: "网络不通",
    errno.ENETUNREACH: "网络不通",
    errno.ETIMEDOUT: "没有应答",
}


def trouble_of(error: Exception) -> str:
    """Return what an attempt failed by; what nobody has foreseen is named as its library names it."""
    if isinstance(error, aiohttp.ClientSSLError):
        return _tls(error)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"域名 {error.host} 解析不了 ({error.host} can't be resolved)"
    if isinstance(error, aiohttp.ClientConnectorError):
        at, code = f"{error.host}:{error.port}", error.os_error.errno
        why = f"，{_WHY[code]}" if code in _WHY else ""
        english = f": {os.strerror(code)}" if code is not None and code > 0 else ""
        return f"连接不上 {at}{why} (can't connect to {at}{english})"
    if isinstance(error, aiohttp.ServerConnectionError | ConnectionError | aiohttp.ClientOSError):
        return "对方断开了连接 (the receiver closed the connection)"
    if isinstance(error, aiohttp.ClientResponseError):
        return "应答不是 HTTP (the answer is not HTTP)"
    return f"{type(error).__name__}: {error}"


def _tls(error: aiohttp.ClientSSLError) -> str:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"接收端的证书没有通过验证 (its certificate is refused: {cause.verify_message})"
    why = f": {cause.reason}" if isinstance(cause, ssl.SSLError) and cause.reason else ""
    return f"TLS 连接不成 (no TLS connection{why})"

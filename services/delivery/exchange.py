"""One POST and its answer, on aiohttp's connections and its parser, without the session around them.

A session makes a request, a response, a writer's task and their headers anew for each POST, and that costs more than
all the rest of a delivery. An address stays the same for thousands of them: what stands fast of it is made once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import (
    BaseConnector,
    ClientError,
    ClientRequest,
    ClientResponseError,
    ClientTimeout,
    NonHttpUrlClientError,
    ServerDisconnectedError,
    StreamReader,
    hdrs,
)
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

ANSWER_BYTES = 64 * 1024
DRAIN_S = 1.0
MAX_TARGETS = 4096

Context = ssl.SSLContext | bool


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, its headers, and the beginning of its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Target:
    """An address: what connections are made by, and the beginning of every request."""

    request: ClientRequest
    head: str


class Exchange:
    """Posts on the connector's connections, in its event loop."""

    def __init__(self, connector: BaseConnector) -> None:
        self._connector = connector
        self._targets: dict[tuple[str, Context], _Target] = {}

    async def post(
        self, url: str, context: Context, headers: Mapping[str, str], body: bytes, timeout: ClientTimeout
    ) -> Answer:
        """Post once and return the answer; raises what aiohttp raises, TimeoutError too, or ValueError.

        The status line decides: what follows it can only cost the connection.
        """
        target = self._targets.get((url, context)) or self._target(url, context)
        request = _head(target, headers, len(body)) + body
        connection, whole = None, False
        try:
            async with asyncio.timeout(timeout.total) as limit:
                connection = await self._connector.connect(target.request, [], timeout)
                message, content = await _ask(connection, request)
            answered = b""
            if not (whole := content.at_eof()):
                answered, whole = await _drain(content, limit.when())
            return Answer(message.code, message.headers, answered)
        except HttpProcessingError as error:
            raise ClientResponseError(target.request.request_info, (), status=error.code) from error
        finally:
            if connection is not None:
                _give_back(connection, whole)

    def _target(self, url: str, context: Context) -> _Target:
        parsed = URL(url)
        if parsed.scheme not in {"http", "https"}:
            raise NonHttpUrlClientError(parsed)
        request = ClientRequest(hdrs.METH_POST, parsed, headers={hdrs.USER_AGENT: "hongyan"}, ssl=context)
        request.headers.popall(hdrs.CONTENT_LENGTH, None)
        fast = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        if len(self._targets) >= MAX_TARGETS:
            self._targets.clear()
        target = _Target(request, f"POST {request.url.raw_path_qs} HTTP/1.1\r\n{fast}")
        self._targets[url, context] = target
        return target


def _head(target: _Target, headers: Mapping[str, str], length: int) -> bytes:
    """Return the lines before the body; raises ValueError for a header that would be more than one."""
    more = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if more.count("\n") != len(headers) or more.count("\r") != len(headers) or "\0" in more:
        raise ValueError("a header holds a line break")
    if hdrs.AUTHORIZATION in headers and hdrs.AUTHORIZATION in target.request.headers:
        raise ValueError("the address has a password, and there is a token too")
    return f"{target.head}{more}Content-Length: {length}\r\n\r\n".encode()


async def _ask(connection: Connection, request: bytes) -> tuple[RawResponseMessage, StreamReader]:
    """Write a request and return its answer's beginning; interim answers (1xx) are passed over."""
    protocol, transport = connection.protocol, connection.transport
    # What has come already answers no request: taken for this one's answer, it would end an event nobody has.
    if protocol is None or transport is None or protocol.should_close:
        raise ServerDisconnectedError
    protocol.set_response_params(read_until_eof=True, auto_decompress=False)
    transport.write(request)
    while True:
        message, content = await protocol.read()
        if not 100 <= message.code <= 199 or message.code == 101:
            return message, content


def _give_back(connection: Connection, whole: bool) -> None:
    """Keep a connection whose exchange is over; one that has more to say or to hear is closed."""
    transport = connection.transport
    unsent = transport is not None and transport.get_write_buffer_size() > 0
    if whole and not unsent:
        connection.release()
        return
    if transport is not None and unsent:
        transport.abort()  # closing it would wait for a receiver that reads nothing
    connection.close()


async def _drain(content: StreamReader, limit: float | None) -> tuple[bytes, bool]:
    """Read a short answer so that its connection can be used again; a long or slow one costs its connection."""
    body = bytearray()
    enough = asyncio.get_running_loop().time() + DRAIN_S
    try:
        async with asyncio.timeout_at(enough if limit is None else min(limit, enough)):
            whole = await read_into(body, content)
    except (TimeoutError, ClientError, OSError):
        whole = False
    return bytes(body), whole


async def read_into(body: bytearray, content: StreamReader) -> bool:
    """Read to the end, or until it is too long, and tell whether that was the end."""
    while len(body) < ANSWER_BYTES and (more := await content.read(ANSWER_BYTES - len(body))):
        body += more
    return content.at_eof()

"""One POST and its answer, on aiohttp's connections and its parser, without the session around them.

A session makes a request, a response, a writer's task and their headers anew for each POST, and that costs more than
all the rest of a delivery. An address stays the same for thousands of them: what stands fast of it is made once.
"""

from __future__ import annotations

import asyncio
import math
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
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

ANSWER_BYTES = 64 * 1024
DRAIN_S = 1.0
# Nothing that comes is unpacked: without this aiohttp would ask for compressed answers.
PLAIN = {hdrs.USER_AGENT: "hongyan", hdrs.ACCEPT_ENCODING: "identity"}
SWEEP_S = 0.1
"""How much later than its time a request may be given up: one look at all costs less than a timer for each."""
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
        self._until: dict[ResponseHandler, float] = {}
        self._sweeping = False

    async def post(
        self, url: str, context: Context, headers: Mapping[str, str], body: bytes, timeout: ClientTimeout
    ) -> Answer:
        """Post once and return the answer; raises what aiohttp raises, TimeoutError too, or ValueError.

        ``timeout`` bounds connecting by its parts and the answer by the whole. The status line decides: what follows it
        can only cost the connection.
        """
        target = self._targets.get((url, context)) or self._target(url, context)
        request = _head(target, headers, len(body)) + body
        connection, whole = None, False
        until = asyncio.get_running_loop().time() + (timeout.total or math.inf)
        try:
            connection = await self._connector.connect(target.request, [], timeout)
            message, content = await self._ask(connection, request, until)
            answered = b""
            if not (whole := content.at_eof()):
                answered, whole = await _drain(content, until)
            return Answer(message.code, message.headers, answered)
        except HttpProcessingError as error:
            raise ClientResponseError(target.request.request_info, (), status=error.code) from error
        finally:
            if connection is not None:
                _give_back(connection, whole)

    async def _ask(
        self, connection: Connection, request: bytes, until: float
    ) -> tuple[RawResponseMessage, StreamReader]:
        """Write a request and return its answer's beginning; interim answers (1xx) are passed over."""
        protocol, transport = connection.protocol, connection.transport
        # What has come already answers no request: taken for this one's answer, it would end an event nobody has.
        if protocol is None or transport is None or protocol.should_close:
            raise ServerDisconnectedError
        protocol.set_response_params(read_until_eof=True, auto_decompress=False)
        transport.write(request)
        self._until[protocol] = until
        self._sweep_later()
        try:
            while True:
                message, content = await protocol.read()
                if not 100 <= message.code <= 199 or message.code == 101:
                    return message, content
        finally:
            del self._until[protocol]

    def _sweep_later(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """Give up what has had its time."""
        self._sweeping = False
        now = asyncio.get_running_loop().time()
        for protocol, until in self._until.items():
            if until <= now:
                protocol.set_exception(TimeoutError())
        if self._until:
            self._sweep_later()

    def _target(self, url: str, context: Context) -> _Target:
        parsed = URL(url)
        if parsed.scheme not in {"http", "https"}:
            raise NonHttpUrlClientError(parsed)
        request = ClientRequest(hdrs.METH_POST, parsed, headers=PLAIN, ssl=context)
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


async def _drain(content: StreamReader, until: float) -> tuple[bytes, bool]:
    """Read a short answer so that its connection can be used again; a long or slow one costs its connection."""
    body = bytearray()
    try:
        async with asyncio.timeout_at(min(until, asyncio.get_running_loop().time() + DRAIN_S)):
            whole = await read_into(body, content)
    except (TimeoutError, ClientError, OSError):
        whole = False
    return bytes(body), whole


async def read_into(body: bytearray, content: StreamReader) -> bool:
    """Read to the end, or until it is too long, and tell whether that was the end."""
    while len(body) < ANSWER_BYTES and (more := await content.read(ANSWER_BYTES - len(body))):
        body += more
    return content.at_eof()

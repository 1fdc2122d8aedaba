"""Everything that can be wrong with an HTTP receiver, on the level of its connection."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Behaviour = Callable[[Reader, Writer], Awaitable[None]]

MEBIBYTE = b"x" * (1024 * 1024)


async def request_of(reader: Reader) -> tuple[str, dict[str, str], bytes]:
    """Read one request: its path, its headers and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return head[0].split(" ")[1], headers, body


def answering(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Behaviour:
    """Answer with a status, whole and at once."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    return raw(f"HTTP/1.1 {status} -\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def raw(answer: bytes) -> Behaviour:
    """Read the request, write these bytes and close."""

    async def behave(reader: Reader, writer: Writer) -> None:
        await request_of(reader)
        writer.write(answer)
        await writer.drain()

    return behave


async def closes_at_once(_reader: Reader, _writer: Writer) -> None:
    """Accept the connection and close it."""


async def resets(reader: Reader, writer: Writer) -> None:
    """Read the request and reset the connection."""
    await request_of(reader)
    found: socket.socket = writer.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def never_answers(reader: Reader, _writer: Writer) -> None:
    """Read the request and say nothing: a black hole."""
    await request_of(reader)
    await reader.read()


async def never_reads(_reader: Reader, _writer: Writer) -> None:
    """Not even read the request."""
    await asyncio.sleep(60)


async def trickles_its_head(reader: Reader, writer: Writer) -> None:
    """Send the head a byte at a time, for ever."""
    await request_of(reader)
    writer.write(b"HTTP/1.1 204 -\r\n")
    while not writer.is_closing():
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.02)


async def trickles_its_body(reader: Reader, writer: Writer) -> None:
    """Accept the event, then send a body a byte at a time, for ever."""
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 -\r\nContent-Length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.02)


async def floods(reader: Reader, writer: Writer) -> None:
    """Accept the event, then send gibibytes."""
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 -\r\nContent-Length: 1073741824\r\n\r\n")
    for _ in range(1024):
        writer.write(MEBIBYTE)
        await writer.drain()


async def serve(behaviour: Behaviour, ssl: object = None) -> asyncio.Server:
    """Serve one behaviour on a free port of loopback; every connection is closed when it has ended."""

    async def connected(reader: Reader, writer: Writer) -> None:
        try:
            await behaviour(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    return await asyncio.start_server(connected, "127.0.0.1", 0, ssl=ssl, backlog=512)  # type: ignore[call-overload,no-any-return]


def port_of(server: asyncio.Server) -> int:
    """Return a server's port."""
    return int(server.sockets[0].getsockname()[1])

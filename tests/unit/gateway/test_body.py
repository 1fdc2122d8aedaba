"""Bodies of requests: within their limit in either form, and never gathered beyond it."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from collections.abc import AsyncIterator, Iterable

import pytest

from producers.gateway.body import read_body
from services.runtime.errors import InvalidError, TooLargeError

LIMIT = 100_000


def read(chunks: Iterable[bytes], encoding: str = "gzip") -> bytes:
    """Return the body that comes in these pieces."""

    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return asyncio.run(read_body(stream(), encoding, LIMIT))


def test_a_packed_body_may_come_in_any_pieces() -> None:
    """Byte by byte, its end in a piece of its own, and an empty piece behind it."""
    packed = gzip.compress(b"[]" * 100)
    assert read([bytes([byte]) for byte in packed]) == b"[]" * 100
    assert read([packed[:-8], packed[-8:], b""]) == b"[]" * 100


def test_a_body_that_can_not_be_packed_may_be_as_large_as_any_other() -> None:
    """Packed it is a little larger than the limit."""
    body = random.Random(1).randbytes(LIMIT)
    packed = gzip.compress(body)
    assert len(packed) > LIMIT
    assert read([packed]) == body


def test_nothing_is_read_behind_the_end_of_a_gzip() -> None:
    """zlib would gather it all, and copy it with every piece."""
    pieces = iter([gzip.compress(b"[]"), *[b"x" * 1000] * 100])
    with pytest.raises(InvalidError, match="多余字节"):
        read(pieces)
    assert len(list(pieces)) == 99


def test_what_unpacks_to_nothing_is_not_read_for_ever() -> None:
    """Empty blocks of deflate: megabytes come in and not a byte comes out."""
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    pieces = iter([head, *[b"\x00\x00\x00\xff\xff" * 2000] * 100])
    with pytest.raises(TooLargeError):
        read(pieces)
    assert len(list(pieces)) > 80


def test_an_unpacked_body_stops_at_the_limit() -> None:
    """And no later."""
    pieces = iter([b" " * 60_000] * 10)
    with pytest.raises(TooLargeError):
        read(pieces, "")
    assert len(list(pieces)) == 8

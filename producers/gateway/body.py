"""Reads a request's body within its limit, compressed or not."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

from producers.gateway.parsing import UnsupportedMediaTypeError
from services.runtime.errors import FieldProblem, InvalidError, TooLargeError

GZIP = zlib.MAX_WBITS | 16
PACKED_LARGER, HEADER_BYTES = 1000, 1024
"""What can't be packed grows by less than a thousandth, and by a header."""
ENCODINGS = {"", "identity", "gzip", "x-gzip"}


async def read_body(chunks: AsyncIterator[bytes], encoding: str, limit: int) -> bytes:
    """Return the body, decompressed, and stop reading as soon as it is too large in either form.

    A small body that unpacks to a huge one (a bomb) is never unpacked further than the limit, nor is a huge one read
    that unpacks to little or nothing. Raises TooLargeError, UnsupportedMediaTypeError for another encoding, or
    InvalidError for what is no gzip.
    """
    named = encoding.strip().lower()
    if named not in ENCODINGS:
        raise UnsupportedMediaTypeError(f"Content-Encoding {encoding}: 只支持 gzip (only gzip is understood)")
    unpacker = zlib.decompressobj(GZIP) if named.endswith("gzip") else None
    body, read = bytearray(), 0
    try:
        async for chunk in chunks:
            read += len(chunk)
            body += chunk if unpacker is None else _unpacked(unpacker, chunk, limit + 1 - len(body))
            if len(body) > limit or read > limit + limit // PACKED_LARGER + HEADER_BYTES:
                detail = f"请求体解压后最大 {limit} 字节 (the body is larger than {limit} bytes)"
                raise TooLargeError([FieldProblem("", detail)])
    except zlib.error as error:
        raise InvalidError([FieldProblem("", f"不是 gzip (no gzip): {error}")]) from error
    if unpacker is not None and not unpacker.eof:
        raise InvalidError([FieldProblem("", "gzip 不完整 (gzip cut short)")])
    return bytes(body)


def _unpacked(unpacker: zlib._Decompress, chunk: bytes, limit: int) -> bytes:
    """Return what a chunk unpacks to; raises InvalidError for bytes after the end, which zlib would gather."""
    ended = unpacker.eof
    found = b"" if ended else unpacker.decompress(chunk, limit)
    if unpacker.unused_data or (ended and chunk):
        raise InvalidError([FieldProblem("", "gzip 之后还有多余字节 (bytes after the end of the gzip)")])
    return found

"""Reads a request's body within its limit, compressed or not."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

from producers.gateway.parsing import UnsupportedMediaTypeError
from services.runtime.errors import FieldProblem, InvalidError, TooLargeError

GZIP = zlib.MAX_WBITS | 16
ENCODINGS = {"", "identity", "gzip", "x-gzip"}


async def read_body(chunks: AsyncIterator[bytes], encoding: str, limit: int) -> bytes:
    """Return the body, decompressed, and stop reading as soon as it is too large in either form.

    A small body that unpacks to a huge one (a bomb) is never unpacked further than the limit. Raises TooLargeError,
    UnsupportedMediaTypeError for another encoding, or InvalidError for what is no gzip.
    """
    named = encoding.strip().lower()
    if named not in ENCODINGS:
        raise UnsupportedMediaTypeError(f"Content-Encoding {encoding}: 只支持 gzip (only gzip is understood)")
    unpacker = zlib.decompressobj(GZIP) if named.endswith("gzip") else None
    body = bytearray()
    try:
        async for chunk in chunks:
            body += chunk if unpacker is None else unpacker.decompress(chunk, limit + 1 - len(body))
            if len(body) > limit:
                detail = f"请求体解压后最大 {limit} 字节 (the body is larger than {limit} bytes)"
                raise TooLargeError([FieldProblem("", detail)])
    except zlib.error as error:
        raise InvalidError([FieldProblem("", f"不是 gzip (no gzip): {error}")]) from error
    if unpacker is not None and (not unpacker.eof or unpacker.unused_data):
        raise InvalidError([FieldProblem("", "gzip 不完整或有多余字节 (gzip cut short, or with bytes after its end)")])
    return bytes(body)

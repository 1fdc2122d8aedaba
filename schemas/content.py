"""When two events of one identity say the same: then the second is a repetition, and else a conflict.

The framed bytes answer it quickly: equal ones have equal content. Different ones may too, since a schema that has a
newer version writes the same content under another id. Then the **content digest** decides: over the fields of the
decoded data that differ from their defaults, without what the platform derives. A field that a newer version adds is
none of them until somebody fills it in.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import orjson

from schemas.contracts import Schema

DIGEST_BYTES = 16
_PLAIN = orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z


def framed_digest(value: bytes, attributes: Mapping[str, str]) -> bytes:
    """Return the digest of an event's type, business key, and value as it is on the log, schema id included."""
    digest = blake2b(value, digest_size=DIGEST_BYTES)
    digest.update(f"\0{attributes['type']}\0{attributes['subject']}".encode())
    return digest.digest()


class ContentDigester:
    """Makes the content digests of the values that were written in one schema."""

    def __init__(self, schema: Schema) -> None:
        self._name = str(schema.get("hongyan.type") or schema.get("name"))
        fields = schema.get("fields", ())
        self._derived = {field["name"] for field in fields if "derived" in field}
        self._defaults = {field["name"]: field["default"] for field in fields if "default" in field}

    def __call__(self, data: Mapping[str, Any]) -> bytes:
        """Return the content digest of decoded data."""
        defaults, derived = self._defaults, self._derived
        said = {
            name: value
            for name, value in data.items()
            if name not in derived and not (name in defaults and value == defaults[name])
        }
        text = orjson.dumps([self._name, said], default=_text, option=_PLAIN)
        return blake2b(text, digest_size=DIGEST_BYTES).digest()


def _text(value: object) -> str:
    """Return what JSON has no form for: one form for each value."""
    if isinstance(value, Decimal):
        return str(value.normalize())
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} is no value of a field")

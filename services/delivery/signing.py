"""Signatures of webhooks, by the Standard Webhooks specification 1.0 ("Signature scheme", symmetric, v1)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

from services.runtime.errors import ForbiddenError

PREFIX = "whsec_"
ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"
TOLERANCE_S = 5 * 60


def signature(secret: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return ``v1,`` and the base64 of HMAC-SHA256 over ``id.timestamp.body``; raises ValueError for a bad secret."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("a webhook secret is whsec_ and base64") from error
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def signed_headers(secrets: Sequence[str], message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the three headers; several live secrets give several signatures, parted by spaces."""
    signatures = [signature(secret, message_id, timestamp_s, body) for secret in secrets]
    return {ID_HEADER: message_id, TIMESTAMP_HEADER: str(timestamp_s), SIGNATURE_HEADER: " ".join(signatures)}


def verify(secret: str, headers: Mapping[str, str], body: bytes, now_s: float) -> str:
    """Return the message id of a genuine delivery; raises ForbiddenError. Header names are lower case."""
    try:
        message_id, sent_at = headers[ID_HEADER], int(headers[TIMESTAMP_HEADER])
        given = headers[SIGNATURE_HEADER].split()
    except (KeyError, ValueError) as error:
        raise ForbiddenError(f"a webhook header is missing or malformed: {error}") from error
    if abs(now_s - sent_at) > TOLERANCE_S:
        raise ForbiddenError("the webhook's timestamp is too old or too far ahead")
    expected = signature(secret, message_id, sent_at, body)
    if not any(hmac.compare_digest(expected, one) for one in given):
        raise ForbiddenError("no signature matches")
    return message_id

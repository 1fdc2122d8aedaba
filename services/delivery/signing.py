"""Signatures of webhooks, by the Standard Webhooks specification 1.0: symmetric (v1) and ed25519 (v1a)."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from services.runtime.errors import ForbiddenError

PREFIX = "whsec_"
PRIVATE_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"
ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"
TOLERANCE_S = 5 * 60


def signature(secret: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the signature over ``id.timestamp.body``: ``v1,…`` with a ``whsec_`` key, ``v1a,…`` with a ``whsk_`` one.

    Raises ValueError for what is no key.
    """
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    if secret.startswith(PRIVATE_PREFIX):
        return "v1a," + _text(Ed25519PrivateKey.from_private_bytes(_bytes(secret)).sign(signed))
    mac = _keyed(secret).copy()
    mac.update(signed)
    return "v1," + _text(mac.digest())


def signed_headers(secrets: Sequence[str], message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the three headers; several live secrets give several signatures, parted by spaces."""
    signatures = [signature(secret, message_id, timestamp_s, body) for secret in secrets]
    return {ID_HEADER: message_id, TIMESTAMP_HEADER: str(timestamp_s), SIGNATURE_HEADER: " ".join(signatures)}


def verify(key: str, headers: Mapping[str, str], body: bytes, now_s: float) -> str:
    """Return the message id of a genuine delivery; raises ForbiddenError. Header names are lower case.

    ``key`` is a ``whsec_`` secret or a ``whpk_`` public key; signatures of other kinds are passed over.
    """
    try:
        message_id, sent_at = headers[ID_HEADER], int(headers[TIMESTAMP_HEADER])
        given = headers[SIGNATURE_HEADER].split()
    except (KeyError, ValueError) as error:
        raise ForbiddenError(f"缺少签名头或写法不对 (a webhook header is missing or malformed): {error}") from error
    if abs(now_s - sent_at) > TOLERANCE_S:
        raise ForbiddenError("签名的时间戳过旧或过新，核对本机时钟 (its timestamp is too old or too far ahead)")
    if not any(_genuine(key, one, message_id, sent_at, body) for one in given):
        raise ForbiddenError("签名不符，核对密钥与所签的原文 (no signature matches)")
    return message_id


def new_private_key() -> str:
    """Return a new ed25519 key, ``whsk_`` and base64."""
    return PRIVATE_PREFIX + _text(Ed25519PrivateKey.generate().private_bytes_raw())


def public_key(private_key: str) -> str:
    """Return the public half, ``whpk_`` and base64, which receivers verify with."""
    public = Ed25519PrivateKey.from_private_bytes(_bytes(private_key)).public_key()
    return PUBLIC_PREFIX + _text(public.public_bytes_raw())


def _genuine(key: str, given: str, message_id: str, sent_at: int, body: bytes) -> bool:
    if not key.startswith(PUBLIC_PREFIX):
        return hmac.compare_digest(signature(key, message_id, sent_at, body).encode(), given.encode())
    version, _, text = given.partition(",")
    if version != "v1a":
        return False
    try:
        signed = f"{message_id}.{sent_at}.".encode() + body
        Ed25519PublicKey.from_public_bytes(_bytes(key)).verify(base64.b64decode(text), signed)
    except (InvalidSignature, binascii.Error):
        return False
    return True


@lru_cache(maxsize=4096)
def _keyed(secret: str) -> hmac.HMAC:
    # Not hmac.digest: it lets go of the interpreter each time, and other threads' turns cost more than the sum.
    return hmac.new(_bytes(secret), digestmod="sha256")


@lru_cache(maxsize=4096)
def _bytes(key: str) -> bytes:
    try:
        return base64.b64decode(key.rpartition("_")[2], validate=True)
    except binascii.Error as error:
        raise ValueError("a webhook key is whsec_, whsk_ or whpk_ and base64") from error


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()

"""What an agency says of its events: accepted, or rejected with a reason; and whether its signature holds."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from services.delivery.signing import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, TOLERANCE_S, verify
from services.runtime.errors import ForbiddenError

PUBLIC_PREFIX = "whpk_"
MAX_SINGLE = 100

Verdict = Literal["accepted", "rejected"]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=1000, strip_whitespace=True)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    @model_validator(mode="after")
    def _reasoned(self) -> Self:
        if getattr(self, "outcome", None) == "rejected" and not getattr(self, "reason", None):
            raise ValueError("rejected 须附 reason (a rejection needs its reason)")
        return self


class One(_Body):
    """The receipt of one event: its cursor, and its id where the agency wants that checked."""

    cursor: int = Field(ge=0)
    event_id: str | None = None
    outcome: Verdict = "accepted"
    reason: Reason | None = None


class Acknowledgement(_Body):
    """Receipts of single events, and of everything else up to a cursor of which the agency has said nothing yet.

    ``up_to`` moves the cursor. ``from`` is the first cursor that it covers; left out, the agency's cursor. It is needed
    where retention has passed that one: whoever writes it knows of the gap.
    """

    up_to: int | None = Field(None, ge=0)
    from_: int | None = Field(None, ge=0, alias="from")
    outcome: Verdict = "accepted"
    reason: Reason | None = None
    receipts: list[One] = Field([], max_length=MAX_SINGLE)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.up_to is None and not self.receipts:
            raise ValueError("给出 up_to 或 receipts (give up_to or receipts)")
        if len({one.cursor for one in self.receipts}) != len(self.receipts):
            raise ValueError("receipts 中一个游标只能出现一次 (a cursor stands there once)")
        return self


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature that holds: its Standard Webhooks headers, and the kind of key that verified it."""

    id: str
    timestamp: str
    signature: str
    verified_by: Literal["v1", "v1a"]


def verified(key: str | None, headers: Mapping[str, str], body: bytes, now_s: float) -> Signed | None:
    """Return the signature of an acknowledgement, None of an unsigned one; raises ForbiddenError for a wrong one.

    ``key`` is the agency's public key (``whpk_``, ed25519) or a shared secret (``whsec_``, HMAC-SHA256); both sign
    ``id.timestamp.body`` as Standard Webhooks 1.0 says.
    """
    if SIGNATURE_HEADER not in headers:
        return None
    if key is None:
        raise ForbiddenError("未登记回执验签密钥，先 hongyan agency ack-key (no key to verify with is known)")
    asymmetric = key.startswith(PUBLIC_PREFIX)
    if asymmetric:
        _verify_ed25519(key, headers, body, now_s)
    else:
        verify(key, headers, body, now_s)
    verified_by: Literal["v1", "v1a"] = "v1a" if asymmetric else "v1"
    return Signed(headers[ID_HEADER], headers[TIMESTAMP_HEADER], headers[SIGNATURE_HEADER], verified_by)


def check_public_key(text: str) -> None:
    """Raise ValueError for what is no ``whpk_`` key."""
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(text.removeprefix(PUBLIC_PREFIX), validate=True))
    except (binascii.Error, ValueError) as error:
        raise ValueError("公钥形如 whpk_ 加 32 字节的 base64 (whpk_ and 32 bytes in base64)") from error


def _verify_ed25519(key: str, headers: Mapping[str, str], body: bytes, now_s: float) -> None:
    try:
        message_id, sent_at = headers[ID_HEADER], int(headers[TIMESTAMP_HEADER])
    except (KeyError, ValueError) as error:
        raise ForbiddenError(f"缺少签名头或写法不对 (a signature header is missing or malformed): {error}") from error
    if abs(now_s - sent_at) > TOLERANCE_S:
        raise ForbiddenError("签名的时间戳过旧或过新，核对本机时钟 (its timestamp is too old or too far ahead)")
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix(PUBLIC_PREFIX)))
    signed = f"{message_id}.{sent_at}.".encode() + body
    given = [one.removeprefix("v1a,") for one in headers[SIGNATURE_HEADER].split() if one.startswith("v1a,")]
    if not any(_holds(public, text, signed) for text in given):
        raise ForbiddenError("签名不符，核对密钥与所签的原文 (no signature matches)")


def _holds(public: Ed25519PublicKey, text: str, signed: bytes) -> bool:
    try:
        public.verify(base64.b64decode(text), signed)
    except (InvalidSignature, binascii.Error):
        return False
    return True

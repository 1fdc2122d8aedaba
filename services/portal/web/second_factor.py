"""The second factor: codes from an app (TOTP, RFC 6238), and recovery codes for whoever has lost it."""

from __future__ import annotations

import hashlib
import io
import secrets
from datetime import datetime, timedelta

import pyotp
import segno

STEP_S = 30
ENROLMENT_LASTS = timedelta(minutes=10)
RECOVERY_CODES = 10
_DIGITS = 6


def new_secret() -> str:
    """Return a new secret, in base32."""
    return pyotp.random_base32()


def step_of(secret: str, code: str, now: datetime) -> int | None:
    """Return the time step whose code this is (this one, or a neighbour: clocks differ), None for a wrong code."""
    digits = code.replace(" ", "")
    if len(digits) != _DIGITS or not digits.isascii() or not digits.isdigit():
        return None
    current, totp = int(now.timestamp()) // STEP_S, pyotp.TOTP(secret)
    fits = (
        step for step in (current, current - 1, current + 1) if secrets.compare_digest(totp.generate_otp(step), digits)
    )
    return next(fits, None)


def enrolment_address(secret: str, person: str, issuer: str) -> str:
    """Return the address that an app reads from the picture."""
    return pyotp.TOTP(secret).provisioning_uri(name=person, issuer_name=issuer)


def picture(address: str) -> str:
    """Return a QR code as an SVG without styles of its own, so that a strict page may hold it."""
    output = io.BytesIO()
    segno.make(address, error="m").save(
        output, kind="svg", xmldecl=False, svgns=True, svgclass="qr", lineclass="qr-line", omitsize=True, border=2
    )
    return output.getvalue().decode()


def recovery_codes() -> list[str]:
    """Return new recovery codes, each good once."""
    return [f"{secrets.token_hex(3)}-{secrets.token_hex(3)}" for _ in range(RECOVERY_CODES)]


def recovery_digest(code: str) -> str:
    """Return what is kept of a recovery code."""
    return hashlib.sha256(code.strip().casefold().encode()).hexdigest()

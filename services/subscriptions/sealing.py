"""Webhook secrets: made here, kept sealed everywhere else (Fernet: AES-128-CBC with HMAC-SHA256)."""

from __future__ import annotations

import base64
import secrets

from cryptography.fernet import Fernet, InvalidToken

from services.runtime.errors import ForbiddenError, HongyanError
from services.runtime.settings import SecuritySettings

SECRET_BYTES = 32
PREFIX = "whsec_"


class Sealer:
    """Seals and opens secrets with the installation's master key."""

    def __init__(self, settings: SecuritySettings) -> None:
        if settings.master_key is None:
            raise HongyanError("security.master_key is not set; `hongyan up` makes one in its data folder")
        try:
            self._fernet = Fernet(settings.master_key.get_secret_value())
        except ValueError as error:
            raise HongyanError(f"security.master_key is no Fernet key: {error}") from error

    def seal(self, secret: str) -> str:
        """Return the sealed form."""
        return self._fernet.encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> str:
        """Return the secret; raises ForbiddenError when it was sealed with another key."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise ForbiddenError("the secret was sealed with another master key") from error


def new_secret() -> str:
    """Return a new webhook secret in the form of Standard Webhooks: ``whsec_`` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()

"""Who is asking: a department's own key, or a token of the OAuth2 server that the installation trusts."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from services.identity.repository import KEY_START, key_digest
from services.runtime.clock import Clock
from services.runtime.errors import UnauthenticatedError, UnavailableError
from services.runtime.settings import OAuthSettings
from services.subscriptions.control import ControlView, Department, Key

ALGORITHMS = ["RS256", "PS256", "ES256", "ES384", "Ed25519", "EdDSA"]
"""Asymmetric ones only: with a shared secret, whoever can check a token could also make one."""
FETCH_TIMEOUT_S = 3.0
MIN_REFETCH_S = 5.0
NEEDED = "需要部门密钥或令牌：Authorization: Bearer … (a department's key or token is needed)"
UNKNOWN = "没有哪个部门有这把密钥，或已废止 (no department has this key, or it was revoked)"


class IssuerUnavailableError(UnavailableError):
    """The public keys of the OAuth2 server can't be had, and none were seen before."""


class RegisterUnreadError(UnavailableError):
    """网关刚启动，正在读取部门登记，请用同一 id 重发 (the departments are being read; send again, same ids)"""


class Credentials:
    """Finds the department of a bearer credential; keys by digest, tokens by their client id.

    Until ``complete`` says that the register was read, nobody is known and nobody may be refused for good: a sender
    that is told 401 gives up, and a key that was revoked must not work for a moment.
    """

    def __init__(self, view: ControlView, clock: Clock, tokens: Tokens | None, complete: Callable[[], bool]) -> None:
        self._complete = complete
        self._view = view
        self._clock = clock
        self._tokens = tokens
        self._version = -1
        self._by_digest: Mapping[str, tuple[Department, Key]] = {}
        self._by_client: Mapping[str, Department] = {}

    @staticmethod
    def is_key(authorization: str) -> bool:
        """Tell whether the credential is one of our own keys, which takes no waiting to check."""
        return _bearer(authorization).startswith(KEY_START)

    def department(self, authorization: str) -> Department:
        """Return the department; raises UnauthenticatedError, RegisterUnreadError, IssuerUnavailableError."""
        if not self._complete():
            raise RegisterUnreadError
        self._follow()
        credential = _bearer(authorization)
        if self._tokens is not None and not credential.startswith(KEY_START):
            return self._of_client(self._tokens.client_of(credential))
        # A digest of 256 random bits gives nothing away by the time that it takes to look up.
        department, key = self._by_digest.get(key_digest(credential), (None, None))
        if department is None or key is None:
            raise UnauthenticatedError(UNKNOWN)
        if key.expires_at is not None and key.expires_at <= self._clock.now():
            raise UnauthenticatedError(f"密钥 {key.id} 已失效 (this key has ended); 请用新密钥")
        return department

    def _of_client(self, client: str) -> Department:
        department = self._by_client.get(client)
        if department is None:
            raise UnauthenticatedError(f"没有部门登记客户端 {client} (no department has this client id)")
        return department

    def _follow(self) -> None:
        version = self._view.version
        if version != self._version:
            departments = list(self._view.departments.values())
            self._by_digest = {key.digest: (d, key) for d in departments for key in d.keys}
            self._by_client = {d.client_id: d for d in departments if d.client_id}
            self._version = version


class Tokens:
    """Checks tokens (RFC 9068) by the issuer's public keys: signature, issuer, audience, expiry.

    The keys are read again after ``refresh_s``, and at once, though at most every five seconds, when a token names one
    that is not among them. While the issuer is away the keys seen last stay in force.
    """

    def __init__(self, settings: OAuthSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: KeySet | None = None
        self._read_at = float("-inf")
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(clock.now().timestamp()),
            leeway=settings.leeway_s,
            iss={"essential": True, "value": settings.issuer or ""},
            aud={"essential": True, "value": settings.audience},
            exp={"essential": True},
        )

    def client_of(self, token: str) -> str:
        """Return the client that a token names; raises UnauthenticatedError that says what is wrong with the token."""
        try:
            claims = self._decode(token).claims
            self._claims.validate(claims)
        except (JoseError, ValueError) as error:
            raise UnauthenticatedError(f"令牌无效 (the token is not valid): {error}") from error
        client = claims.get(self._settings.client_claim)
        if not isinstance(client, str) or not client:
            raise UnauthenticatedError(f"令牌缺少 {self._settings.client_claim} (the token names no client)")
        return client

    def _decode(self, token: str) -> jwt.Token:
        keys = self._current(self._settings.refresh_s)
        try:
            return jwt.decode(token, keys, algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            # The issuer may have changed its keys since they were read.
            newer = self._current(MIN_REFETCH_S)
            if newer is keys:
                raise
            return jwt.decode(token, newer, algorithms=ALGORITHMS)

    def _current(self, max_age_s: float) -> KeySet:
        with self._lock:
            if self._clock.monotonic() - self._read_at > max_age_s:
                self._read_at = self._clock.monotonic()
                try:
                    self._keys = KeySet.import_key_set(orjson.loads(self._fetch()))
                except (OSError, ValueError, KeyError, JoseError) as error:
                    if self._keys is None:
                        self._read_at = float("-inf")
                        raise IssuerUnavailableError(f"{self._settings.jwks}: {error}") from error
            if self._keys is None:
                raise IssuerUnavailableError
            return self._keys

    def _fetch(self) -> bytes:
        place = self._settings.jwks or ""
        if place.startswith(("http://", "https://")):
            with urllib.request.urlopen(place, timeout=FETCH_TIMEOUT_S) as answer:  # noqa: S310  (a setting names it)
                found: bytes = answer.read()
                return found
        return Path(place).read_bytes()


def _bearer(authorization: str) -> str:
    scheme, _, credential = authorization.partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise UnauthenticatedError(NEEDED)
    return credential.strip()

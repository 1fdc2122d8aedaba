"""Signing in by an OpenID Connect issuer: authorization code with PKCE (OpenID Connect Core 1.0, RFC 7636)."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from services.portal.web.entrance import RefusedError
from services.portal.web.sign_in import Door, inside
from services.portal.web.site import Site
from services.portal.web.tokens import Tokens
from services.portal.web.viewer import Visiting
from services.runtime.clock import Clock
from services.runtime.errors import HongyanError, NotFoundError, UnavailableError
from services.runtime.settings import OidcSettings

ALGORITHMS = ["RS256", "PS256", "ES256", "ES384", "Ed25519", "EdDSA"]
"""Asymmetric ones only: with a shared secret, whoever can check a token could also make one."""
CALLBACK = "/login/oidc/callback"
STEP_LASTS = timedelta(minutes=10)
_MAX_ANSWER = 1024 * 1024


class IssuerUnavailableError(UnavailableError):
    """统一身份认证没有应答，请稍后再试，或用密码登录 (the issuer does not answer: try later, or use a password)"""


class IssuerRefusedError(HongyanError):
    """统一身份认证没有放行 (the issuer did not let this person in)"""


@dataclass(frozen=True, slots=True)
class Came:
    """Who came back from the issuer, and where they wanted to go."""

    account: str
    to: str


class Issuer:
    """One OpenID Connect issuer."""

    def __init__(self, settings: OidcSettings, back: str, tokens: Tokens, clock: Clock) -> None:
        self._settings = settings
        self._back = back
        self._tokens = tokens
        self._clock = clock
        self._lock = threading.Lock()
        self._found: Mapping[str, Any] | None = None

    def begin(self, to: str) -> tuple[str, str]:
        """Return the issuer's address to go to, and the token that the browser brings back."""
        verifier, state, nonce = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._back,
            "scope": self._settings.scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        step = {"state": state, "nonce": nonce, "verifier": verifier, "to": to}
        address = self._configuration()["authorization_endpoint"]
        joined = "&" if "?" in address else "?"
        return f"{address}{joined}{urlencode(asked)}", self._tokens.make("oidc", step, STEP_LASTS)

    def finish(self, token: str | None, state: str, code: str, error: str = "") -> Came:
        """Return who has come back with a code, or with an error; raises IssuerRefusedError, IssuerUnavailableError."""
        if error:
            raise IssuerRefusedError(f"统一身份认证没有放行 (the issuer did not let you in): {error[:100]}")
        step = self._tokens.open("oidc", token)
        if step is None or not secrets.compare_digest(step["state"].encode(), state.encode()):
            raise IssuerRefusedError("登录已超时或不是从这里开始的，请重试 (this took too long or was not begun here)")
        claims = self._claims(self._redeem(code, step["verifier"]), step["nonce"])
        account = claims.get(self._settings.claim)
        if not isinstance(account, str) or not account:
            raise IssuerRefusedError(f"身份令牌缺少 {self._settings.claim} (the token names nobody)")
        return Came(account, step["to"])

    def _redeem(self, code: str, verifier: str) -> str:
        settings = self._settings
        asked = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._back,
            "code_verifier": verifier,
            "client_id": settings.client_id,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if settings.client_secret is not None:
            secret = settings.client_secret.get_secret_value()
            pair = f"{quote(settings.client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        answer = self._ask(self._configuration()["token_endpoint"], urlencode(asked).encode(), headers)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise IssuerRefusedError("统一身份认证没有给出身份令牌 (the issuer gave no id_token)")
        return token

    def _claims(self, token: str, nonce: str) -> Mapping[str, Any]:
        settings = self._settings
        registry = jwt.JWTClaimsRegistry(
            now=lambda: int(self._clock.now().timestamp()),
            leeway=30,
            iss={"essential": True, "value": settings.issuer or ""},
            aud={"essential": True, "value": settings.client_id},
            exp={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            keys = KeySet.import_key_set(cast("Any", self._ask(self._configuration()["jwks_uri"])))
            claims: Mapping[str, Any] = jwt.decode(token, keys, algorithms=ALGORITHMS).claims
            registry.validate(dict(claims))
        except (JoseError, ValueError, KeyError) as error:
            raise IssuerRefusedError(f"身份令牌无效 (the token is not valid): {error}") from error
        return claims

    def _configuration(self) -> Mapping[str, Any]:
        with self._lock:
            if self._found is None:
                issuer = (self._settings.issuer or "").rstrip("/")
                found = self._ask(f"{issuer}/.well-known/openid-configuration")
                needed = {"authorization_endpoint", "token_endpoint", "jwks_uri"}
                if found.get("issuer") != self._settings.issuer or not needed <= found.keys():
                    raise IssuerUnavailableError("统一身份认证的配置不符 (the issuer's configuration is not its own)")
                self._found = found
            return self._found

    def _ask(self, address: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(address, body, dict(headers or {}))  # noqa: S310  (of the settings' issuer)
        try:
            with urllib.request.urlopen(request, timeout=self._settings.timeout_s) as answer:  # noqa: S310
                found = json.loads(answer.read(_MAX_ANSWER))
        except urllib.error.HTTPError as error:
            if error.code in {400, 401, 403}:
                raise IssuerRefusedError(f"统一身份认证拒绝了这次登录 (the issuer refused): {error.code}") from error
            raise IssuerUnavailableError from error
        except (OSError, ValueError) as error:
            raise IssuerUnavailableError from error
        if not isinstance(found, dict):
            raise IssuerUnavailableError
        return found


def routes(site: Site) -> APIRouter:
    """Return the routes."""
    router, door, settings = APIRouter(), Door(site), site.settings
    base = (settings.portal.public_url or settings.portal.url).rstrip("/")
    issuer = Issuer(settings.oidc, base + CALLBACK, site.entrance.tokens, site.clock) if settings.oidc.issuer else None

    @router.get("/login/oidc")
    def begin(visitor: Visiting, next: str = "/") -> Response:  # noqa: A002  (what everybody calls it)
        if issuer is None:
            raise NotFoundError("没有配置统一身份认证 (no issuer is set: HONGYAN_OIDC__ISSUER)")
        try:
            address, step = issuer.begin(inside(next))
        except HongyanError as error:
            return door.page(visitor, next, error=str(error))
        answer = RedirectResponse(address, 303)
        site.cookies.keep(answer, site.cookies.step, step, int(STEP_LASTS.total_seconds()))
        return answer

    @router.get(CALLBACK)
    def finish(request: Request, visitor: Visiting, code: str = "", state: str = "", error: str = "") -> Response:
        if issuer is None:
            raise NotFoundError("没有配置统一身份认证 (no issuer is set: HONGYAN_OIDC__ISSUER)")
        try:
            came = issuer.finish(request.cookies.get(site.cookies.step), state, code, error)
            passed = site.entrance.by_issuer(visitor, came.account)
        except (IssuerRefusedError, IssuerUnavailableError, RefusedError) as refused:
            return door.page(visitor, "/", error=str(refused))
        return door.let_in(request, passed, came.to, "oidc")

    return router

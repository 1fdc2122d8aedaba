"""Signing in by an OpenID Connect issuer on loopback; and the portal behind https, whose cookies are marked so."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask, request
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from pydantic import SecretStr

from services.identity.people import Role
from services.runtime.embedded.servers import Servers
from services.runtime.kafka.port import Admin
from services.runtime.settings import OidcSettings
from tests.portal_site import PortalSite, Visitor, open_portal
from tests.webservers import serving_wsgi

pytestmark = pytest.mark.servers

PUBLIC = "https://portal.example.test"
SECRET = "client secret/with signs"


@dataclass
class LoopbackIssuer:
    """An issuer that checks what it is asked as a strict one does; ``claims`` are put over the token's."""

    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "k1"}))
    url: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    signed_by: RSAKey | None = None
    now: Any = None
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def app(self) -> Flask:
        """Return its three endpoints."""
        made = Flask("issuer")

        @made.get("/.well-known/openid-configuration")
        def configuration() -> dict[str, str]:
            return {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/jwks",
            }

        @made.get("/jwks")
        def jwks() -> Any:
            return dict(KeySet([self.key]).as_dict(private=False))

        @made.post("/token")
        def token() -> Any:
            asked = self.codes.pop(request.form["code"], None)
            proof = base64.urlsafe_b64encode(hashlib.sha256(request.form["code_verifier"].encode()).digest())
            basic = base64.b64encode(b"portal:client%20secret%2Fwith%20signs").decode()
            if (
                asked is None
                or asked["code_challenge"] != proof.rstrip(b"=").decode()
                or asked["redirect_uri"] != request.form["redirect_uri"]
                or request.headers["Authorization"] != f"Basic {basic}"
            ):
                return {"error": "invalid_grant"}, 400
            now = int(self.now().timestamp())
            claims = {
                "iss": self.url,
                "aud": asked["client_id"],
                "exp": now + 300,
                "iat": now,
                "sub": "42",
                "nonce": asked["nonce"],
                "preferred_username": "ops",
            }
            signer = self.signed_by or self.key
            return {"id_token": jwt.encode({"alg": "RS256", "kid": "k1"}, claims | self.claims, signer)}

        return made

    def lets_in(self, address: str) -> str:
        """Do what somebody does at the issuer's own page; return the path that they are sent back to."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert (asked["code_challenge_method"], asked["response_type"]) == ("S256", "code")
        code = secrets.token_urlsafe(8)
        self.codes[code] = asked
        assert asked["redirect_uri"] == f"{PUBLIC}/login/oidc/callback"
        return f"/login/oidc/callback?code={code}&state={asked['state']}"


@pytest.fixture(scope="module")
def issuer() -> Iterator[LoopbackIssuer]:
    """Return a running issuer."""
    found = LoopbackIssuer()
    with serving_wsgi(found.app()) as url:
        found.url = url.rstrip("/")
        yield found


@pytest.fixture(scope="module")
def single(
    issuer: LoopbackIssuer,
    servers: Servers,
    admin: Admin,
    template_database: str,
    registry_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[PortalSite]:
    """Return a portal that trusts the issuer, seen by browsers at an https address."""
    folder: Path = tmp_path_factory.mktemp("oidc")
    oidc = OidcSettings(issuer=issuer.url, client_id="portal", client_secret=SecretStr(SECRET))
    with open_portal(servers, admin, template_database, registry_url, folder, oidc=oidc, public_url=PUBLIC) as found:
        issuer.now = found.clock.now
        found.person("ops", Role.SYSTEM)
        yield found


@pytest.fixture
def plain(issuer: LoopbackIssuer) -> Iterator[None]:
    """Leave the issuer as it was."""
    yield
    issuer.claims, issuer.signed_by = {}, None


def comes_back(single: PortalSite, issuer: LoopbackIssuer) -> tuple[Visitor, int]:
    """Go to the issuer and come back."""
    visitor = single.visitor()
    answer = visitor.get("/login/oidc?next=/account")
    return visitor, visitor.get(issuer.lets_in(answer.location)).status


def test_whom_the_issuer_lets_in_is_in(single: PortalSite, issuer: LoopbackIssuer) -> None:
    """And where they wanted to be; the sign-in page offers it."""
    visitor = single.visitor()
    assert "/login/oidc?next=/account" in visitor.get("/login?next=/account").text
    answer = visitor.get("/login/oidc?next=/account")
    assert (answer.status, answer.location.startswith(f"{issuer.url}/authorize?")) == (303, True)
    back = visitor.get(issuer.lets_in(answer.location))
    assert (back.status, back.location) == (303, "/account")
    assert "ops 某" in visitor.get("/account").text


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://elsewhere.example"},
        {"aud": "another-client"},
        {"nonce": "of another sign-in"},
        {"exp": 1_000_000_000},
        {"preferred_username": ""},
        {"preferred_username": "nobody-here"},
    ],
    ids=lambda claims: next(iter(claims)),
)
@pytest.mark.usefixtures("plain")
def test_a_token_that_is_not_for_this_sign_in_is_refused(
    single: PortalSite, issuer: LoopbackIssuer, claims: dict[str, Any]
) -> None:
    """Of another issuer, for another client, for another sign-in, past its time, or for nobody here."""
    issuer.claims = claims
    visitor, status = comes_back(single, issuer)
    assert status == 401
    assert visitor.get("/account").status == 303


@pytest.mark.usefixtures("plain")
def test_a_token_that_somebody_else_has_signed_is_refused(single: PortalSite, issuer: LoopbackIssuer) -> None:
    """Though it bears the right key's name."""
    issuer.signed_by = RSAKey.generate_key(2048, {"kid": "k1"})
    assert comes_back(single, issuer)[1] == 401


def test_a_code_comes_back_only_to_the_browser_that_began(single: PortalSite, issuer: LoopbackIssuer) -> None:
    """Another's code, a code twice, one that was never asked for, and one that comes too late open nothing."""
    begun, other = single.visitor(), single.visitor()
    back = issuer.lets_in(begun.get("/login/oidc").location)
    other.get("/login/oidc")
    assert other.get(back).status == 401
    assert single.visitor().get(back).status == 401
    assert begun.get(back.replace("code=", "code=x")).status == 401
    late = single.visitor()
    back = issuer.lets_in(late.get("/login/oidc").location)
    single.clock.ahead += timedelta(minutes=11)
    assert late.get(back).status == 401
    assert "access_denied" in begun.get("/login/oidc/callback?error=access_denied").text


def test_behind_https_cookies_are_secure_and_bound_to_the_host(single: PortalSite) -> None:
    """And browsers are told to come by https alone."""
    answer = single.visitor().sign_in("ops")
    line = answer.cookie("__Host-hongyan_session")
    assert "secure" in line.lower() and "path=/" in line.lower() and "domain" not in line.lower()
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=")

"""What ends by itself: keys, tokens, grants and certificates, from the configuration; pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from cryptography import x509

from schemas.times import SHANGHAI
from services.delivery.profile import with_secrets
from services.runtime.alerts import Alert, AlertKind
from services.runtime.errors import HongyanError
from services.subscriptions.control import Agency, ControlView

DAY_S = 86_400.0
CONFIGURED = "delivery."
"""How the names begin of what ends in an agency's own settings."""
Unseal = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class End:
    """Something of somebody's that ends at a moment."""

    kind: AlertKind
    subject: str
    what: str
    name: str
    at: datetime

    @property
    def label(self) -> tuple[str, str]:
        """Return what tells it from others of the same owner."""
        return "of", self.name


@dataclass(frozen=True, slots=True)
class Seen:
    """The certificate that a receiver showed last: when it ends, and whose it is."""

    agency: str
    ends_at: datetime
    owner: str

    def to_json(self) -> dict[str, str]:
        """Return it as JSON values."""
        return {"agency": self.agency, "ends_at": self.ends_at.isoformat(), "owner": self.owner}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Seen:
        """Read it; raises KeyError, TypeError or ValueError."""
        return cls(str(entry["agency"]), datetime.fromisoformat(entry["ends_at"]), str(entry["owner"]))


def shows_certificate(agency: Agency) -> bool:
    """Tell whether an agency's receiver shows a certificate."""
    return agency.sink.lower().startswith("https:")


def ending(ends: Iterable[End], now: datetime, warn_days: float, urgent_days: float) -> list[Alert]:
    """Return an alert for whatever ends soon or has ended."""
    found = []
    for end in ends:
        days = (end.at - now).total_seconds() / DAY_S
        if days > warn_days:
            continue
        day = end.at.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M")
        when = f"还有 {days:.0f} 天 (in {days:.0f} days)" if days > 0 else "已过期 (has ended)"
        found.append(
            Alert(
                end.kind,
                end.subject,
                now.isoformat(),
                f"{end.what} {end.name}：{day} 到期，{when}",
                labels=dict([end.label]),
                severity="critical" if days <= urgent_days else "warning",
            )
        )
    return found


def ends_of(view: ControlView, seen: Iterable[Seen], unseal: Unseal, now: datetime) -> list[End]:
    """Return everything in force that ends by itself. A key that another one outlives is no end of anything."""
    agencies = dict(view.agencies)
    found: list[End] = []
    for agency in agencies.values():
        found += _last_key(agency.id, "签名密钥 (signing key)", {k.id: k.expires_at for k in agency.keys}, now)
        found += _delivery(agency, unseal)
    for access in dict(view.access).values():
        found += _last_key(access.agency, "取数密钥 (feed key)", {k.id: k.expires_at for k in access.keys}, now)
    for department in dict(view.departments).values():
        keys = {k.id: k.expires_at for k in department.keys}
        found += _last_key(department.id, "发布密钥 (publishing key)", keys, now)
    found += _grants(view, now)
    found += [
        End(AlertKind.CERTIFICATE_ENDING, one.agency, "接收端证书 (receiver's certificate)", one.owner, one.ends_at)
        for one in seen
        if one.agency in agencies and shows_certificate(agencies[one.agency])
    ]
    return found


def _grants(view: ControlView, now: datetime) -> Iterator[End]:
    """A grant that another one has taken the place of, or that is over, warns nobody."""
    grants = dict(view.subscriptions)
    replaced = {one.replaces for one in grants.values() if one.replaces and one.state not in {"draft", "submitted"}}
    for grant in grants.values():
        ends_at = grant.expires_at()
        if grant.state == "active" and ends_at is not None and ends_at > now and grant.id not in replaced:
            yield End(AlertKind.GRANT_ENDING, grant.agency, "订阅 (grant)", grant.id, ends_at)


def _last_key(owner: str, what: str, keys: Mapping[str, datetime | None], now: datetime) -> Iterator[End]:
    """Return the key that ends last, unless one has no end; whoever has none left and had some is past the end."""
    ends = {name: at for name, at in keys.items() if at is not None}
    if not keys or len(ends) < len(keys):
        return
    name, at = max(ends.items(), key=lambda one: one[1])
    yield End(AlertKind.KEY_ENDING, owner, what, name, at)


def _delivery(agency: Agency, unseal: Unseal) -> Iterator[End]:
    """Certificates and a token with an end (a JWT) in an agency's delivery settings."""
    tls = agency.delivery.get("tls") or {}
    for name, what in (("certificate", "客户端证书 (client certificate)"), ("ca", "接收端的签发证书 (its authority)")):
        ends_at = certificate_end(tls.get(name) or "")
        if ends_at is not None:
            yield End(AlertKind.CERTIFICATE_ENDING, agency.id, what, f"{CONFIGURED}tls.{name}", ends_at)
    auth = agency.delivery.get("auth") or {}
    if auth.get("kind") == "bearer":
        try:
            opened = with_secrets(agency.delivery, unseal)
        except HongyanError:
            return  # sealed with another master key: that is an alert of its own
        ends_at = token_end(opened["auth"]["token"])
        if ends_at is not None:
            yield End(AlertKind.KEY_ENDING, agency.id, "令牌 (token)", f"{CONFIGURED}auth.token", ends_at)


def certificate_end(pem: str) -> datetime | None:
    """Return when the first of these certificates to end does; None where there is none that can be read."""
    try:
        held = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        return None
    return min((one.not_valid_after_utc for one in held), default=None)


def token_end(token: str) -> datetime | None:
    """Return when a JWT ends, None for any other token; its signature is its receiver's to check."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return datetime.fromtimestamp(float(claims["exp"]), UTC)
    except (ValueError, KeyError, TypeError, binascii.Error, OverflowError):
        return None

"""How one agency wants its deliveries: what it may set itself, and what then holds over the installation's settings.

An agency's wishes are kept as a JSON document beside it (PostgreSQL, control topic); what is secret in them is sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from services.delivery.retry import RetryPolicy
from services.runtime.errors import InvalidError
from services.runtime.mistakes import bad_fields
from services.runtime.settings import DeliverySettings

MAX_BATCH = 500
HIDDEN = "(已封存 sealed)"
SECRETS = (("auth", "token"), ("auth", "client_secret"), ("tls", "private_key"))
"""Where secrets stand in a document."""

Pem = Annotated[str, StringConstraints(pattern=r"^\s*-----BEGIN ")]
Word = Annotated[str, StringConstraints(min_length=1, max_length=4000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Bearer(_Part):
    """A fixed bearer token."""

    kind: Literal["bearer"] = "bearer"
    token: Word


class ClientCredentials(_Part):
    """OAuth2 client credentials (RFC 6749 §4.4): a token is fetched, kept, and renewed before it ends."""

    kind: Literal["oauth2"] = "oauth2"
    token_url: Word
    client_id: Word
    client_secret: Word
    scope: Word | None = None


class Tls(_Part):
    """Mutual TLS: the authority that the receiver's certificate is checked by, and our own certificate, all PEM."""

    ca: Pem | None = None
    certificate: Pem | None = None
    private_key: Word | None = None

    @model_validator(mode="after")
    def _pair(self) -> Tls:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate 与 private_key 须成对 (certificate and private_key go together)")
        return self


class Wishes(_Part):
    """What an agency may set; what it leaves out is as the installation has it."""

    format: Literal["json", "avro"] = "json"
    batch: int = Field(1, ge=1, le=MAX_BATCH)
    window: int | None = Field(None, ge=1, le=10_000)
    concurrency: int | None = Field(None, ge=1, le=256)
    rate_per_s: float | None = Field(None, gt=0)
    catch_up_per_s: float | None = Field(None, gt=0)
    timeout_s: float | None = Field(None, gt=0, le=300)
    connect_timeout_s: float | None = Field(None, gt=0, le=60)
    retry_base_s: float | None = Field(None, gt=0, le=3600)
    retry_cap_s: float | None = Field(None, gt=0, le=86_400)
    hold_after: int | None = Field(None, ge=1, le=1000)
    auth: Annotated[Bearer | ClientCredentials, Field(discriminator="kind")] | None = None
    tls: Tls | None = None

    @model_validator(mode="after")
    def _avro_alone(self) -> Wishes:
        if self.format == "avro" and self.batch > 1:
            raise ValueError("avro 不能成批，CloudEvents 没有二进制批格式 (avro can't be batched; use format json)")
        return self


@dataclass(frozen=True, slots=True)
class Profile:
    """What holds for one agency: seconds, counts, and opened credentials."""

    window: int
    concurrency: int
    timeout_s: float
    connect_timeout_s: float
    retry: RetryPolicy
    hold_after: int
    catch_up_per_s: float
    format: Literal["json", "avro"] = "json"
    batch: int = 1
    rate_per_s: float | None = None
    auth: Bearer | ClientCredentials | None = None
    tls: Tls | None = None


def wishes_of(document: Mapping[str, Any]) -> Wishes:
    """Read an agency's document; raises InvalidError that names each bad field under ``/delivery``."""
    try:
        return Wishes.model_validate(document)
    except ValidationError as error:
        raise InvalidError(bad_fields(error.errors(), "/delivery")) from error


def profile_of(document: Mapping[str, Any], defaults: DeliverySettings, unseal: Callable[[str], str]) -> Profile:
    """Return what holds for an agency; raises InvalidError, or ForbiddenError for what can't be unsealed."""
    wishes = wishes_of(with_secrets(document, unseal))
    chosen = {
        name: getattr(defaults, name) if getattr(wishes, name) is None else getattr(wishes, name)
        for name in ("window", "concurrency", "timeout_s", "connect_timeout_s", "hold_after", "catch_up_per_s")
    }
    retry = RetryPolicy(wishes.retry_base_s or defaults.retry_base_s, wishes.retry_cap_s or defaults.retry_cap_s)
    return Profile(
        **chosen,
        retry=retry,
        format=wishes.format,
        batch=wishes.batch,
        rate_per_s=wishes.rate_per_s,
        auth=wishes.auth,
        tls=wishes.tls,
    )


def with_secrets(document: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Return the document with every secret changed: sealed, unsealed or hidden."""
    changed = dict(document)
    for part, name in SECRETS:
        held = changed.get(part)
        if isinstance(held, Mapping) and isinstance(held.get(name), str):
            changed[part] = {**held, name: change(held[name])}
    return changed


def hidden(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document as it is shown to people."""
    return with_secrets(document, lambda _: HIDDEN)

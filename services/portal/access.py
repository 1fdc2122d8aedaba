"""Administration of how agencies take their feeds: channel, their own keys, receipt keys, Kafka users."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from schemas.receipts import Channel
from schemas.topics import Topics
from services.delivery.acknowledgement import check_public_key
from services.identity.access import AccessRepository, new_agency_key
from services.runtime.errors import ConflictError, FieldProblem, HongyanError, InvalidError, UnavailableError
from services.runtime.kafka.port import Kafka
from services.subscriptions.sealing import Sealer, new_secret

ADMINISTRATOR = "administrator"
Text = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reason: Text


class KeyBody(_Body):
    """Why a key is given out, and for how long the older one still works (hours)."""

    overlap_hours: float = Field(168, ge=0, le=24 * 366)


class ChannelBody(_Body):
    """By which channel an agency takes its feed from now on."""

    channel: Channel


class AckKeyBody(_Body):
    """The public key that an agency signs its receipts with; left out, a shared secret is made."""

    public: str | None = None


class AccessAdministration:
    """What the routes do, without HTTP."""

    def __init__(self, repository: AccessRepository, kafka: Kafka, topics: Topics, sealer: Sealer) -> None:
        self.repository = repository
        self._kafka = kafka
        self._topics = topics
        self._sealer = sealer

    def show(self, agency: str) -> dict[str, Any]:
        """Return an agency's access as it is shown: keys by id and end, never their digests."""
        return _shown(self.repository.get(agency))

    def add_key(self, agency: str, body: KeyBody, by: str = ADMINISTRATOR) -> dict[str, Any]:
        """Give out a key, shown this once; an older one ends after the overlap."""
        key, overlap = new_agency_key(), timedelta(hours=body.overlap_hours)
        return _shown(self.repository.rotate(agency, key, overlap, by, body.reason)) | {"key": key}

    def set_ack_key(self, agency: str, body: AckKeyBody) -> dict[str, Any]:
        """Keep a public key, or make a shared secret and show it this once."""
        if body.public is not None:
            try:
                check_public_key(body.public)
            except ValueError as error:
                raise InvalidError([FieldProblem("/public", str(error))]) from error
            return _shown(self.repository.set_ack_key(agency, body.public, ADMINISTRATOR, body.reason))
        secret = new_secret()
        changed = self.repository.set_ack_key(agency, self._sealer.seal(secret), ADMINISTRATOR, body.reason)
        return _shown(changed) | {"secret": secret}

    def make_kafka_user(self, agency: str, reason: str) -> dict[str, Any]:
        """Make a Kafka user, who may read this agency's feed in its own group while that is its channel.

        Made again, it has a new password: the old one ends. The right to read is given and taken away by whoever guards
        the feeds (:mod:`consumers.feeds.direct`), who knows what is stopped.
        """
        self.repository.get(agency)
        user, password = self._topics.agency_group(agency), secrets.token_urlsafe(24)
        topic = self._topics.feed(agency)
        admin = self._kafka.admin()
        try:
            admin.put_user(user, password)
            # Taken away, not given: this says here and now whether the broker goes by rights at all.
            admin.forbid_reading(user, topic, user)
        except UnavailableError:
            raise
        except HongyanError as error:
            raise ConflictError(f"Kafka 须先启用授权与 SASL 监听，没有发放 (not given out): {error}") from error
        finally:
            admin.close()
        self.repository.note_kafka_user(agency, ADMINISTRATOR, reason)
        return {"agency": agency, "user": user, "password": password, "topic": topic, "group": user}


def access_routes(access: AccessAdministration) -> APIRouter:
    """Return the routes, to be put behind the administration's own check."""
    router = APIRouter(prefix="/agencies/{agency}/access")

    @router.get("")
    def show(agency: str) -> dict[str, Any]:
        return access.show(agency)

    @router.post("/keys", status_code=201)
    def add_key(agency: str, body: KeyBody) -> dict[str, Any]:
        return access.add_key(agency, body)

    @router.post("/keys/{key}/revoke")
    def revoke(agency: str, key: str, body: _Body) -> dict[str, Any]:
        return _shown(access.repository.revoke(agency, key, ADMINISTRATOR, body.reason))

    @router.post("/channel")
    def channel(agency: str, body: ChannelBody) -> dict[str, Any]:
        return _shown(access.repository.set_channel(agency, body.channel, ADMINISTRATOR, body.reason))

    @router.post("/ack-key")
    def ack_key(agency: str, body: AckKeyBody) -> dict[str, Any]:
        return access.set_ack_key(agency, body)

    @router.post("/kafka-user", status_code=201)
    def kafka_user(agency: str, body: _Body) -> dict[str, Any]:
        return access.make_kafka_user(agency, body.reason)

    return router


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    held = document["ack_key"]
    kind = None if held is None else "ed25519" if held.startswith("whpk_") else "hmac"
    keys = [{"id": key["id"], "expires_at": key["expires_at"]} for key in document["keys"]]
    return {"agency": document["agency"], "channel": document["channel"], "keys": keys, "ack_key": kind}

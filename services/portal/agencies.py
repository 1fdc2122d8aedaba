"""Receiving agencies over the administration API: added, changed, verified, tried, their keys rotated."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from schemas.codec import Codec
from schemas.formats import check_division
from schemas.topics import PROBE_AGENCY, Topics
from services.delivery.network import Network, check_destination
from services.delivery.profile import ClientCredentials, hidden, profile_of, wishes_of, with_secrets
from services.delivery.receiver import LiveKey, Receiver
from services.delivery.signing import new_private_key, public_key
from services.delivery.tls import context_of
from services.delivery.trial import Trial, TrialResult
from services.runtime.errors import FieldProblem, InvalidError
from services.runtime.kafka.port import Kafka
from services.runtime.settings import DeliverySettings
from services.subscriptions.repository import AgencyRepository, Change, Decision, KeyKind, NewKey, plain
from services.subscriptions.sealing import Sealer, new_secret

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,39}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
ADMINISTRATOR = "administrator"
RESERVED = "平台自检所用，换一个 (the system's own probe has it; take another)"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AgencyBody(_Body):
    """A receiving agency to add: how its deliveries are signed, and what it wants otherwise than the installation."""

    id: Identifier
    name: Text
    division: str = "510000"
    sink: Text
    signing: KeyKind = "hmac"
    delivery: dict[str, Any] = {}


class ChangeBody(_Body):
    """A new place for an agency's feed, or other delivery settings (in place of all it had)."""

    sink: Text | None = None
    delivery: dict[str, Any] | None = None
    reason: Text


class KeyBody(_Body):
    """Why a signing key is changed, for how long the older one still signs beside it (hours), and of which kind."""

    reason: Text
    overlap_hours: float = Field(168, ge=0, le=24 * 366)
    kind: KeyKind = "hmac"


class WhyBody(_Body):
    """Why a decision was taken."""

    reason: Text


class AgencyDesk:
    """What the API does with agencies, without HTTP."""

    def __init__(
        self,
        agencies: AgencyRepository,
        kafka: Kafka,
        topics: Topics,
        sealer: Sealer,
        settings: DeliverySettings,
        networks: Sequence[Network],
        codec: Codec,
    ) -> None:
        self.agencies = agencies
        self._kafka = kafka
        self._topics = topics
        self._sealer = sealer
        self._settings = settings
        self._networks = networks
        self._trial = Trial(networks, codec)

    def one(self, agency: str) -> dict[str, Any]:
        """Return an agency, and for a suspended one since when, by whom and why; raises NotFoundError."""
        row = self.agencies.get(agency)
        paused = self.agencies.paused(agency) if row["state"] == "suspended" else None
        return self.shown(row) | {"suspended": plain(paused) if paused else None}

    def add(self, body: AgencyBody) -> dict[str, Any]:
        """Add an agency and return it with its signing key, which is shown this once (an ed25519 one never)."""
        if body.id == PROBE_AGENCY:
            raise InvalidError([FieldProblem("/id", RESERVED)])
        self._check_sink(body.sink)
        self._check_delivery(body.delivery)
        try:
            check_division(body.division)
        except ValueError as error:
            raise InvalidError([FieldProblem("/division", str(error))]) from error
        admin = self._kafka.admin()
        try:
            admin.ensure_topics(self._topics.agency_specs(body.id))
        finally:
            admin.close()
        key, shown = self._new_key(body.signing)
        values = body.model_dump(exclude={"signing"}) | {
            "delivery": with_secrets(body.delivery, self._sealer.seal),
            "verified": not self._settings.require_verification,
        }
        return self.shown(self.agencies.add(values, key, Decision(ADMINISTRATOR, "added"))) | shown

    def change(self, agency: str, body: ChangeBody) -> dict[str, Any]:
        """Change where or how a feed is delivered; a new address must answer the signed challenge first."""
        row = self.agencies.get(agency)
        delivery = None
        if body.delivery is not None:
            self._check_delivery(body.delivery)
            delivery = with_secrets(body.delivery, self._sealer.seal)
        if body.sink is not None:
            self._check_sink(body.sink)
        moved = body.sink is not None and self._settings.require_verification
        if moved:
            tried = row | {"sink": body.sink, "delivery": row["delivery"] if delivery is None else delivery}
            self._challenge(tried)
        change = Change(sink=body.sink, delivery=delivery, verified=moved)
        return self.shown(self.agencies.change(agency, "change", change, Decision(ADMINISTRATOR, body.reason)))

    def decide(
        self, agency: str, state: Literal["active", "suspended"], reason: str, by: str = ADMINISTRATOR
    ) -> dict[str, Any]:
        """Suspend an agency or take it up again; its line is held meanwhile and nothing is dropped."""
        return self.shown(self.agencies.change(agency, state, Change(state=state), Decision(by, reason)))

    def verify(self, agency: str, by: str = ADMINISTRATOR) -> dict[str, Any]:
        """Send the signed challenge: without the right answer nothing is pushed; InvalidError says what was wrong."""
        row = self.agencies.get(agency)
        result = self._challenge(row)
        decision = Decision(by, "接收端正确回应了签名质询 (answered the signed challenge)")
        changed = self.agencies.change(agency, "verify", Change(verified=True), decision)
        return self.shown(changed) | {"channel": row["channel"]} | result.to_json()

    def test(self, agency: str) -> dict[str, Any]:
        """Deliver one test event as a real one would be, and return what came back."""
        row = self.agencies.get(agency)
        self._check_sink(row["sink"])
        return asyncio.run(self._trial.test(self._receiver(row))).to_json()

    def rotate(self, agency: str, body: KeyBody, by: str = ADMINISTRATOR) -> dict[str, Any]:
        """Give out a new signing key; the older one of its kind signs beside it until the overlap ends."""
        key, shown = self._new_key(body.kind)
        overlap = timedelta(hours=body.overlap_hours)
        return self.shown(self.agencies.rotate(agency, key, overlap, Decision(by, body.reason))) | shown

    def revoke(self, agency: str, key_id: str, reason: str, by: str = ADMINISTRATOR) -> dict[str, Any]:
        """End a signing key at once."""
        return self.shown(self.agencies.revoke(agency, key_id, Decision(by, reason)))

    def add_evidence(self, agency: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Keep the result of a receiver check; raises InvalidError when it isn't as it was written."""
        body = {name: value for name, value in document.items() if name != "digest"}
        digest = hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
        if document.get("digest") != digest or not isinstance(body.get("passed"), bool):
            detail = "摘要与内容不符 (the digest does not fit the content)"
            raise InvalidError([FieldProblem("/digest", detail)])
        self.agencies.add_evidence(agency, digest, body["passed"], document)
        return {"agency": agency, "digest": digest, "passed": body["passed"]}

    def shown(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return an agency as it is shown: keys by id and end, secrets hidden."""
        keys = [{n: v for n, v in plain(key).items() if n != "sealed"} for key in row["keys"]]
        return plain(row) | {"keys": keys, "delivery": hidden(row["delivery"])}

    def _challenge(self, row: Mapping[str, Any]) -> TrialResult:
        self._check_sink(row["sink"])
        result = asyncio.run(self._trial.challenge(self._receiver(row)))
        if not result.passed:
            raise InvalidError([FieldProblem("/sink", result.detail)])
        return result

    def _receiver(self, row: Mapping[str, Any]) -> Receiver:
        keys = [LiveKey(self._sealer.open(key["sealed"]), key["expires_at"]) for key in row["keys"]]
        profile = profile_of(row["delivery"], self._settings, self._sealer.open)
        return Receiver(row["id"], row["sink"], tuple(keys), profile)

    def _new_key(self, kind: KeyKind) -> tuple[NewKey, dict[str, str]]:
        """Return a key to keep, and what of it is shown to whoever asked."""
        name = f"sig-{secrets.token_hex(6)}"
        if kind == "ed25519":
            private = new_private_key()
            public = public_key(private)
            return NewKey(name, kind, self._sealer.seal(private), public), {"public_key": public}
        secret = new_secret()
        return NewKey(name, kind, self._sealer.seal(secret)), {"secret": secret}

    def _check_sink(self, sink: str) -> None:
        check_destination(sink, resolve, self._networks)

    def _check_delivery(self, delivery: Mapping[str, Any]) -> None:
        wishes = wishes_of(delivery)
        auth = wishes.auth
        if isinstance(auth, ClientCredentials):
            _at("/delivery/auth/token_url", lambda: check_destination(auth.token_url, resolve, self._networks))
        if wishes.tls is not None:
            try:
                context_of(wishes.tls)
            except ValueError as error:
                raise InvalidError([FieldProblem("/delivery/tls", str(error))]) from error


def _at(pointer: str, check: Callable[[], object]) -> None:
    """Run a check whose problems are about another field than it says."""
    try:
        check()
    except InvalidError as error:
        raise InvalidError([FieldProblem(pointer, problem.detail) for problem in error.problems]) from error


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host; raises OSError."""
    return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})


def agency_routes(router: APIRouter, desk: AgencyDesk) -> None:
    """Put the routes on a router."""

    @router.post("/agencies", status_code=201)
    def add(body: AgencyBody) -> dict[str, Any]:
        return desk.add(body)

    @router.get("/agencies")
    def all_of_them() -> list[dict[str, Any]]:
        return [desk.shown(row) for row in desk.agencies.list()]

    @router.get("/agencies/{agency}")
    def one(agency: str) -> dict[str, Any]:
        return desk.one(agency)

    @router.patch("/agencies/{agency}")
    def change(agency: str, body: ChangeBody) -> dict[str, Any]:
        return desk.change(agency, body)

    @router.post("/agencies/{agency}/suspend")
    def suspend(agency: str, body: WhyBody) -> dict[str, Any]:
        return desk.decide(agency, "suspended", body.reason)

    @router.post("/agencies/{agency}/resume")
    def resume(agency: str, body: WhyBody) -> dict[str, Any]:
        return desk.decide(agency, "active", body.reason)

    @router.post("/agencies/{agency}/verify")
    def verify(agency: str) -> dict[str, Any]:
        return desk.verify(agency)

    @router.post("/agencies/{agency}/test")
    def test(agency: str) -> dict[str, Any]:
        return desk.test(agency)

    @router.post("/agencies/{agency}/keys", status_code=201)
    def rotate(agency: str, body: KeyBody) -> dict[str, Any]:
        return desk.rotate(agency, body)

    @router.post("/agencies/{agency}/keys/{key}/revoke")
    def revoke(agency: str, key: str, body: WhyBody) -> dict[str, Any]:
        return desk.revoke(agency, key, body.reason)

    @router.post("/agencies/{agency}/evidence", status_code=201)
    def add_evidence(agency: str, body: dict[str, Any]) -> dict[str, Any]:
        return desk.add_evidence(agency, body)

    @router.get("/agencies/{agency}/evidence")
    def evidence(agency: str) -> list[dict[str, Any]]:
        return [plain(row) for row in desk.agencies.evidence(agency)]

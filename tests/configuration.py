"""Puts agencies, subscriptions and departments onto a test's control topics, as the relay would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from schemas.topics import Topics
from services.delivery.profile import with_secrets
from services.identity.repository import key_digest
from services.runtime.kafka.port import Kafka
from services.runtime.settings import Settings
from services.subscriptions.control import policy_id
from services.subscriptions.sealing import Sealer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HEALTH = "cn.gov.sc.health.medical-ad-certificate"
WINDOW = "cn.gov.sc.window"


class Configuration:
    """Writes control records."""

    def __init__(self, kafka: Kafka, topics: Topics, settings: Settings) -> None:
        self._producer = kafka.producer()
        self._topics = topics
        self._sealer = Sealer(settings.security)

    def close(self) -> None:
        """Close the producer, which would look for its broker for ever."""
        self._producer.close()

    def agency(
        self,
        agency: str,
        sink: str,
        *,
        state: str = "active",
        secrets: Sequence[str] = (SECRET,),
        delivery: Mapping[str, Any] | None = None,
        verified: bool = True,
        division: str = "510000",
    ) -> None:
        """Make an agency known; its topics must exist."""
        keys = [{"id": f"sig-{n}", "sealed": self._sealer.seal(secret)} for n, secret in enumerate(secrets)]
        entry = {"id": agency, "name": agency, "division": division, "sink": sink, "state": state, "keys": keys}
        sealed = with_secrets(delivery or {}, self._sealer.seal)
        more = {"delivery": sealed, "verified": verified}
        self._put(self._topics.control_subscriptions, f"agency/{agency}", entry | more)

    def remove_agency(self, agency: str) -> None:
        """Take an agency away."""
        topic = self._topics.control_subscriptions
        self._producer.send(topic, key=f"agency/{agency}".encode(), value=None, partition=0).result(10)

    def subscription(
        self,
        name: str,
        agency: str,
        types: Sequence[str],
        filters: Sequence[Mapping[str, Any]] = (),
        *,
        state: str = "active",
        valid_until: str | None = None,
        **more: Any,
    ) -> None:
        """Make a subscription known, and its field policy, which stays known when it has ended."""
        entry = {"id": name, "agency": agency, "types": list(types), "filters": list(filters), "state": state}
        if more.get("fields") is not None:
            self._put(self._topics.control_subscriptions, f"policy/{policy_id(more['fields'])}", more["fields"])
        entry |= {"valid_until": valid_until, **more}
        self._put(self._topics.control_subscriptions, f"subscription/{name}", entry)

    def access(
        self, agency: str, key: str, channel: str = "pull", *, ack_key: str | None = None, live: bool = True
    ) -> None:
        """Give an agency a key and a channel; ``live`` false: the key has ended."""
        keys = [{"id": "key-1", "digest": key_digest(key), "expires_at": None}] if live else []
        sealed = self._sealer.seal(ack_key) if ack_key and not ack_key.startswith("whpk_") else ack_key
        entry = {"agency": agency, "channel": channel, "keys": keys, "ack_key": sealed, "version": 1}
        self._put(self._topics.control_subscriptions, f"access/{agency}", entry)

    def department(
        self, department: str, source: str, key: str, types: Sequence[str], *, expires_at: str | None = None
    ) -> None:
        """Make a department known."""
        entry = {"id": department, "name": department, "source": source, "types": list(types)}
        keys = [{"id": "key-1", "digest": key_digest(key), "expires_at": expires_at}]
        self._put(self._topics.control_identities, f"department/{department}", entry | {"keys": keys})

    def _put(self, topic: str, key: str, value: Mapping[str, Any]) -> None:
        self._producer.send(topic, key=key.encode(), value=orjson.dumps(value), partition=0).result(10)

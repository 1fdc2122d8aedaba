"""An agency's own feed as a way to tell it: an event of the catalogue, which goes to the agency it is about alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from schemas.codec import Codec
from schemas.contracts import TYPE_START, Contracts
from schemas.envelope import RECEIVERS, Envelope
from schemas.registry_client import RegistryError
from schemas.topics import Topics
from schemas.validation import InvalidData, ValidationRules, Validator
from services.alerting.messages import Notice
from services.runtime.alerts import MEANINGS
from services.runtime.errors import HongyanError
from services.runtime.kafka.port import Producer

SOURCE = "urn:hongyan:alerting"
RAISED, CLEARED = f"{TYPE_START}.ops.alert.raised", f"{TYPE_START}.ops.alert.cleared"
ACKNOWLEDGE_S = 10.0


def feed_way(agency: str) -> str:
    """Return what the way to an agency's feed is called."""
    return f"feed:{agency}"


class Feed:
    """Publishes to one agency. Published twice, an event has the same id and content, and is routed once."""

    def __init__(
        self, agency: str, producer: Callable[[], Producer], topics: Topics, contracts: Contracts, codec: Codec
    ) -> None:
        self.name = feed_way(agency)
        self._agency = agency
        self._producer = producer
        self._topics = topics
        self._contracts = contracts
        self._codec = codec

    def send(self, notice: Notice) -> str | None:
        """Put the event on the log; the router does the rest."""
        try:
            self._publish(notice)
        except (HongyanError, RegistryError, InvalidData) as error:
            return f"{self._agency}: {error}"
        return None

    def _publish(self, notice: Notice) -> None:
        contract = self._contracts.types[CLEARED if notice.closed_at is not None else RAISED]
        data = event_data(notice, self._agency)
        at = notice.closed_at or notice.opened_at
        valid = Validator(contract, ValidationRules()).validate(data, datetime.now(UTC), []).data
        key = contract.business_key(valid)
        envelope = Envelope(
            id=notice.id,
            source=SOURCE,
            type=contract.type,
            subject=key,
            time=at.isoformat(),
            # The same at every attempt: the same id stands for the same content.
            recordedtime=at.isoformat(),
            extensions={RECEIVERS: self._agency},
        )
        value = self._codec.encode(contract.subject, contract.schema, valid)
        topic = self._topics.events(contract.domain)
        self._producer().send(topic, key=key.encode(), value=value, headers=envelope.to_headers()).result(ACKNOWLEDGE_S)


def event_data(notice: Notice, agency: str) -> dict[str, Any]:
    """Return the event's data."""
    meaning = MEANINGS[notice.kind]
    found = {
        "alert_id": f"{notice.kind}/{notice.subject}/{notice.episode}",
        "receivers": [agency],
        "kind": str(notice.kind),
        "severity": notice.severity,
        "title": meaning.title,
        "detail": "；".join(notice.details)[:2000],
        "action": meaning.action,
        "since": notice.opened_at.isoformat(),
    }
    return found | ({"until": notice.closed_at.isoformat()} if notice.closed_at is not None else {})

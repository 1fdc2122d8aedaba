"""The Python client: publish over Kafka, with the same checks as the gateway.

with Publisher(settings, source="urn:sc:health-commission") as publisher:
    publisher.publish("cn.gov.sc.health.medical-ad-certificate.issued", {...}, id="2025-0001").result(10)
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from producers.publishing import Prepared, Publishing
from schemas.contracts import load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.runtime.clock import SystemClock
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Sent
from services.runtime.settings import Settings


class Publisher:
    """Publishes events of one source. Give an ``id`` of your own, so that sending again is recognised."""

    def __init__(self, settings: Settings, source: str, *, bulk: bool = False) -> None:
        """Connect. ``bulk`` gathers larger batches: more events a second, each a few milliseconds later."""
        self.source = source
        registry = RegistryClient(settings.registry.url, settings.registry.timeout_s)
        topics = Topics(settings.kafka.topic_prefix)
        clock = SystemClock()
        self._publishing = Publishing(
            load_contracts(), registry, settings.registry.url, topics, settings.gateway, clock
        )
        self._producer = connect(settings.kafka).producer(client_id=f"publisher-{source}"[:200], bulk=bulk)

    def prepare(self, event_type: str, data: Mapping[str, Any], **attributes: str) -> Prepared:
        """Check and encode an event without sending it; raises InvalidError that names every bad field."""
        if "id" not in attributes:
            attributes["id"] = str(uuid.uuid4())
        return self._publishing.prepare({"type": event_type, "source": self.source, **attributes}, data)

    def publish(self, event_type: str, data: Mapping[str, Any], **attributes: str) -> Sent:
        """Send an event; it is on the log when ``.result(timeout_s)`` returns. Raises InvalidError."""
        return self.send(self.prepare(event_type, data, **attributes))

    def send(self, prepared: Prepared) -> Sent:
        """Send what :meth:`prepare` returned."""
        return self._producer.send(prepared.topic, key=prepared.key, value=prepared.value, headers=prepared.headers)

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait until everything sent is acknowledged or has failed; raises UnavailableError at the time limit."""
        self._producer.flush(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._producer.close()

"""Publishes decisions about months as events, as any department's: onto the log, through the router, to feeds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import psycopg

from schemas.codec import Codec
from schemas.contracts import Contracts
from schemas.envelope import Envelope
from schemas.registry_client import RegistryError
from schemas.topics import Topics
from schemas.validation import ValidationRules, Validator
from services.runtime.errors import DatabaseUnavailableError, RegistryUnavailableError
from services.runtime.kafka.port import Kafka
from services.statistics.store import read_sql

SOURCE = "urn:hongyan:statistics"
ACKNOWLEDGE_S = 10.0


class Announcer:
    """Sends what a decision left in the outbox. Sent twice, an event has the same id and content and counts once."""

    def __init__(self, kafka: Kafka, topics: Topics, contracts: Contracts, codec: Codec, dsn: str) -> None:
        self._kafka = kafka
        self._topics = topics
        self._contracts = contracts
        self._codec = codec
        self._dsn = dsn

    def announce(self) -> int:
        """Send every waiting event and return how many; raises UnavailableError with the rest still waiting."""
        try:
            with psycopg.connect(self._dsn, connect_timeout=3, autocommit=True) as connection:
                waiting = connection.execute(read_sql("outbox_list")).fetchall()
                if waiting:
                    self._send(connection, waiting)
        except psycopg.OperationalError as error:
            raise DatabaseUnavailableError(f"PostgreSQL: {error}") from error
        return len(waiting)

    def _send(self, connection: psycopg.Connection, waiting: list[tuple[Any, ...]]) -> None:
        producer = self._kafka.producer(client_id="statistics-announcer", acknowledge_timeout_s=ACKNOWLEDGE_S)
        try:
            for event_id, kind, data, added_at in waiting:
                topic, key, value, envelope = self._event(event_id, kind, data, added_at)
                producer.send(topic, key=key, value=value, headers=envelope.to_headers()).result(ACKNOWLEDGE_S)
                connection.execute(read_sql("outbox_done"), (event_id,))
        finally:
            producer.close()

    def _event(
        self, event_id: str, kind: str, data: Mapping[str, Any], added_at: datetime
    ) -> tuple[str, bytes, bytes, Envelope]:
        contract = self._contracts.types[kind]
        valid = Validator(contract, ValidationRules()).validate(data, added_at, []).data
        try:
            value = self._codec.encode(contract.subject, contract.schema, valid)
        except RegistryError as error:
            raise RegistryUnavailableError(str(error)) from error
        key = contract.business_key(valid)
        envelope = Envelope(
            id=event_id,
            source=SOURCE,
            type=kind,
            subject=key,
            time=str(data[contract.catalogue.time_field]),
            recordedtime=added_at.isoformat(),
        )
        return self._topics.events(contract.domain), key.encode(), value, envelope

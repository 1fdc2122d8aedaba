"""Events of the window domain as records, made through the product's contracts."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from producers.files.columns import Columns
from producers.files.importing import derived_id
from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.envelope import Envelope
from schemas.times import parse_time
from schemas.topics import Topics
from schemas.validation import ValidationRules, Validator
from services.runtime.kafka.port import HeaderList, Placed, Producer
from tests.fakes.schemas import MemorySchemas

SOURCE = "urn:sc:test"
COMPLETED = "cn.gov.sc.window.case.completed"
ACCEPTED = "cn.gov.sc.window.case.accepted"
CONSULTED = "cn.gov.sc.window.consultation.recorded"


@dataclass(frozen=True, slots=True)
class Made:
    """A record to be."""

    key: bytes
    value: bytes | None
    headers: HeaderList
    domain: str = "window"

    def send(self, producer: Producer, topics: Topics, partition: int | None = None) -> Placed:
        """Append it to its domain's events."""
        sent = producer.send(
            topics.events(self.domain), key=self.key, value=self.value, headers=self.headers, partition=partition
        )
        return sent.result(10)


class WindowEvents:
    """Makes records from the samples of the event types, changed as a test says."""

    def __init__(self) -> None:
        self.schemas = MemorySchemas()
        self._codec = Codec(self.schemas)
        self._contracts = load_contracts()
        rules = ValidationRules(False, timedelta(minutes=5))
        self._validators = {name: Validator(c, rules) for name, c in self._contracts.types.items()}

    def make(self, kind: str = COMPLETED, event_id: str | None = None, source: str = SOURCE, **changes: str) -> Made:
        """Return the type's sample with these changes."""
        return self._made(kind, {**self._contracts.types[kind].sample, **changes}, event_id, source)

    def from_row(self, kind: str, row: Mapping[str, str]) -> Made:
        """Return the event that an import makes of a file's row."""
        contract = self._contracts.types[kind]
        key = "/".join(row[name] for name in contract.catalogue.business_key)
        _, data = Columns(contract, list(row)).split(list(row.values()))
        happened, _ = parse_time(row[contract.catalogue.time_field])
        return self._made(kind, data, derived_id(kind, SOURCE, key, happened), SOURCE)

    def _made(self, kind: str, data: Mapping[str, object], event_id: str | None, source: str) -> Made:
        contract = self._contracts.types[kind]
        valid = self._validators[kind].validate(data, datetime.now(UTC), []).data
        key = contract.business_key(valid)
        envelope = Envelope(
            id=event_id or str(uuid.uuid4()),
            source=source,
            type=kind,
            subject=key,
            time=parse_time(str(data[contract.catalogue.time_field]))[0].isoformat(),
        )
        value = self._codec.encode(contract.subject, contract.schema, valid)
        return Made(key.encode(), value, envelope.to_headers(), contract.domain)

"""From a record to a fact, or why it can never be one."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from consumers.runner.rows import Never
from schemas.codec import Codec, UndecodableValue
from schemas.contracts import Contracts
from schemas.envelope import header_attributes
from schemas.registry_client import RegistryError, SchemaUnknown
from services.runtime.errors import RegistryUnavailableError
from services.runtime.kafka.port import Record
from services.statistics.facts import Fact, FactShape


class Projection:
    """Projects the records of event topics."""

    def __init__(self, contracts: Contracts, codec: Codec) -> None:
        self._shapes: Mapping[str, FactShape] = {name: FactShape(c) for name, c in contracts.types.items()}
        self._codec = codec

    def project(self, record: Record) -> Fact | Never:
        """Return the fact; raises RegistryUnavailableError when its schema can't be had now (read it again later)."""
        try:
            attributes = header_attributes(record.headers)
            source, event_id, kind = attributes["source"], attributes["id"], attributes["type"]
            shape = self._shapes[kind]
        except (KeyError, UnicodeDecodeError) as error:
            return Never(f"no event of a known type: {type(error).__name__} {error}")
        try:
            decoded = self._codec.decode(record.value)
            if decoded.record_name != shape.subject:
                return Never(f"the value is a {decoded.record_name}, but the event says {kind}")
            digest = blake2b(record.value or b"", digest_size=16).digest()
            place = (record.topic, record.partition, record.offset)
            return shape.fact(source, event_id, decoded.data, digest, place)
        except (UndecodableValue, SchemaUnknown, KeyError, TypeError, ValueError) as error:
            return Never(f"{type(error).__name__}: {error}")
        except RegistryError as error:
            raise RegistryUnavailableError(str(error)) from error

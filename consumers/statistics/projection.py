"""From a record to a fact, or why it can never be one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import orjson

from consumers.runner.rows import Never
from schemas.codec import Codec, UndecodableValue
from schemas.contracts import Contracts, EventContract
from schemas.envelope import RECEIVERS
from schemas.reading import Unreadable, event_attributes
from schemas.receipts import Receipt
from schemas.registry_client import RegistryError, SchemaUnknown
from schemas.times import SHANGHAI, parse_time
from schemas.topics import Topics
from schemas.working_days import CalendarEndsError, last_day
from services.runtime.errors import RegistryUnavailableError
from services.runtime.kafka.port import Record
from services.statistics.facts import Deletion, Fact, FactMaker, Origin
from services.statistics.shapes import DELIVERY, shapes

SKEW = timedelta(minutes=5)
Place = tuple[str, int, int]
_UNREADABLE = (UndecodableValue, SchemaUnknown, KeyError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class _Type:
    contract: EventContract
    maker: FactMaker


class Projection:
    """Projects the records of event topics, and of receipts.

    An event whose time lies further ahead of its record than the skew is put aside (domain rule 10.4): by the log's
    time and not by this machine's, so that a rebuild decides likewise.
    """

    def __init__(self, contracts: Contracts, codec: Codec, topics: Topics, skew: timedelta = SKEW) -> None:
        known = shapes(contracts)
        self._types = {name: _Type(c, FactMaker(known[name])) for name, c in contracts.types.items()}
        self._codec = codec
        self._receipts = topics.receipts
        self._deliveries = Deliveries(contracts, FactMaker(known[DELIVERY]))
        self._skew = skew

    def project(self, record: Record) -> Fact | Deletion | Never | None:
        """Return the fact; None for a record that is none on purpose.

        Raises RegistryUnavailableError when its schema can't be had now (read it again later).
        """
        place = (record.topic, record.partition, record.offset)
        if record.topic == self._receipts:
            return _guarded(lambda: self._deliveries.fact(record, place))
        attributes = event_attributes(record.key, record.headers)
        if isinstance(attributes, Unreadable):
            return Never(attributes.reason)
        kind = self._types.get(attributes["type"])
        if kind is None:
            return Never(f"no event of a known type: {attributes['type']}")
        if kind.contract.catalogue.named_receivers and RECEIVERS not in attributes:
            return Never("the event names no receivers, and its type goes only to those that are named")
        origin = _origin(attributes, record)
        if record.value is None:
            return _deletion(origin, place)
        return _guarded(lambda: self._fact(record, kind, origin, place))

    def _fact(self, record: Record, kind: _Type, origin: Origin, place: Place) -> Fact | Never:
        decoded = self._codec.decode(record.value)
        if decoded.record_name != kind.contract.subject:
            return Never(f"the value is a {decoded.record_name}, but the event says {kind.contract.type}")
        case_key = kind.contract.business_key(decoded.data)
        fact = kind.maker.fact(origin, case_key, decoded.data, uuid.UUID(bytes=decoded.content_digest()), place)
        if fact.occurred_at.timestamp() > record.timestamp / 1000 + self._skew.total_seconds():
            return Never(f"时间在未来 (its time is in the future): {fact.occurred_at.isoformat()}")
        return fact


class Deliveries:
    """Makes facts about the push service of its receipts."""

    def __init__(self, contracts: Contracts, maker: FactMaker) -> None:
        self._contracts = contracts
        self._maker = maker

    def fact(self, record: Record, place: Place) -> Fact | None:
        """Return the fact of one receipt; None for an agency's signed text, which its receipts say again."""
        document = orjson.loads(record.value or b"")
        if document.get("kind") == "statement":
            return None
        receipt = Receipt.from_json(document)
        ended, _ = parse_time(receipt.last_at)
        data: dict[str, Any] = {
            "publisher": receipt.source,
            "agency": receipt.agency,
            "event_type": receipt.type,
            "channel": receipt.channel,
            "outcome": receipt.outcome,
            "follow_up": self._follows_up(receipt.type),
            "deadline": self._deadline(receipt, ended),
            "seconds": _seconds(receipt, ended),
            "attempts": receipt.attempts,
            "last_at": ended,
        }
        case_key = f"{receipt.agency}/{receipt.cursor}"
        # The same receipt may be written twice; the first stands, and its identity is what it says.
        origin = Origin("urn:hongyan:push", f"{case_key}/{receipt.outcome}/{receipt.event_id}", case_key, None, ended)
        said = f"{receipt.event_id}\n{receipt.source}\n{receipt.digest}".encode()
        return self._maker.fact(origin, case_key, data, _digest(said), place)

    def _follows_up(self, event_type: str) -> bool:
        contract = self._contracts.types.get(event_type)
        return contract is not None and contract.follow_up

    def _deadline(self, receipt: Receipt, ended: datetime) -> str:
        """Tell whether a delivery was within the legal limit, counted from the day of publication."""
        contract = self._contracts.types.get(receipt.type)
        limit = contract.catalogue.deadline_working_days if contract else None
        if limit is None or receipt.published_at is None:
            return "none"
        published, _ = parse_time(receipt.published_at)
        try:
            last = last_day(published, limit)
        except CalendarEndsError:
            return "unknown"
        return "within" if ended.astimezone(SHANGHAI).date() <= last else "after"


def _guarded(make: Callable[[], Fact | Never | None]) -> Fact | Never | None:
    try:
        return make()
    except _UNREADABLE as error:
        return Never(f"{type(error).__name__}: {error}")
    except RegistryError as error:
        raise RegistryUnavailableError(str(error)) from error


def _origin(attributes: Mapping[str, str], record: Record) -> Origin:
    recorded = attributes.get("recordedtime")
    at = parse_time(recorded)[0] if recorded else datetime.fromtimestamp(record.timestamp / 1000, UTC)
    return Origin(attributes["source"], attributes["id"], attributes["subject"], attributes.get("follows"), at)


def _deletion(origin: Origin, place: Place) -> Deletion | Never:
    target = origin.followed()
    if target is None:
        return Never("a tombstone names in `follows` the event that it deletes")
    return Deletion(origin.identity(), target, origin.recorded_at, place)


def _digest(value: bytes) -> uuid.UUID:
    return uuid.UUID(bytes=blake2b(value, digest_size=16).digest())


def _seconds(receipt: Receipt, ended: datetime) -> float | None:
    if receipt.published_at is None:
        return None
    return round(max(0.0, (ended - parse_time(receipt.published_at)[0]).total_seconds()), 3)

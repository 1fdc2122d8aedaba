"""What a grant would give, before anyone approves it: a dry run over the past, on what whoever asks may see."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from schemas.codec import Codec, SchemaSource, UndecodableValue, to_jsonable
from schemas.contracts import Contracts
from schemas.envelope import RECEIVERS, identity_of
from schemas.reading import Unreadable, event_attributes
from schemas.registry_client import RegistryAway, RegistryError
from schemas.times import SHANGHAI, happened
from schemas.topics import EVENT_PARTITIONS, Topics
from services.portal.progress import Progress
from services.routing.fields import LEAST, FieldPolicy
from services.routing.matching import Matcher
from services.routing.redaction import PolicyFailedError, Redactor, Unregistered
from services.runtime.clock import Clock
from services.runtime.errors import RegistryUnavailableError
from services.runtime.kafka.port import Kafka, Partition, Record
from services.runtime.kafka.scanning import scan
from services.subscriptions.control import Agency, Subscription
from services.subscriptions.repository import AgencyRepository, plain

CLOCK_SKEW_MS = 3_600_000
MAX_EVENTS = 5_000_000
"""A dry run reads so many events at most, and says where it stopped."""
See = Callable[[bytes | None], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Period:
    """What of the past is tried: events that happened in this time, closed-open."""

    since: datetime
    until: datetime


class Seeing:
    """Gives the data of events as somebody may see it."""

    def __init__(self, schemas: SchemaSource) -> None:
        self._schemas = schemas
        self._codec = Codec(schemas)

    def of(self, row: Mapping[str, Any], *, whole: bool) -> See:
        """Return how a grant's filters see events: whole where the owner of the data asks or has approved them.

        Else public fields alone: what a filter of one's own finds in other fields tells what stands in them.
        """
        return self.whole if whole or row["approver"] is not None else self.under(LEAST)

    def whole(self, value: bytes | None) -> Mapping[str, Any]:
        """Return all data; raises UndecodableValue or the registry's errors."""
        return to_jsonable(self._codec.decode(value).data)

    def under(self, fields: Mapping[str, Any]) -> See:
        """Return how data is seen under a field policy, which makes nothing known to the registry."""
        policy, own = FieldPolicy.of(fields), Unregistered(self._schemas)
        redactor, codec = Redactor(own, lambda _: policy), Codec(own)
        return lambda value: to_jsonable(codec.decode(redactor.redact(value or b"", policy.id)[0]).data)


class Trying:
    """Tries grants on the event log."""

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        contracts: Contracts,
        seeing: Seeing,
        agencies: AgencyRepository,
        clock: Clock,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._contracts = contracts
        self._seeing = seeing
        self._agencies = agencies
        self._clock = clock

    def dry_run(
        self, row: Mapping[str, Any], period: Period, samples: int, *, whole: bool, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Return what a grant would have given over a period: how much, on which days, and examples, redacted.

        Follow-ups on what it would have given are counted with it. Unless ``whole``, the filters of a grant that
        nobody has approved see public fields alone. It ends where ``progress`` says so, and tells it.
        """
        subscription = replace(subscription_of(row), state="active", valid_from=None, valid_until=None)
        agencies = {a.id: a for a in map(agency_of, self._agencies.list())}
        matcher = Matcher([subscription], self._clock.now, agencies, self._contracts.unshared_types())
        trial = _Trial(self._contracts, matcher, self._seeing.of(row, whole=whole), period, deque(maxlen=samples))
        for record in self._events(subscription, period, trial, progress or Progress()):
            trial.take(record)
        see = self._seeing.whole if subscription.fields is None else self._seeing.under(subscription.fields)
        return trial.to_json() | {
            "subscription": subscription.id,
            "version": subscription.version,
            "from": period.since.isoformat(),
            "to": period.until.isoformat(),
            "public_only": not whole and row["approver"] is None,
            "samples": [{"attributes": a, "data": see(record.value)} for a, record in trial.samples],
        }

    def _events(
        self, subscription: Subscription, period: Period, trial: _Trial, progress: Progress
    ) -> Iterator[Record]:
        types = [self._contracts.types[name] for name in subscription.types]
        partitions = [
            Partition(self._topics.events(domain), n)
            for domain in sorted({contract.domain for contract in types})
            for n in range(EVENT_PARTITIONS)
        ]
        since_ms = int(period.since.timestamp() * 1000) - CLOCK_SKEW_MS
        found = scan(self._kafka, partitions, since_ms=since_ms, client_id="dry-run", sized=progress.sized)
        for number, record in enumerate(found):
            if number >= MAX_EVENTS or not progress.step():
                trial.complete = False
                return
            yield record


@dataclass(slots=True)
class _Trial:
    """What a dry run has found so far: each event is taken as the router would."""

    contracts: Contracts
    matcher: Matcher
    see: See
    period: Period
    samples: deque[tuple[Mapping[str, str], Record]]
    read: int = 0
    failed: int = 0
    unreadable: int = 0
    follow_ups: int = 0
    complete: bool = True
    _ended: dict[tuple[bytes, str], int] = field(default_factory=dict)
    _seen: set[bytes] = field(default_factory=set)
    _days: Counter[str] = field(default_factory=Counter)
    _types: Counter[str] = field(default_factory=Counter)
    _given: dict[tuple[bytes, str], list[int]] = field(default_factory=lambda: defaultdict(list))

    def take(self, record: Record) -> None:
        """Take in the next event of the log; what the router would refuse is counted, and is given to nobody."""
        attributes = event_attributes(record.key, record.headers)
        if isinstance(attributes, Unreadable) or attributes["type"] not in self.contracts.types:
            self.unreadable += 1
            return
        identity = identity_of(attributes)
        if identity in self._seen or self._unaddressed(attributes):
            return
        self._seen.add(identity)
        kind, key = attributes["type"], (record.key or b"", record.topic)
        self._note_end(kind, key, record.offset)
        at = happened(attributes, record.timestamp)
        if not self.period.since <= at < self.period.until:
            return
        self.read += 1
        matched, follows = self._matched(attributes, record), self._follows(attributes) and key in self._given
        if matched or follows:
            self.follow_ups += not matched
            self._days[at.astimezone(SHANGHAI).date().isoformat()] += 1
            self._types[kind] += 1
            self._given[key].append(record.offset)
            self.samples.append((attributes, record))

    def to_json(self) -> dict[str, Any]:
        """Return the counts; ``ended_since`` of them a backfill would withhold."""
        given = ((offset, self._ended.get(key, -1)) for key, offsets in self._given.items() for offset in offsets)
        return {
            "read": self.read,
            "matched": sum(self._days.values()),
            "follow_ups": self.follow_ups,
            "ended_since": sum(offset < ended for offset, ended in given),
            "failed": self.failed,
            "unreadable": self.unreadable,
            "complete": self.complete,
            "days": dict(sorted(self._days.items())),
            "types": dict(sorted(self._types.items())),
        }

    def _matched(self, attributes: Mapping[str, str], record: Record) -> bool:
        failed: list[str] = []
        try:
            matched = self.matcher.match(attributes, lambda: self.see(record.value), failed)
        except RegistryAway as error:
            raise RegistryUnavailableError(str(error)) from error
        except (UndecodableValue, RegistryError, PolicyFailedError):
            self.unreadable += 1
            return False
        self.failed += bool(failed)
        return bool(matched)

    def _unaddressed(self, attributes: Mapping[str, str]) -> bool:
        return RECEIVERS not in attributes and attributes["type"] in self.contracts.named_receiver_types()

    def _follows(self, attributes: Mapping[str, str]) -> bool:
        return attributes["type"] in self.contracts.follow_up_types() or "follows" in attributes

    def _note_end(self, kind: str, key: tuple[bytes, str], offset: int) -> None:
        match self.contracts.effects().get(kind):
            case "ends":
                self._ended[key] = offset
            case "restores":
                self._ended.pop(key, None)


def subscription_of(row: Mapping[str, Any]) -> Subscription:
    """Return a grant's row as the router knows it."""
    shown = plain(row)
    return Subscription(**{name: shown[name] for name in Subscription.__dataclass_fields__})


def agency_of(row: Mapping[str, Any]) -> Agency:
    """Return an agency's row as the router knows it."""
    return Agency(**{name: row[name] for name in ("id", "name", "division", "sink", "state", "version")})

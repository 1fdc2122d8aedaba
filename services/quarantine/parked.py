"""Parked events: what an agency refused for good. Nothing is deleted; a replay puts an event back into the feed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import orjson

from schemas.contracts import load_contracts
from schemas.envelope import message_id_of
from schemas.receipts import with_words
from schemas.topics import Topics
from services.delivery.cursors import cursor_of
from services.quarantine.aside import original, whole
from services.quarantine.standing import Asked, Standing
from services.runtime.clock import Clock
from services.runtime.errors import ConflictError, NotFoundError
from services.runtime.kafka.port import HeaderList, Kafka, Partition, Producer, Record, Sent
from services.runtime.kafka.scanning import scan
from services.subscriptions.stopping import SUBSCRIPTIONS, grants_of

WAIT_S = 10.0
MOST_REPLAYED = 500
"""So many parked events are put back in one go at most, and no more are asked for."""
REPLAYED = "hongyan-replayed-offset"
NOTHING = "{agency} 没有位于 {offset} 的停放事件 (nothing is parked there)"
_OURS = "hongyan-"


@dataclass(frozen=True, slots=True)
class Parked:
    """One parked event, as people see it; ``words``, the receiver's own, as its agency sees it."""

    agency: str
    offset: int
    event_id: str
    type: str
    subject: str
    status: str
    reason: str
    parked_at: str
    replayed: str | None
    words: str = ""

    def to_json(self) -> dict[str, object]:
        """Return it as JSON values, without the receiver's words: they may say again what stood in the event."""
        return {name: value for name, value in asdict(self).items() if name != "words"}

    def whole(self) -> Parked:
        """Return it with the receiver's words in the reason, for its agency."""
        return replace(self, reason=with_words(self.reason, self.words) or "", words="")


class ParkingPlace:
    """The parked events of the agencies."""

    def __init__(self, kafka: Kafka, topics: Topics, clock: Clock) -> None:
        self._kafka = kafka
        self._topics = topics
        self._clock = clock
        self._standing = Standing(kafka, topics, load_contracts())

    def agencies(self) -> list[str]:
        """Return the agencies that have a parking place."""
        start = self._topics.parked("")
        admin = self._kafka.admin()
        try:
            return sorted(name.removeprefix(start) for name in admin.list_topics() if name.startswith(start))
        finally:
            admin.close()

    def list(self, agency: str) -> list[Parked]:
        """Return an agency's parked events, oldest first, those replayed since marked with the reason."""
        return [*self.several([agency])]

    def several(self, agencies: Collection[str], newest: int | None = None) -> Sequence[Parked]:
        """Return the parked events of several agencies, which are read at once; of each the newest so many offsets.

        Raises NotFoundError when one of them has no parking place.
        """
        records: dict[str, list[Record]] = defaultdict(list)
        for record in self._read(agencies, newest=newest):
            records[record.topic].append(record)
        return [one for agency in agencies for one in _listed(agency, records[self._topics.parked(agency)])]

    def look(self, agency: str, offset: int) -> tuple[Parked, Record]:
        """Return a parked event with its record, whole wherever it lies; raises NotFoundError."""
        records = list(self._read([agency], start=offset))
        found = next((record for record in records if record.offset == offset), None)
        if found is None or REPLAYED in dict(found.headers):
            raise NotFoundError(NOTHING.format(agency=agency, offset=offset))
        (parked,) = [one for one in _listed(agency, records) if one.offset == offset]
        return parked, whole(self._kafka, found)

    def replay(self, agency: str, offset: int, reason: str, by: str | None = None) -> str | None:
        """Put a parked event back at the end of the agency's feed, and note it here; raises NotFoundError.

        The event is put back before the note: killed in between, it may be replayed twice but never lost. What has
        ended or been corrected since would be told as if it still stood: it stays, with a note, and the id of the
        event that took its place is returned. One that was too large to be parked whole is taken from where it lay in
        the feed.
        """
        return self.replay_all(agency, [offset], reason, by).get(offset)

    def replay_all(self, agency: str, offsets: Collection[int], reason: str, by: str | None = None) -> dict[int, str]:
        """Put several back; return those that were not, each with what took its place."""
        records = self._read([agency], start=min(offsets, default=0))
        parked = {r.offset: r for r in records if r.offset in offsets and REPLAYED not in dict(r.headers)}
        for offset in offsets:
            if offset not in parked:
                raise NotFoundError(NOTHING.format(agency=agency, offset=offset))
        told = {offset: whole(self._kafka, record) for offset, record in parked.items()}
        asked = {offset: asked_of(record) for offset, record in told.items()}
        gone = self._standing.superseded(set(asked.values()))
        producer = self._kafka.producer(client_id="parked-replay")
        try:
            for offset, record in sorted(parked.items()):
                after = gone.get(asked[offset])
                if after is None:
                    put_back(producer, self._topics, agency, told[offset]).result(WAIT_S)
                note = {"reason": reason, "by": by, "superseded_by": after}
                self._note(producer, agency, record, {name: text for name, text in note.items() if text})
        finally:
            producer.close()
        return {offset: gone[one] for offset, one in asked.items() if one in gone}

    def park(self, agency: str, cursor: int, reason: str) -> str:
        """Have the pusher park the event at this cursor of a feed, which its line may be stuck on; return its id.

        It is asked for on the control topic, which every pusher follows, and stays asked for. Raises NotFoundError
        (nothing is there), ConflictError (it has ended already) or UnavailableError.
        """
        feed = Partition(self._topics.feed(agency), 0)
        if feed.topic not in self._known():
            raise NotFoundError(f"没有接收单位 {agency} 的队列 (no such feed)")
        admin = self._kafka.admin()
        try:
            reached = cursor_of(admin, self._topics, feed, agency)
        finally:
            admin.close()
        found = original(self._kafka, feed.topic, 0, cursor)
        if found is None:
            raise NotFoundError(f"{agency} 的队列在游标 {cursor} 没有事件 (no event is there)")
        if cursor < reached:
            raise ConflictError(f"游标已到 {reached}，{cursor} 处的事件已经结束 (it has ended already)")
        producer = self._kafka.producer(client_id="parked-park")
        try:
            key = f"park/{agency}/{cursor}"
            value = {"reason": reason, "event": message_id_of(found.headers), "at": self._clock.now().isoformat()}
            topic = self._topics.control_subscriptions
            producer.send(topic, key=key.encode(), value=orjson.dumps(value), partition=0).result(WAIT_S)
        finally:
            producer.close()
        return dict(found.headers).get("ce_id", b"").decode(errors="replace")

    def _note(self, producer: Producer, agency: str, record: Record, note: dict[str, str]) -> None:
        producer.send(
            self._topics.parked(agency),
            key=record.key,
            value=orjson.dumps(note | {"at": self._clock.now().isoformat()}),
            headers=[(REPLAYED, str(record.offset).encode())],
            partition=0,
        ).result(WAIT_S)

    def _read(
        self, agencies: Collection[str], *, start: int | None = None, newest: int | None = None
    ) -> Iterator[Record]:
        partitions = {agency: Partition(self._topics.parked(agency), 0) for agency in agencies}
        known = self._known()
        for agency, partition in partitions.items():
            if partition.topic not in known:
                raise NotFoundError(f"没有接收单位 {agency} (no such agency)")
        if partitions:
            yield from scan(self._kafka, list(partitions.values()), start=start, newest=newest, client_id="parked")

    def _known(self) -> set[str]:
        admin = self._kafka.admin()
        try:
            return admin.list_topics()
        finally:
            admin.close()


def _listed(agency: str, records: Sequence[Record]) -> Iterator[Parked]:
    replayed = {
        int(headers[REPLAYED]): _said(orjson.loads(record.value or b"{}"))
        for record in records
        if REPLAYED in (headers := dict(record.headers))
    }
    return (_parked(agency, r, replayed.get(r.offset)) for r in records if REPLAYED not in dict(r.headers))


def put_back(producer: Producer, topics: Topics, agency: str, record: Record) -> Sent:
    """Put an event at the end of a feed again, by the same grants: where these are stopped, it does not go out."""
    grants = ",".join(grants_of(record.headers)).encode()
    headers = [*_original(record.headers), ("hongyan-reason", b"replay"), (SUBSCRIPTIONS, grants)]
    return producer.send(topics.feed(agency), key=record.key, value=record.value, headers=headers, partition=0)


def _original(headers: HeaderList) -> HeaderList:
    return [(name, value) for name, value in headers if not name.startswith(_OURS)]


def asked_of(record: Record) -> Asked:
    """Return an event as its headers and key name it."""
    named = {name: value.decode(errors="replace") for name, value in record.headers}
    return Asked(named.get("ce_source", ""), named.get("ce_id", ""), named.get("ce_type", ""), record.key or b"")


def _said(note: dict[str, str]) -> str:
    after = note.get("superseded_by")
    said = note.get("reason", "") + (f"（{note['by']}）" if "by" in note else "")
    return f"{said}（未放回：此后已有 {after}）(not put back: superseded)" if after else said


def _parked(agency: str, record: Record, replayed: str | None) -> Parked:
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    return Parked(
        agency=agency,
        offset=record.offset,
        event_id=headers.get("ce_id", ""),
        type=headers.get("ce_type", ""),
        subject=headers.get("ce_subject", ""),
        status=headers.get("hongyan-status", ""),
        reason=headers.get("hongyan-refusal", ""),
        parked_at=headers.get("hongyan-parked-at", ""),
        replayed=replayed,
        words=headers.get("hongyan-words", ""),
    )

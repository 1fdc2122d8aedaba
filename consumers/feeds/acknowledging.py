"""Takes agencies' receipts: puts them on the log first, then moves the cursor."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import structlog

from consumers.feeds.asking import Asking
from consumers.feeds.entry import Entry
from consumers.feeds.footing import Footing
from consumers.feeds.history import Bounds, History
from consumers.feeds.receipt import receipt_of
from consumers.feeds.showing import Showing
from consumers.feeds.spoken import Spoken
from schemas.receipts import Channel, Receipt, Statement
from schemas.topics import Topics
from services.delivery.acknowledgement import Acknowledgement, One, Signed
from services.delivery.gap import Gap
from services.runtime.clock import Clock
from services.runtime.errors import ConflictError, FieldProblem, InvalidError, UnavailableError
from services.runtime.kafka.port import Kafka, Producer

ACKNOWLEDGE_S = 10.0
REMEMBERED = 50_000
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Taken:
    """What an acknowledgement came to: the agency's cursor, receipts written, and of how many its word stood already.

    ``behind`` tells of a range that ended before it began: the cursor had passed ``up_to``, and no ``from`` was given.
    """

    cursor: int
    recorded: int
    repeated: int
    behind: bool = False


class Acknowledging:
    """Records receipts. Called again with the same, it changes nothing: the log may hold a receipt twice, and of an
    agency's words on an event the newest counts.

    A range is of what the agency has given no word on yet: what it said of an event, only naming that one changes.
    """

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        history: History,
        cursors: Asking,
        footing: Footing,
        showing: Showing,
        most: int,
        clock: Clock,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._history = history
        self._cursors = cursors
        self._footing = footing
        self._showing = showing
        self._most = most
        self._clock = clock
        self._spoken = Spoken(kafka, topics)
        self._producer: Producer | None = None
        self._known: OrderedDict[tuple[str, int, str], tuple[str, str | None]] = OrderedDict()
        self._turns: dict[str, asyncio.Lock] = {}

    async def take(
        self,
        agency: str,
        channel: Channel,
        said: Acknowledgement,
        body: bytes,
        signed: Signed | None,
        *,
        streamed: bool = False,
    ) -> Taken:
        """Record what an agency said; raises InvalidError that names the field, GoneError or UnavailableError.

        And ConflictError, with nothing recorded, where its cursor can't be moved: its own clients are in its group, or
        it is not on the feed's log.
        ``streamed`` tells that it has a stream open now.
        """
        async with self._turns.setdefault(agency, asyncio.Lock()):
            cursor = await (self._footing.at(agency) if channel == "pull" else self._cursors.get(agency))
            kept = await self._history.bounds(agency)
            entries = await self._entries(agency, channel, said, cursor, kept)
            following = said.up_to + 1 if channel == "pull" and said.up_to is not None else 0
            if following > cursor:
                await self._cursors.check_free(agency)
            named = {one.cursor for one in said.receipts}
            ranged = [entry for at, (entry, _) in entries.items() if at not in named]
            # What was not given out is in no range. The cursor passes it, parked with a reason.
            withheld = await self._showing.withheld(agency, ranged, channel, cursor)
            spoken = await self._spoken.of(agency, [entry for entry in ranged if entry.cursor not in withheld])
            for passed in withheld | spoken.keys():
                del entries[passed]
            said_already = await self._said_already(agency, entries.values())
            at = self._clock.now().isoformat()
            if channel == "pull" and said.up_to is not None and cursor < kept.earliest <= said.up_to:
                await asyncio.to_thread(self._tell_gap, agency, Gap(cursor, kept.earliest), at)
            receipts = [
                receipt_of(agency, channel, entry, one.outcome, one.reason, at, signed, streamed=streamed)
                for entry, one in entries.values()
                if entry.cursor not in said_already
            ]
            await asyncio.to_thread(self._write, agency, body, signed, receipts)
            if following > cursor:
                await self._move(agency, following)
            behind = said.up_to is not None and said.from_ is None and following <= cursor
            return Taken(max(cursor, following), len(receipts), len(said_already) + len(spoken), behind)

    async def _said_already(self, agency: str, said: Collection[tuple[Entry, One]]) -> set[int]:
        """Return the cursors of those of which the agency's newest word is just what it says again.

        What is remembered here is looked up on the log: it may have said something else to another process since.
        """
        again = {
            entry.cursor: (entry, one)
            for entry, one in said
            if self._known.get((agency, entry.cursor, entry.attributes.get("id", ""))) == (one.outcome, one.reason)
        }
        words = await self._spoken.of(agency, [entry for entry, _ in again.values()])
        return {
            at
            for at, word in words.items()
            if (word.outcome, word.reason) == (again[at][1].outcome, again[at][1].reason)
        }

    async def _move(self, agency: str, following: int) -> None:
        try:
            await self._cursors.move(agency, following)
        except ConflictError as error:
            # They joined after it was looked: what is on the log stays there, and the same sent again changes nothing.
            raise UnavailableError(f"回执已记录，游标未移动；请原样再发 (recorded; send it again): {error}") from error

    async def _entries(
        self, agency: str, channel: Channel, said: Acknowledgement, cursor: int, kept: Bounds
    ) -> dict[int, tuple[Entry, One]]:
        """Return the events that are meant, with what is said of each."""
        found: dict[int, tuple[Entry, One]] = {}
        if said.up_to is not None:
            if said.from_ is None and channel != "pull":
                detail = "推送渠道下须给出 from (needed while the feed is pushed)"
                raise InvalidError([FieldProblem("/from", detail)])
            start = cursor if said.from_ is None else said.from_
            if channel == "pull" and start > (first := max(cursor, kept.earliest)):
                detail = f"from 至多为 {first}：它与 from 之间的事件尚未确认 (what stands between is not acknowledged)"
                raise InvalidError([FieldProblem("/from", detail)])
            for each in await self._range(agency, start, said.up_to, kept):
                found[each.cursor] = (each, One(cursor=each.cursor, outcome=said.outcome, reason=said.reason))
        problems: list[FieldProblem] = []
        for number, one in enumerate(said.receipts):
            held = found.get(one.cursor)
            entry = held[0] if held else await self._single(agency, one.cursor, kept)
            if entry is None:
                problems.append(FieldProblem(f"/receipts/{number}/cursor", "队列中没有这个游标 (no event there)"))
            elif one.event_id is not None and one.event_id != entry.attributes.get("id"):
                detail = f"该游标处的事件是 {entry.attributes.get('id')} (another event is there)"
                problems.append(FieldProblem(f"/receipts/{number}/event_id", detail))
            else:
                found[one.cursor] = (entry, one)
        if problems:
            raise InvalidError(problems)
        return found

    async def _range(self, agency: str, start: int, up_to: int, kept: Bounds) -> list[Entry]:
        if up_to >= kept.end:
            detail = f"超出队列末尾 {kept.end - 1} (beyond the end of the feed)"
            raise InvalidError([FieldProblem("/up_to", detail)])
        entries: list[Entry] = []
        while start <= up_to:
            found = await self._history.read(agency, start, up_to + 1, self._most + 1 - len(entries))
            if not found:
                break
            entries += found
            start = found[-1].cursor + 1
            if len(entries) > self._most:
                detail = f"一次至多 {self._most} 个事件，先确认到 {entries[self._most - 1].cursor} (too many at once)"
                raise InvalidError([FieldProblem("/up_to", detail)])
        return entries

    async def _single(self, agency: str, cursor: int, kept: Bounds) -> Entry | None:
        if cursor >= kept.end:
            return None
        found = await self._history.read(agency, cursor, cursor + 1, 1)
        return found[0] if found else None

    def _write(self, agency: str, body: bytes, signed: Signed | None, receipts: Sequence[Receipt]) -> None:
        values = [receipt.to_bytes() for receipt in receipts]
        if receipts and signed is not None:
            values.insert(0, _statement(agency, signed, body, receipts[0].last_at).to_bytes())
        self._send(agency, values)
        self._remember(receipts)

    def _tell_gap(self, agency: str, gap: Gap, at: str) -> None:
        """Alert somebody of events that are no longer kept and were never acknowledged."""
        alert = gap.alert(agency, at)
        self._sending().send(self._topics.alerts, key=alert.key.encode(), value=alert.to_bytes()).result(ACKNOWLEDGE_S)

    def _send(self, agency: str, values: Sequence[bytes]) -> None:
        sent = [self._sending().send(self._topics.receipts, key=agency.encode(), value=value) for value in values]
        for one in sent:
            one.result(ACKNOWLEDGE_S)

    def _sending(self) -> Producer:
        if self._producer is None:
            self._producer = self._kafka.producer(client_id="feeds", acknowledge_timeout_s=ACKNOWLEDGE_S)
        return self._producer

    def _remember(self, receipts: Collection[Receipt]) -> None:
        for receipt in receipts:
            # In a feed that was made anew other events have the cursors of old ones.
            about = receipt.agency, receipt.cursor, receipt.event_id
            self._known[about] = receipt.outcome, receipt.reason
            self._known.move_to_end(about)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def close(self) -> None:
        """Close the clients."""
        self._spoken.close()
        if self._producer is not None:
            try:
                self._producer.close()
            except UnavailableError as error:
                log.debug("producer_close_failed", error=str(error))


def _statement(agency: str, signed: Signed, body: bytes, at: str) -> Statement:
    return Statement(
        agency, signed.id, signed.timestamp, signed.signature, signed.verified_by, body.decode(errors="replace"), at
    )

"""Which events of a feed no longer tell the current state: told by what lies behind them in the same feed.

A correction, recall, revocation or removal goes to everyone who got the original, so what took an event's place in an
agency's eyes is in that agency's own feed. It is read once, when an agency first reads again what it had, and followed
from then on; only follow-ups are remembered.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from consumers.feeds.entry import Entry
from consumers.feeds.history import History
from schemas.contracts import Contracts
from schemas.envelope import PREFIX
from services.delivery.standing import Later, superseded
from services.runtime.errors import UnavailableError
from services.runtime.kafka.port import Record

READ_S = 5.0
FEEDS = 64
_DOMAIN_AND_KEY = tuple[str, bytes]


@dataclass(slots=True)
class _Known:
    """The follow-ups of one feed, each by the key that it is about, in their order."""

    read_to: int = 0
    later: dict[_DOMAIN_AND_KEY, list[tuple[int, Later]]] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Superseding:
    """Looks at feeds; what it knows of the least recently asked ones is forgotten."""

    def __init__(self, history: History, contracts: Contracts) -> None:
        self._history = history
        self._effects = contracts.effects()
        self._follow_up_types = contracts.follow_up_types()
        self._domains = {name: contract.domain for name, contract in contracts.types.items()}
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def of(self, agency: str, entries: Iterable[Entry]) -> dict[int, str]:
        """Return by its cursor what no longer stands, with the id of the event that took its place.

        Raises UnavailableError while the feed is not read to its end yet: asking again goes on with it.
        """
        known = self._known.setdefault(agency, _Known())
        self._known.move_to_end(agency)
        while len(self._known) > FEEDS:
            self._known.popitem(last=False)
        async with known.turn:
            known.read_to, end = await self._history.follow(
                agency, known.read_to, lambda record: self._take(known, record), READ_S
            )
        if known.read_to < end:
            raise UnavailableError("正在核对此后的更正与撤销，请稍候再来 (looking at what came since; ask again)")
        found = {entry.cursor: self._by(known, entry) for entry in entries}
        return {cursor: by for cursor, by in found.items() if by is not None}

    def _take(self, known: _Known, record: Record) -> None:
        headers = {n: v for n, v in record.headers if n in {f"{PREFIX}type", f"{PREFIX}id", f"{PREFIX}follows"}}
        kind = headers.get(f"{PREFIX}type", b"").decode(errors="replace")
        effect = self._effects.get(kind)
        follows_up = kind in self._follow_up_types or f"{PREFIX}follows" in headers
        if effect is None and not follows_up:
            return
        event_id = headers.get(f"{PREFIX}id", b"").decode(errors="replace")
        lane = known.later.setdefault((self._domains.get(kind, ""), record.key or b""), [])
        # Put back later on, it is still about what came before it was first told.
        if all(one.event_id != event_id for _, one in lane):
            lane.append((record.offset, Later(event_id, effect, follows_up)))

    def _by(self, known: _Known, entry: Entry) -> str | None:
        kind = entry.attributes.get("type", "")
        lane = known.later.get((self._domains.get(kind, ""), entry.record.key or b""), ())
        later = [one for at, one in lane if at > entry.cursor and one.event_id != entry.attributes.get("id")]
        return superseded(self._effects.get(kind), later)

"""Measures lag from Kafka alone: cursors, feeds and receipts. The monitor and ``hongyan lag`` use the same meter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import cache

import orjson

from consumers.monitor.deliveries import BEHIND_S, WINDOW_S, Deliveries, Limits
from consumers.monitor.evaluation import Since
from consumers.monitor.groups import Followed, Groups, Members, Offsets
from consumers.monitor.lines import Lines, Look
from consumers.monitor.parkings import Parkings
from consumers.monitor.pushing import FLOWING, Pushed, pusher_delay_s, pusher_state
from consumers.monitor.reading import GAP_OFFSETS, GAPS, Reader
from consumers.monitor.tally import kind_of, published_at
from consumers.monitor.transactions import OpenTransactions
from schemas.contracts import Contracts
from schemas.receipts import Channel
from schemas.topics import EVENT_PARTITIONS, PROBE_AGENCY, PROBE_DOMAIN, RECEIPT_PARTITIONS, Topics
from services.delivery.cursors import reached
from services.delivery.lag import TROUBLED, AgencyLag, GroupLag, ProbeLag, Snapshot
from services.runtime.clock import Clock
from services.runtime.errors import KafkaUnavailableError
from services.runtime.kafka.port import Admin, Committed, Kafka, Partition, Record
from services.subscriptions.control import ControlView
from services.subscriptions.follower import ControlFollower

OBJECTIVE_S = 10.0
KNOWN_S = 15.0
LINES = "feed.*"
"""What stands for all pushed feeds together among what groups follow."""

Channels = Mapping[str, Channel]
NOBODY: Mapping[str, str] = {}


def measured(view: ControlView) -> dict[str, Channel]:
    """Return the agencies that are known, the system's own left out, with the channel that each takes its feed by."""
    return {agency: view.channel(agency) for agency in list(view.agencies) if agency != PROBE_AGENCY}


def suspended(view: ControlView) -> dict[str, str]:
    """Return the agencies that may take nothing, by decision, each with what is said of it."""
    found = {agency: view.held(agency) for agency in list(view.agencies)}
    return {agency: why for agency, why in found.items() if why is not None}


def known(follower: ControlFollower, wait_s: float = KNOWN_S) -> dict[str, Channel]:
    """Return whom to measure, once it is known; raises KafkaUnavailableError.

    A look that knows of nobody yet would throw away what was read of everybody: a day of receipts, never read again.
    """
    if not follower.caught_up(wait_s):
        raise KafkaUnavailableError("还没有读完单位的配置：Kafka 没有应答 (who is there is not known yet)")
    return measured(follower.view)


class LagMeter:
    """Reads what is needed for a snapshot; what it has seen is not read again, so that a repeated measure is cheap."""

    def __init__(
        self, kafka: Kafka, topics: Topics, contracts: Contracts, clock: Clock, objective_s: float = OBJECTIVE_S
    ) -> None:
        self._topics = topics
        self._clock = clock
        self._objective_s = objective_s
        self._followed = _followed(topics, contracts.domains())
        self._admin: Admin = kafka.admin()
        self._feeds = Reader(kafka, "lag-feeds")
        self._receipts = Reader(kafka, "lag-receipts")
        since = Since()
        self._since = since
        self._groups = Groups(since)
        self._transactions = OpenTransactions(self._admin.log_ends)
        self._limits = Limits.of(contracts)
        self._deliveries = Deliveries(self._limits, objective_s, clock.now())
        self._lines = Lines(self._deliveries, since)
        self._parkings = Parkings()
        self._unreadable = 0
        self._router_delay_s = 0.0
        receipts = [Partition(topics.receipts, n) for n in range(RECEIPT_PARTITIONS)]
        self._receipts.follow(receipts, int((clock.now().timestamp() - WINDOW_S) * 1000))

    def measure(self, agencies: Channels, probe: ProbeLag | None = None, held: Mapping[str, str] = NOBODY) -> Snapshot:
        """Return everyone's lag now, ``held`` are those who may take nothing; raises KafkaUnavailableError."""
        began = self._clock.monotonic()
        probe = probe or ProbeLag("off", self._clock.now().isoformat())
        if probe.state != "off":
            agencies = {**agencies, PROBE_AGENCY: "webhook"}  # its feed tells how the pusher stands
        self._read_receipts()
        # Committed positions before the ends: the other way round lag would be hidden.
        committed = self._committed(agencies)
        cursors = self._cursors(agencies, committed)
        places = {self._place(agency) for agency in agencies}
        partitions = {p for one in self._followed.values() for p in one} | set(cursors) | places
        starts, ends = self._bounds({*partitions, Partition(self._topics.deadletter("router"), 0)})
        members = self._asker()
        groups = self._look_at_groups(committed, starts, ends, members)
        existing = {a: c for a, c in agencies.items() if self._feed(a) in ends}
        self._count_undelivered(existing, cursors, starts, ends)
        self._read_parked({place: ends[place] for place in places if place in ends}, starts)
        lines = self._look_at_lines(existing, cursors, starts, ends, members, held)
        self._lines.keep(existing)
        now = self._clock.now()
        groups.append(self._pusher(lines, probe, members, now))
        kept = [("group", one.group, one.topic) for one in groups] + [("agency", agency) for agency in existing]
        self._since.keep(kept)
        return Snapshot(
            at=now.isoformat(),
            window_s=WINDOW_S,
            agencies=[one for one in lines if one.agency != PROBE_AGENCY],
            groups=groups,
            probe=probe,
            clocks=self._deliveries.clocks(),
            open_transactions=self._transactions.look(ends, began, now),
            unreadable=self._unreadable,
            took_s=round(self._clock.monotonic() - began, 4),
            objective_s=self._objective_s,
        )

    def close(self) -> None:
        """Close the clients."""
        self._feeds.close()
        self._receipts.close()
        self._admin.close()

    def _feed(self, agency: str) -> Partition:
        return Partition(self._topics.feed(agency), 0)

    def _place(self, agency: str) -> Partition:
        return Partition(self._topics.parked(agency), 0)

    def _committed(self, agencies: Channels) -> dict[str, Mapping[Partition, Committed]]:
        """Return what every group that matters has committed, all asked at once."""
        own = {
            self._topics.agency_group(agency): agency for agency, channel in agencies.items() if channel != "webhook"
        }
        names = [self._topics.group(name) for name in (*self._followed, "pusher")]
        return dict(self._admin.groups_offsets([*names, *own]))

    def _cursors(
        self, agencies: Channels, committed: Mapping[str, Mapping[Partition, Committed]]
    ) -> dict[Partition, Committed]:
        """Return each feed's cursor: the pusher's, or the agency's own where it takes the feed and that one counts."""
        pushed, cursors = committed[self._topics.group("pusher")], {}
        for agency in agencies:
            feed = self._feed(agency)
            at, own = pushed.get(feed, Committed(0)), committed.get(self._topics.agency_group(agency), {}).get(feed)
            cursors[feed] = at if own is None or reached(at, own) > own.offset else own
        return cursors

    def _bounds(self, partitions: Collection[Partition]) -> tuple[Offsets, Offsets]:
        """Return the first and the last offset of those whose topics exist."""
        existing = self._admin.list_topics()
        return self._feeds.bounds([partition for partition in partitions if partition.topic in existing])

    def _asker(self) -> Callable[[str], Members]:
        """Return who tells how many members a group has, asked for once a look and only when it matters."""

        @cache
        def count(group: str) -> int | None:
            return self._admin.group_members(group)

        return lambda group: lambda: count(group)

    def _look_at_groups(
        self,
        committed: Mapping[str, Mapping[Partition, Committed]],
        starts: Offsets,
        ends: Offsets,
        members: Callable[[str], Members],
    ) -> list[GroupLag]:
        followed = {
            name: Followed(name, partitions, committed[self._topics.group(name)])
            for name, partitions in self._followed.items()
        }
        gaps = {name: one.gaps(starts, ends) for name, one in followed.items()}
        self._look_into_gaps(gaps)
        at_s, now = self._clock.monotonic(), self._clock.now()
        found = [
            lag
            for name, own in gaps.items()
            for lag in self._groups.look(name, own, at_s, now, members(self._topics.group(name)))
        ]
        self._groups.keep([(name, partition) for name, own in gaps.items() for partition in own])
        self._router_delay_s = max((one.delay_s for one in found if one.group == "router"), default=0.0)
        return found

    def _look_into_gaps(self, gaps: Mapping[str, Mapping[Partition, tuple[int, int]]]) -> None:
        """Find the gaps that hold no record: a group that is at the last one is not behind the end of a transaction."""
        for name, own in gaps.items():
            doubtful = dict(list(self._groups.doubtful(name, own, GAP_OFFSETS).items())[:GAPS])
            if doubtful:
                starts = {partition: at for partition, (at, _) in doubtful.items()}
                filled = self._feeds.filled(starts, {partition: end for partition, (_, end) in doubtful.items()})
                self._groups.note_empty({p: gap for p, gap in doubtful.items() if p not in filled})

    def _count_undelivered(
        self, agencies: Channels, cursors: Mapping[Partition, Committed], starts: Offsets, ends: Offsets
    ) -> None:
        """Count what came since the last look beyond the cursors, in all feeds at once."""
        wanted = {}
        for agency in agencies:
            feed, tally = self._feed(agency), self._lines.line(agency).tally
            tally.move(min(max(cursors[feed].offset, starts[feed]), ends[feed]), ends[feed])
            start = tally.wanted()
            if start is not None:
                wanted[feed] = start
        if wanted:
            reached = self._feeds.new(wanted, {feed: ends[feed] for feed in wanted}, self._count)
            for feed, offset in reached.items():
                self._lines.line(self._topics.agency_of(feed.topic)).tally.reached(offset)

    def _read_parked(self, ends: Offsets, starts: Offsets) -> None:
        """Read what was parked and put back since the last look, in all places at once."""
        wanted = self._parkings.wanted(starts, ends)
        if wanted:
            reached = self._feeds.new(wanted, {place: ends[place] for place in wanted}, self._parkings.take)
            self._parkings.reached(reached)

    def _count(self, feed: Partition, record: Record) -> bool:
        """Count one event; tell whether there is room for more."""
        tally = self._lines.line(self._topics.agency_of(feed.topic)).tally
        published, readable = published_at(record, self._clock.now())
        self._unreadable += not readable
        tally.add(record.offset, published.timestamp(), self._limits.due_s(kind_of(record), published))
        return tally.wanted() is not None

    def _look_at_lines(
        self,
        agencies: Channels,
        cursors: Mapping[Partition, Committed],
        starts: Offsets,
        ends: Offsets,
        members: Callable[[str], Members],
        held: Mapping[str, str],
    ) -> list[AgencyLag]:
        at_s, now = self._clock.monotonic(), self._clock.now()
        pusher, found = members(self._topics.group("pusher")), []
        for agency, channel in sorted(agencies.items()):
            feed = self._feed(agency)
            takers = pusher if channel == "webhook" else _taker(channel, members(self._topics.agency_group(agency)))
            cursor = cursors[feed]
            begun = Committed(max(cursor.offset, starts[feed]), cursor.note)
            look = Look(begun, ends[feed], *self._parkings.of(self._place(agency)), held.get(agency))
            found.append(self._lines.look(agency, channel, look, at_s, now, takers))
        return found

    def _pusher(
        self, lines: Sequence[AgencyLag], probe: ProbeLag, members: Callable[[str], Members], now: datetime
    ) -> GroupLag:
        """Return how the pusher stands behind all feeds together, its own probe's among them."""
        feeds = {one.agency: self._pushed(one) for one in lines if one.channel == "webhook"}
        agencies = [feed for agency, feed in feeds.items() if agency != PROBE_AGENCY]
        state = pusher_state(agencies, feeds.get(PROBE_AGENCY) if probe.state in FLOWING else None)
        lag = sum(feed.backlog for feed in feeds.values())
        return GroupLag(
            group="pusher",
            topic=LINES,
            lag=lag,
            state=state,
            state_since=self._since.of(("group", "pusher", LINES), state, now),
            delay_s=round(pusher_delay_s(state, list(feeds.values())), 3),
            partitions=sum(feed.state == state or state not in TROUBLED for feed in feeds.values()),
            members=members(self._topics.group("pusher"))() if lag else None,
            lag_exact=all(one.backlog_exact for one in lines if one.channel == "webhook"),
        )

    def _pushed(self, one: AgencyLag) -> Pushed:
        return Pushed(one.state, one.backlog, self._lines.line(one.agency).track.samples)

    def _read_receipts(self) -> None:
        for record in self._receipts.rest():
            try:
                self._take_receipt(record.value)
            except (ValueError, TypeError, KeyError, AttributeError):
                self._unreadable += 1
        self._deliveries.forget_before(self._clock.now().timestamp())

    def _take_receipt(self, value: bytes | None) -> None:
        document = orjson.loads(value or b"")
        line = self._lines.known(document.get("agency", ""))
        cursor, at_s, now = int(document.get("cursor", 0)), self._clock.monotonic(), self._clock.now()
        logged_after = line.logged_after(cursor, at_s, now) if line is not None else None
        # While the router is behind, what comes late is no publisher's clock.
        self._deliveries.take(document, logged_after if self._router_delay_s < BEHIND_S / 2 else None)


def _followed(topics: Topics, domains: Sequence[str]) -> dict[str, list[Partition]]:
    """Return what each of our own groups follows."""
    events = [Partition(topics.events(domain), n) for domain in domains for n in range(EVENT_PARTITIONS)]
    probes = [Partition(topics.events(PROBE_DOMAIN), n) for n in range(EVENT_PARTITIONS)]
    receipts = [Partition(topics.receipts, n) for n in range(RECEIPT_PARTITIONS)]
    routed = [Partition(topics.ledger_routed, n) for n in range(EVENT_PARTITIONS)]
    return {
        "router": [*events, *probes],
        "statistics": [*events, *receipts],
        "ledger": [*events, *routed, *receipts],
    }


def _taker(channel: Channel, members: Members) -> Members:
    """Return how many take a feed: who pulls or fills tables is no member of its group, and is there when it moves."""
    return members if channel == "kafka" else lambda: 0

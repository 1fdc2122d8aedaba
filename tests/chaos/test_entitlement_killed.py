"""Fifty agencies under SIGKILL, SIGSTOP and rebalance: every feed is what an independent computation says."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import pytest

from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import EVENT_PARTITIONS
from services.runtime.kafka.port import Kafka, Record
from services.runtime.settings import Settings
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import OwnTopics
from tests.events import CORRECTED, ISSUED, REVOKED, TestEvents, attribute, document, read_all
from tests.processes import Processes, Running

pytestmark = pytest.mark.servers

AGENCIES = 50
KEYS = int(os.environ.get("HONGYAN_CHAOS_KEYS", "60"))
ROUNDS = int(os.environ.get("HONGYAN_CHAOS_ROUNDS", "4"))
STOPPED_S = 3.0
DIVISIONS = ["510100", "510300", "510400", "510500", "510600"]
MASK = {"levels": ["public"], "mask": ["contact_name"]}
BARE = {"levels": [], "grant": ["certificate_no", "beds"]}
BACKFILLED = range(40, AGENCIES)


@dataclass(frozen=True)
class Wish:
    """What one agency is granted, as the independent computation knows it."""

    types: list[str]
    division: str | None
    least_beds: int
    fields: dict[str, Any] | None
    change: str


def wish(n: int) -> Wish:
    """Return what the n-th agency is granted: types, a division, a condition, fields, and what becomes of the grant."""
    types = [[ISSUED], [ISSUED, CORRECTED], [ISSUED, CORRECTED, REVOKED], [CORRECTED]][n % 4]
    division = None if n % 3 == 0 else DIVISIONS[n % len(DIVISIONS)]
    change = "begins" if n in BACKFILLED else {3: "ends", 4: "rests", 5: "is replaced"}.get(n % 7, "")
    return Wish(types, division, 300 if n % 5 == 0 else 0, [None, MASK, BARE][n % 3], change)


def filters(one: Wish) -> list[dict[str, Any]]:
    """Return a wish in the dialects of subscriptions."""
    found: list[dict[str, Any]] = [{"exact": {"division": one.division}}] if one.division else []
    return found + ([{"cel": f"data.beds >= {one.least_beds}"}] if one.least_beds else [])


def wants(one: Wish, record: Record, beds: int) -> bool:
    """Say plainly whether a grant fits an event."""
    fits = one.division is None or attribute(record, "ce_division") == one.division
    return attribute(record, "ce_type") in one.types and fits and beds >= one.least_beds


def test_every_feed_is_what_the_log_says(
    kafka: Kafka,
    own: OwnTopics,
    events: TestEvents,
    configuration: Configuration,
    installation: Settings,
    processes: Processes,
) -> None:
    """Two routers; one is killed, one is stopped and goes on as a zombie; grants end, rest and are replaced meanwhile,
    others begin in the past.
    """
    installation.router.backfill_per_s = 400
    own.ensure_agency(*(f"a{n}" for n in range(AGENCIES)))
    for n in range(AGENCIES):
        configuration.agency(f"a{n}", "http://127.0.0.1:9/never")
        if n not in BACKFILLED:
            one = wish(n)
            configuration.subscription(f"s{n}", f"a{n}", one.types, filters(one), fields=one.fields)
    start = {slot: processes.start("router", installation.model_copy(deep=True), slot=slot) for slot in "ab"}
    routers: dict[str, Running] = dict(start)
    published, dice = 0, random.Random(5)
    for number in range(ROUNDS):
        batch = [_event(events, f"{number}-{n}", n, number, number == 1 and n < KEYS // 2, dice) for n in range(KEYS)]
        half = len(batch) // 2
        events.publish(*batch[:half])
        _interrupt(routers, number, installation, processes)
        if number == 1:
            _routed(kafka, own, published + half)
            for n in range(AGENCIES):
                _change(configuration, n)
        if number == 2:
            for n in range(AGENCIES):
                _resume(configuration, n)
        events.publish(*batch[half:])
        published += len(batch)
    _routed(kafka, own, published)
    eventually(lambda: _backfilled(kafka, own), 90, "the backfills done")
    _compare(kafka, own, Codec(RegistryClient(installation.registry.url)))


def _event(events: TestEvents, event_id: str, key: int, number: int, ends: bool, dice: random.Random) -> Any:
    # What has ended by the time at which grants begin in the past is withheld; from then on nothing more ends.
    kind = ISSUED if number == 0 else dice.choice([CORRECTED, CORRECTED, REVOKED]) if ends else CORRECTED
    division = DIVISIONS[key % len(DIVISIONS)]
    more = (
        {} if kind == REVOKED else {"reviewer_division": division, "reviewer_level": "city", "contact_name": "张三丰"}
    )
    return events.certificate(event_id, key, kind, **more, **({} if kind == REVOKED else {"beds": 10 * key}))


def _change(configuration: Configuration, n: int) -> None:
    """End, suspend and replace some grants by decision, and let others begin, back to the beginning."""
    one = wish(n)

    def put(name: str, **more: Any) -> None:
        configuration.subscription(name, f"a{n}", one.types, filters(one), fields=one.fields, **more)

    match one.change:
        case "begins":
            put(f"s{n}", backfill_from="2025-01-01T00:00:00+08:00")
        case "ends":
            put(f"s{n}", state="terminated")
        case "rests":
            put(f"s{n}", state="suspended")
        case "is replaced":
            put(f"t{n}", replaces=f"s{n}")
            put(f"s{n}", state="terminated")


def _resume(configuration: Configuration, n: int) -> None:
    one = wish(n)
    if one.change == "rests":
        configuration.subscription(f"s{n}", f"a{n}", one.types, filters(one), fields=one.fields)


def _interrupt(routers: dict[str, Running], number: int, installation: Settings, processes: Processes) -> None:
    """Kill one router and start it anew; or stop one for longer than its session lasts, and let it go on."""
    slot = "ab"[number % 2]
    if number % 2 == 0:
        routers[slot].kill()
        routers[slot] = processes.start("router", installation.model_copy(deep=True), slot=slot, wait=False)
        return
    os.kill(routers[slot].process.pid, signal.SIGSTOP)
    began: list[float] = []

    def long_enough() -> bool:
        began.append(time.monotonic())
        return began[-1] - began[0] > STOPPED_S

    eventually(long_enough)
    os.kill(routers[slot].process.pid, signal.SIGCONT)


def _entries(kafka: Kafka, own: OwnTopics) -> list[dict[str, Any]]:
    return [document(record) for record in read_all(kafka, own.ledger_routed, EVENT_PARTITIONS)]


def _routed(kafka: Kafka, own: OwnTopics, count: int) -> None:
    eventually(
        lambda: sum(e["verdict"] == "routed" for e in _entries(kafka, own)) >= count, 90, f"{count} events routed"
    )


def _backfilled(kafka: Kafka, own: OwnTopics) -> bool:
    shown = {record.key: document(record) for record in read_all(kafka, own.control_backfill, 1)}
    return len(shown) == EVENT_PARTITIONS * len(BACKFILLED) and all(row["done"] for row in shown.values())


def _compare(kafka: Kafka, own: OwnTopics, codec: Codec) -> None:
    """Compute every feed from the event log and the moments at which grants changed, and look at each feed."""
    log = read_all(kafka, own.events("health"), EVENT_PARTITIONS)
    entries = _entries(kafka, own)
    assert Counter(e["verdict"] for e in entries)["routed"] == len(log)
    config = {(e["partition"], e["offset"]): e["config"] for e in entries if e["verdict"] == "routed"}
    states = _states(kafka, own)
    ended = _ended(log)
    withheld = _withheld(entries)
    assert not {agency for agency, _ in withheld} - {f"a{n}" for n in BACKFILLED}
    for n in range(AGENCIES):
        one, had, expected = wish(n), set[bytes](), set[str]()
        for record in sorted(log, key=lambda r: (r.partition, r.offset)):
            data = codec.decode(record.value).data
            in_force = _in_force(states[n], config[record.partition, record.offset])
            past = n in BACKFILLED and not in_force
            follows = _follows_up(record) and record.key in had
            given = (wants(one, record, data.get("beds") or 0) and (in_force or past)) or follows
            if past and ended.get(record.key or b"", -1) > record.offset:
                given = False
            if given:
                had.add(record.key or b"")
                expected.add(attribute(record, "ce_id"))
        feed = read_all(kafka, own.feed(f"a{n}"), 1)
        got = Counter(attribute(record, "ce_id") for record in feed)
        kept = {event for agency, event in withheld if agency == f"a{n}"}
        assert got == Counter(expected - kept), f"a{n}"
        by_id = {attribute(r, "ce_id"): r for r in log}
        _look_at_withheld(kept & expected, feed, by_id)
        _look_at_fields(feed, one, codec, by_id)
        _look_at_order(feed, log)


def _states(kafka: Kafka, own: OwnTopics) -> dict[int, list[tuple[int, str, str]]]:
    """Return by agency where on the control topic which of its grants was put in which state."""
    found = defaultdict(list)
    for record in read_all(kafka, own.control_subscriptions, 1):
        kind, _, name = (record.key or b"").decode().partition("/")
        if kind == "subscription":
            found[int(name[1:])].append((record.offset, name, document(record)["state"]))
    return found


def _in_force(states: list[tuple[int, str, str]], config: int) -> bool:
    """Say whether one of an agency's grants was active by what stands before this place of the control topic."""
    return "active" in {name: state for offset, name, state in states if offset < config}.values()


def _withheld(entries: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Return what the ledger says was withheld, from whom."""
    return {(agency, e["id"]) for e in entries if e["verdict"] == "withheld" for agency in e["withheld_from"]}


def _look_at_withheld(kept: set[str], feed: list[Record], log: dict[str, Record]) -> None:
    """What stands and was withheld all the same is older than a follow-up of its key that the agency has."""
    for event in kept:
        original = log[event]
        newer = [log[attribute(r, "ce_id")].offset for r in feed if r.key == original.key and _follows_up(r)]
        assert max(newer) > original.offset


def _follows_up(record: Record) -> bool:
    return attribute(record, "ce_type") in (CORRECTED, REVOKED)


def _ended(log: list[Record]) -> dict[bytes, int]:
    effects = load_contracts().effects()
    found: dict[bytes, int] = defaultdict(lambda: -1)
    for record in log:
        if attribute(record, "ce_type") in effects:
            found[record.key or b""] = max(found[record.key or b""], record.offset)
    return found


def _look_at_fields(feed: list[Record], one: Wish, codec: Codec, log: dict[str, Record]) -> None:
    """Each event is exactly what the policy leaves of it."""
    types = load_contracts().types
    for record in feed:
        original = log[attribute(record, "ce_id")]
        if one.fields is None:
            assert record.value == original.value
            continue
        whole = codec.decode(original.value).data
        public = {n for n, level in types[attribute(record, "ce_type")].sensitivities().items() if level == "public"}
        if one.fields is BARE:
            expected = {name: whole[name] for name in ("certificate_no", "beds") if name in whole}
        else:
            expected = {name: value for name, value in whole.items() if name in public}
            if "contact_name" in whole:
                expected["contact_name"] = "张**"
        assert codec.decode(record.value).data == expected


def _look_at_order(feed: list[Record], log: list[Record]) -> None:
    """What was routed live stands in the feed in the order of the log, for each business key."""
    place = {attribute(record, "ce_id"): record.offset for record in log}
    last: dict[bytes, int] = defaultdict(lambda: -1)
    for record in feed:
        if attribute(record, "hongyan-reason") != "backfill":
            key = record.key or b""
            offset = place[attribute(record, "ce_id")]
            if attribute(record, "hongyan-reason") == "match":
                assert offset > last[key]
                last[key] = offset

"""The table sink on a real PostgreSQL and a real MariaDB: rows as the feed says, effectively once."""

from __future__ import annotations

import copy
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.runtime.alerts import Alert, AlertKind, current
from services.runtime.embedded.servers import Servers
from services.runtime.kafka.port import Admin, Kafka
from services.runtime.settings import Settings, as_environment, with_environment
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import OwnTopics, dsn_of, execute
from tests.databases import Department, MariaDb, mariadb, postgresql
from tests.events import CORRECTED, ISSUED, REVOKED, TestEvents, document, read_all
from tests.processes import Processes, Running

pytestmark = pytest.mark.servers

AGENCY = "market-sc"
TABLE = "hy_health_medical_ad_certificate"
MANY = 600


@pytest.fixture
def domains() -> list[str]:
    """Events are put on feeds."""
    return []


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Department]:
    """Return an empty database of the agency's, once of each kind."""
    name = f"agency_{secrets.token_hex(4)}"
    if request.param == "postgresql":
        execute(servers.dsn, f"CREATE DATABASE {name}")
        yield postgresql(dsn_of(servers, name))
        execute(servers.dsn, f"DROP DATABASE {name} WITH (FORCE)")
        return
    server: MariaDb = request.getfixturevalue("mariadb_server")
    mariadb(server, "mysql").execute(f"CREATE DATABASE {name}")
    yield mariadb(server, name)
    mariadb(server, "mysql").execute(f"DROP DATABASE {name}")


@pytest.fixture
def sinking(
    own: OwnTopics, configuration: Configuration, installation: Settings, database: Department, tmp_path: Path
) -> Settings:
    """Return settings of a sink of the agency's feed, from a file."""
    own.ensure_agency(AGENCY)
    configuration.agency(AGENCY, "http://127.0.0.1:1/")
    configuration.subscription("s", AGENCY, [ISSUED])
    configuration.access(AGENCY, "hya_x", "table")
    file = tmp_path / "sink.yaml"
    file.write_text(yaml.safe_dump({"agency": AGENCY, "dsn": database.url, "prefix": "hy_"}), encoding="utf-8")
    installation.table_sink.config = file
    return installation


def number(n: int) -> str:
    """Return a certificate's number as written."""
    return f"（川）医广〔2025〕第{n:07d}号"


def rows(database: Department, columns: str) -> list[tuple[Any, ...]]:
    """Return columns of all certificates, by number; nothing while there is no table."""
    kind = "table_schema = current_schema()" if database.kind == "postgresql" else "table_schema = database()"
    if not database.execute(f"SELECT 1 FROM information_schema.tables WHERE {kind} AND table_name = '{TABLE}'"):
        return []
    return database.execute(f"SELECT {columns} FROM {TABLE} ORDER BY hongyan_key")


def start(processes: Processes, settings: Settings) -> Running:
    """Run the sink."""
    return processes.start("table-sink", settings)


def test_the_table_follows_what_becomes_of_each_certificate(
    kafka: Kafka,
    topics: Topics,
    events: TestEvents,
    sinking: Settings,
    database: Department,
    processes: Processes,
) -> None:
    """Issued, corrected, revoked: one row a certificate in its last state; a late older event changes nothing.

    A revocation counts in its place in the feed, also where it bears a date alone and the certificate an hour of it.
    """
    start(processes, sinking)
    issued = [events.certificate(f"i-{n}", n, beds=100 + n, phone="028-1") for n in range(3)]
    events.feed(AGENCY, *issued, events.certificate("i-3", 3, time="2025-12-20T15:00:00+08:00"))
    eventually(lambda: len(rows(database, "hongyan_key")) == 4, 20)
    first = rows(database, "certificate_no, hongyan_state, beds, issued_on, media_types")[0]
    assert first[:3] == (number(0), "issued", 100)
    assert str(first[3]) == "2025-12-02"
    late = events.certificate("late", 0, beds=1)
    corrected = events.certificate("c-0", 0, CORRECTED, beds=7, phone=None)
    events.feed(AGENCY, corrected, events.certificate("r-1", 1, REVOKED), late)
    events.feed(AGENCY, events.certificate("r-3", 3, REVOKED, time="2025-12-20"), grants="")
    events.feed(AGENCY, events.certificate("c-3", 3, CORRECTED, time="2025-12-20T14:00:00+08:00"), reason="replay")
    eventually(lambda: "c-3" in delivered(kafka, topics), 20)
    assert dict(rows(database, "certificate_no, hongyan_state")) == {
        number(0): "corrected",
        number(1): "revoked",
        number(2): "issued",
        number(3): "revoked",
    }
    said = {row[0]: row[1:] for row in rows(database, "certificate_no, beds, phone")}
    assert said[number(1)] == (101, "028-1")  # what the revocation says nothing of stays
    assert said[number(0)] == (7, None)  # a correction tells all anew


def alerts(kafka: Kafka, topics: Topics) -> list[Alert]:
    """Return the alerts as they stand."""
    return current(Alert.from_bytes(record.value) for record in read_all(kafka, topics.alerts, 1))


def delivered(kafka: Kafka, topics: Topics) -> list[str]:
    """Return the ids that have a receipt of delivery, in the order of the feed."""
    receipts = [document(record) for record in read_all(kafka, topics.receipts, 6)]
    found = sorted((r["cursor"], r["event_id"]) for r in receipts if r["outcome"] == "delivered")
    return list(dict.fromkeys(event for _, event in found))


def test_a_killed_sink_goes_on_at_the_cursor_in_the_database(
    kafka: Kafka,
    topics: Topics,
    events: TestEvents,
    sinking: Settings,
    database: Department,
    processes: Processes,
) -> None:
    """Killed twice in mid-load; rows, cursor and receipts all say the same in the end."""
    sink = start(processes, sinking)
    placed = events.feed(AGENCY, *(events.certificate(f"e-{n}", n % 50, beds=n) for n in range(MANY)))
    for _ in range(2):
        eventually(lambda: rows(database, "hongyan_key"), 20)
        sink.kill()
        sink = start(processes, sinking)
        placed += events.feed(AGENCY, *(events.certificate(f"m-{len(placed) + n}", n % 50) for n in range(50)))
    end = placed[-1].offset + 1
    admin = kafka.admin()
    eventually(lambda: [o.offset for o in admin.group_offsets(topics.agency_group(AGENCY)).values()] == [end], 30)
    admin.close()
    assert database.execute("SELECT next_offset FROM hy_hongyan_cursor") == [(end,)]
    assert len(rows(database, "hongyan_key")) == 50
    assert len(delivered(kafka, topics)) == len(placed)
    newest = dict(rows(database, "certificate_no, hongyan_cursor"))
    assert newest[number(49)] == end - 1


def test_a_field_that_a_schema_gains_is_a_new_column(
    kafka: Kafka,
    topics: Topics,
    events: TestEvents,
    sinking: Settings,
    database: Department,
    processes: Processes,
) -> None:
    """An event in a newer schema adds its column while the sink runs; older rows have nothing there."""
    start(processes, sinking)
    old = events.certificate("old", 0)
    events.feed(AGENCY, old)
    eventually(lambda: rows(database, "hongyan_key"), 20)
    contract = load_contracts().types[ISSUED]
    schema = copy.deepcopy(contract.schema)
    schema["name"] += secrets.token_hex(4).upper()  # the registry is shared by all tests: a subject of this one's own
    schema["fields"].append({"name": "review_note", "type": ["null", "string"], "default": None})
    codec = Codec(RegistryClient(sinking.registry.url))
    data = Codec(RegistryClient(sinking.registry.url)).decode(events.certificate("new", 1).value).data
    value = codec.encode(f"{schema['namespace']}.{schema['name']}", schema, data | {"review_note": "加急"})
    made = events.certificate("new", 1)
    events.publish_raw(topics.feed(AGENCY), value, made.key, {n: v.decode() for n, v in made.headers})
    eventually(lambda: len(rows(database, "hongyan_key")) == 2, 20)
    assert dict(rows(database, "hongyan_event_id, review_note")) == {"old": None, "new": "加急"}


def test_an_event_that_the_database_refuses_is_parked_and_the_others_go_on(
    kafka: Kafka,
    topics: Topics,
    events: TestEvents,
    sinking: Settings,
    database: Department,
    processes: Processes,
) -> None:
    """A constraint of the agency's own refuses one row: that event is parked, the database's words beside it.

    They may say again what stood in the row: its agency reads them, no alert does.
    """
    start(processes, sinking)
    events.feed(AGENCY, events.certificate("first", 0))
    eventually(lambda: rows(database, "hongyan_key"), 20)
    database.execute(f"ALTER TABLE {TABLE} ADD CONSTRAINT few_beds CHECK (beds < 500)")
    events.feed(AGENCY, events.certificate("a", 1), events.certificate("big", 2, beds=900), events.certificate("b", 3))
    events.publish_raw(topics.feed(AGENCY), b"no avro", headers={"ce_id": "broken"})
    eventually(lambda: len(read_all(kafka, topics.parked(AGENCY), 1)) == 2, 20)
    assert [row[0] for row in rows(database, "hongyan_event_id")] == ["first", "a", "b"]
    reasons = dict(
        database.execute("SELECT cursor, reason FROM hy_hongyan_parked ORDER BY cursor")
        if database.kind == "postgresql"
        else database.execute("SELECT `cursor`, reason FROM hy_hongyan_parked")
    )
    assert "few_beds" in reasons[2]
    aside = [dict(record.headers) for record in read_all(kafka, topics.parked(AGENCY), 1)]
    big = next(headers for headers in aside if headers["ce_id"] == b"big")
    assert (b"few_beds" in big["hongyan-words"], b"few_beds" in big["hongyan-refusal"]) == (True, False)
    assert not [one for one in alerts(kafka, topics) if "few_beds" in one.detail]
    outcomes = {d["event_id"]: d["outcome"] for d in map(document, read_all(kafka, topics.receipts, 6))}
    assert outcomes == {"first": "delivered", "a": "delivered", "b": "delivered", "big": "parked", "broken": "parked"}
    told = {(a.kind, a.labels["event_id"]) for a in alerts(kafka, topics) if a.state == "open"}
    assert told == {(AlertKind.EVENT_PARKED, "big"), (AlertKind.EVENT_PARKED, "broken")}


def test_a_stopped_grants_events_do_not_reach_the_database(
    kafka: Kafka,
    topics: Topics,
    events: TestEvents,
    sinking: Settings,
    database: Department,
    processes: Processes,
    configuration: Configuration,
) -> None:
    """They are parked with the reason, and nothing of them is in the agency's tables; a revocation is."""
    configuration.subscription("s", AGENCY, [ISSUED], state="suspended")
    configuration.subscription("other", AGENCY, [ISSUED])
    events.feed(AGENCY, events.certificate("stopped", 1), grants="s")
    events.feed(AGENCY, events.certificate("fine", 2), grants="other")
    events.feed(AGENCY, events.certificate("r3", 3, REVOKED), grants="")
    start(processes, sinking)
    eventually(lambda: len(rows(database, "hongyan_key")) == 2, 20)
    assert [row[0] for row in rows(database, "hongyan_event_id")] == ["fine", "r3"]
    ((event, reason),) = database.execute("SELECT event, reason FROM hy_hongyan_parked")
    assert (event, "已暂停" in reason) == (None, True)
    (parked,) = eventually(lambda: read_all(kafka, topics.parked(AGENCY), 1))
    assert dict(parked.headers)["ce_id"] == b"stopped"


def told(kafka: Kafka, topics: Topics, kind: AlertKind) -> list[str]:
    """Return what was told of a kind of alert, one after another."""
    found = [Alert.from_bytes(record.value) for record in read_all(kafka, topics.alerts, 1)]
    return [one.state for one in found if one.kind == kind]


def gaps(kafka: Kafka, topics: Topics) -> list[tuple[str, bool]]:
    """Return how the alerts of a cursor that is not on the log stand; with labels for what was lost."""
    return [(one.state, bool(one.labels)) for one in alerts(kafka, topics) if one.kind == AlertKind.FEED_GAP]


def make_anew(admin: Admin, own: OwnTopics) -> None:
    """Delete the agency's feed, and make it anew."""
    feed = own.feed(AGENCY)
    admin.delete_topics([feed])
    eventually(lambda: feed not in admin.list_topics())
    own.ensure_agency(AGENCY)


def test_a_cursor_beyond_the_feeds_end_is_decided_on_and_proves_nothing_delivered(
    kafka: Kafka,
    admin: Admin,
    own: OwnTopics,
    events: TestEvents,
    sinking: Settings,
    database: Department,
    processes: Processes,
) -> None:
    """Made anew while the sink is away: nothing is taken for what is in the tables already until somebody decides.

    The new log is as long as the tables' cursor already when the sink comes: it is by its id that it is another.
    Made anew while it runs: it goes on at the beginning by itself, and tells of it.
    """
    sink = start(processes, sinking)
    events.feed(AGENCY, *(events.certificate(f"old-{n}", n) for n in range(3)))
    eventually(lambda: len(delivered(kafka, own)) == 3, 20)
    assert sink.terminate() == 0
    make_anew(admin, own)
    events.feed(AGENCY, *(events.certificate(f"new-{n}", n) for n in range(3)))
    sink = processes.start("table-sink", sinking, wait=False)
    eventually(lambda: told(kafka, own, AlertKind.FEED_GAP) == ["open"], 40)
    assert not sink.healthy()
    events.feed(AGENCY, *(events.certificate(f"new-{n}", n) for n in range(3, 5)))
    sink.kill()
    sink = processes.start("table-sink", sinking, wait=False)
    eventually(lambda: told(kafka, own, AlertKind.FEED_GAP) == ["open", "open"], 40)
    assert [one for one in delivered(kafka, own) if one.startswith("new")] == []
    command = [sys.executable, "-m", "hongyan", "feed", "go-on", AGENCY, "--at", "first", "--reason", "agreed"]
    subprocess.run(command, check=True, env=with_environment(as_environment(sinking)))
    new = [f"new-{n}" for n in range(5)]
    eventually(lambda: [row[0] for row in rows(database, "hongyan_event_id")] == new, 20)
    eventually(lambda: set(new) <= set(delivered(kafka, own)), 20)
    eventually(sink.healthy, 20)
    assert gaps(kafka, own) == [("closed", False)]
    make_anew(admin, own)
    events.feed(AGENCY, events.certificate("again", 9))
    eventually(lambda: "again" in delivered(kafka, own), 30)
    assert "again" in [row[0] for row in rows(database, "hongyan_event_id")]
    assert ("open", True) in gaps(kafka, own)


def test_a_feed_that_was_deleted_is_told_of_also_after_a_restart(
    kafka: Kafka,
    admin: Admin,
    own: OwnTopics,
    events: TestEvents,
    sinking: Settings,
    database: Department,
    processes: Processes,
) -> None:
    """Nothing comes any more, which looks like a quiet day: the process says so, and somebody is told."""
    sink = start(processes, sinking)
    events.feed(AGENCY, events.certificate("old", 0))
    eventually(lambda: delivered(kafka, own) == ["old"], 20)
    admin.delete_topics([own.feed(AGENCY)])
    eventually(lambda: gaps(kafka, own) == [("open", False)], 20)
    assert not sink.healthy()
    sink.kill()
    sink = processes.start("table-sink", sinking, wait=False)
    eventually(lambda: told(kafka, own, AlertKind.FEED_GAP) == ["open", "open"], 40)
    assert not sink.healthy()
    own.ensure_agency(AGENCY)
    events.feed(AGENCY, events.certificate("new", 1))
    command = [sys.executable, "-m", "hongyan", "feed", "go-on", AGENCY, "--at", "first", "--reason", "agreed"]
    # Who was not there when it was made anew can't know what it is: somebody decides.
    eventually(lambda: told(kafka, own, AlertKind.FEED_GAP) == ["open"] * 3, 40)
    subprocess.run(command, check=True, env=with_environment(as_environment(sinking)))
    eventually(lambda: "new" in delivered(kafka, own), 30)
    assert [row[0] for row in rows(database, "hongyan_event_id")] == ["old", "new"]
    eventually(sink.healthy, 20)
    assert gaps(kafka, own) == [("closed", False)]


def test_while_the_agencys_own_clients_are_in_its_group_the_sink_waits_and_says_so(
    kafka: Kafka, own: OwnTopics, events: TestEvents, sinking: Settings, database: Department, processes: Processes
) -> None:
    """No receipt is written that no cursor could follow, and the process does not end; then all goes on."""
    client = kafka.consumer(own.agency_group(AGENCY))
    client.subscribe([own.feed(AGENCY)], lambda _: None, lambda _: None)
    events.feed(AGENCY, events.certificate("first", 0))
    eventually(lambda: client.poll(0.2, 10), 20)
    sink = processes.start("table-sink", sinking, wait=False)
    eventually(lambda: told(kafka, own, AlertKind.LINE_HELD) == ["open"], 40)
    assert (sink.process.poll(), sink.healthy(), delivered(kafka, own)) == (None, False, [])
    client.close()
    eventually(lambda: delivered(kafka, own) == ["first"], 20)
    eventually(lambda: told(kafka, own, AlertKind.LINE_HELD) == ["open", "closed"], 20)
    assert sink.healthy()


def test_a_database_that_is_away_is_waited_for(
    kafka: Kafka, topics: Topics, events: TestEvents, sinking: Settings, database: Department, processes: Processes
) -> None:
    """While the tables can't be written nothing is parked and nothing is lost, and an alert is open; then all comes."""
    sink = start(processes, sinking)
    events.feed(AGENCY, events.certificate("first", 0))
    eventually(lambda: rows(database, "hongyan_key"), 20)
    database.execute(f"ALTER TABLE {TABLE} RENAME TO {TABLE}_away")
    database.execute(f"CREATE TABLE {TABLE} (nothing integer)")
    events.feed(AGENCY, *(events.certificate(f"e-{n}", n) for n in range(1, 4)))
    eventually(lambda: not sink.healthy(), 20)
    held = AlertKind.LINE_HELD, "open"
    eventually(lambda: held in {(a.kind, a.state) for a in alerts(kafka, topics)}, 20)
    database.execute(f"DROP TABLE {TABLE}")
    database.execute(f"ALTER TABLE {TABLE}_away RENAME TO {TABLE}")
    eventually(lambda: len(rows(database, "hongyan_key")) == 4, 20)
    eventually(sink.healthy, 20)
    eventually(lambda: held not in {(a.kind, a.state) for a in alerts(kafka, topics)}, 20)

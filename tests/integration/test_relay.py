"""The outbox relay: what is committed with a case is on the log exactly once, in commit order per case."""

from __future__ import annotations

import http.client
import json
import secrets
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from producers.outbox.helper import add_event
from producers.outbox.repository import create_statement
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime.embedded.ports import free_port
from services.runtime.kafka.port import Kafka
from services.runtime.settings import KafkaSettings, RelaySettings, Settings
from tests.broker import Broker
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.databases import Department, MariaDb, refused
from tests.events import ACCEPTED, SOURCE, TestEvents, attribute
from tests.outbox import accept, by_key, commit, ids, published
from tests.processes import Processes, Running

pytestmark = pytest.mark.servers

KEY = "SYN-000001"
RECORDED = "cn.gov.sc.window.consultation.recorded"
LONG_S = 60.0


def state_of(relay: Running) -> str:
    """Return what a relay says of itself."""
    connection = http.client.HTTPConnection("127.0.0.1", relay.port, timeout=5)
    try:
        connection.request("GET", "/health")
        return str(json.loads(connection.getresponse().read())["state"])
    except OSError:
        return "silent"
    finally:
        connection.close()


def in_background(work: Callable[[], None]) -> threading.Thread:
    """Do something that may have to wait."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def domains() -> list[str]:
    """Nothing is published elsewhere."""
    return ["health", "window"]


def test_what_is_committed_is_published_and_what_is_rolled_back_is_not(
    kafka: Kafka, own: OwnTopics, relaying: Settings, department: Department, processes: Processes, events: TestEvents
) -> None:
    """A committed case comes out complete under the department's source; its row is marked."""
    abandoned = department.connect()
    accept(abandoned.cursor(), "rolled-back", 2)
    abandoned.rollback()
    abandoned.close()
    commit(department, ("kept", 1))
    processes.start("relay", relaying)
    eventually(lambda: department.states() == {"kept": "sent"}, LONG_S)
    (record,) = published(kafka, own)
    assert (record.key, attribute(record, "ce_id"), attribute(record, "ce_source")) == (KEY.encode(), "kept", SOURCE)
    assert attribute(record, "ce_type") == ACCEPTED
    sample = load_contracts().types[ACCEPTED].sample
    data = events.publishing.decode_data(ACCEPTED, record.value or b"")
    assert data["task_code"] == sample["task_code"]


def test_events_of_one_case_come_in_the_order_of_their_commits(
    kafka: Kafka, own: OwnTopics, relaying: Settings, department: Department, processes: Processes
) -> None:
    """Two transactions add to one case at once: the second waits for the first, also for what that adds later."""
    first, second = department.connect(), department.connect()
    accept(first.cursor(), "first-1", 1)
    late = in_background(lambda: accept(second.cursor(), "second", 1))
    commit(department, ("of-another-case", 2))
    late.join(0.3)
    assert late.is_alive()
    accept(first.cursor(), "first-2", 1)
    first.commit()
    late.join(20)
    second.commit()
    processes.start("relay", relaying)
    eventually(lambda: len(ids(kafka, own)) == 4, LONG_S)
    assert by_key(kafka, own)[KEY] == ["first-1", "first-2", "second"]


def test_rows_of_many_cases_keep_the_order_of_each(department: Department) -> None:
    """In one statement on PostgreSQL; on MySQL a statement a row, as the page says: there the numbers of all rows of
    one statement are taken with its first, before the locks of the others.
    """
    insert = "INSERT INTO hongyan_outbox (id, aggregatetype, aggregateid, type, payload) VALUES "
    row = "('{}', 'window', '{}', 't', '{{}}')".format
    holder, other = department.connect(), department.connect()
    holder.cursor().execute(insert + row("held-1", "K2"))
    both = [row("late-1", "K1"), row("late-2", "K2")]
    statements = [", ".join(both)] if department.kind == "postgresql" else both

    def write() -> None:
        for statement in statements:
            other.cursor().execute(insert + statement)

    late = in_background(write)
    late.join(0.3)
    assert late.is_alive()
    holder.cursor().execute(insert + row("held-2", "K2"))
    holder.commit()
    late.join(20)
    other.commit()
    found = department.execute("SELECT id FROM hongyan_outbox WHERE aggregateid = 'K2' ORDER BY position")
    assert [str(id_) for (id_,) in found] == ["held-1", "held-2", "late-2"]


def test_a_transaction_that_commits_after_later_ones_is_not_passed_over(
    kafka: Kafka, own: OwnTopics, relaying: Settings, department: Department, processes: Processes
) -> None:
    """A row with a lower position becomes visible when higher ones are sent already."""
    processes.start("relay", relaying)
    slow = department.connect()
    accept(slow.cursor(), "slow", 1)
    commit(department, ("quick", 2))
    eventually(lambda: ids(kafka, own) == ["quick"], LONG_S)
    slow.commit()
    eventually(lambda: ids(kafka, own) in (["quick", "slow"], ["slow", "quick"]), LONG_S)


def test_without_the_trigger_the_lock_of_the_case_itself_keeps_the_order(
    kafka: Kafka, own: OwnTopics, relaying: Settings, department: Department, processes: Processes
) -> None:
    """Where no trigger may be made, an application that locks its case first has the same order."""
    if department.kind != "mariadb":
        pytest.skip("the position of PostgreSQL comes from the trigger")
    department.execute("DROP TRIGGER hongyan_outbox_order")
    department.execute("CREATE TABLE ad_case (number int PRIMARY KEY) ENGINE = InnoDB; INSERT INTO ad_case VALUES (1)")
    first, second = department.connect(), department.connect()

    def change() -> None:
        second.cursor().execute("SELECT number FROM ad_case WHERE number = 1 FOR UPDATE")
        accept(second.cursor(), "second", 1)

    first.cursor().execute("SELECT number FROM ad_case WHERE number = 1 FOR UPDATE")
    late = in_background(change)
    late.join(0.3)
    accept(first.cursor(), "first", 1)
    first.commit()
    late.join(20)
    second.commit()
    processes.start("relay", relaying)
    eventually(lambda: len(ids(kafka, own)) == 2, LONG_S)
    assert by_key(kafka, own)[KEY] == ["first", "second"]


def test_a_bad_row_is_marked_with_the_reason_and_the_others_go_on(
    kafka: Kafka, own: OwnTopics, relaying: Settings, department: Department, processes: Processes
) -> None:
    """Every bad field is named in the row; once mended and set to new it is sent."""
    connection = department.connect()
    accept(connection.cursor(), "bad", 1, level="moon", department_code=None)
    accept(connection.cursor(), "good", 1)
    accept(connection.cursor(), "wrong-key", 2, project_no="SYN-000003")
    accept(connection.cursor(), "huge", 4, department_name="长" * 450_000)
    recorded = {**load_contracts().types[RECORDED].sample, "count": 2**64 - 1}
    add_event(connection.cursor(), RECORDED, "whatever", recorded, event_id="overflowing")
    connection.commit()
    connection.close()
    processes.start("relay", relaying)
    wanted = {"bad": "rejected", "good": "sent", "wrong-key": "rejected", "huge": "rejected"} | {
        "overflowing": "rejected"
    }
    eventually(lambda: department.states() == wanted, LONG_S)
    assert ids(kafka, own) == ["good"]
    reasons = dict(department.execute("SELECT id, reason FROM hongyan_outbox"))
    assert "/data/level" in reasons["bad"]
    assert "/data/department_code" in reasons["bad"]
    assert "/subject" in reasons["wrong-key"]
    assert "/data/department_name" in reasons["huge"]
    mended = json.dumps({**load_contracts().types[ACCEPTED].sample, "project_no": KEY})
    department.execute("UPDATE hongyan_outbox SET payload = %s, state = 'new' WHERE id = 'bad'", (mended,))
    eventually(lambda: sorted(ids(kafka, own)) == ["bad", "good"], LONG_S)


def test_the_rights_that_the_page_names_are_enough(
    kafka: Kafka, own: OwnTopics, relaying: Settings, department: Department, processes: Processes
) -> None:
    """The application and the relay each have a login that may do what docs/outbox.md says, and no more."""
    with granted(department) as (application, relay):
        commit(application, ("e1", 1), ("e2", 1))
        relaying.relay.dsn = SecretStr(relay.url)
        processes.start("relay", relaying)
        eventually(lambda: department.states() == {"e1": "sent", "e2": "sent"}, LONG_S)
        application.close()
        processes.end()
    assert ids(kafka, own) == ["e1", "e2"]


@contextmanager
def granted(department: Department) -> Iterator[tuple[Department, Department]]:
    """Give the department two logins with few rights: the application's and the relay's."""
    suffix = secrets.token_hex(4)
    on_postgresql = department.kind == "postgresql"
    rights = {"app": ["INSERT ON hongyan_outbox"], "relay": ["SELECT, UPDATE ON hongyan_outbox"]}
    if on_postgresql:
        rights["app"] += ["SELECT, INSERT, DELETE ON hongyan_outbox_lock", "USAGE ON SEQUENCE hongyan_outbox_position"]
    logins = []
    for name, granted in rights.items():
        user, url = f"{name}_{suffix}", make_url(department.url)
        how = "LOGIN PASSWORD" if on_postgresql else "IDENTIFIED BY"
        department.execute(f"CREATE USER {user} {how} 'secret'")
        for right in granted:
            department.execute(f"GRANT {right} TO {user}")
        url = url.set(username=user, password="secret")
        logins.append(department.seen_as(user, "secret", url.render_as_string(hide_password=False)))
    try:
        yield logins[0], logins[1]
    finally:
        for name in rights:
            department.execute(f"DROP OWNED BY {name}_{suffix}" if on_postgresql else "SELECT 1")
            department.execute(f"DROP USER {name}_{suffix}")


def test_rows_are_deleted_when_asked(
    kafka: Kafka, own: OwnTopics, relaying: Settings, department: Department, processes: Processes
) -> None:
    """With ``after=delete`` nothing is left of what is sent; what is rejected stays."""
    relaying.relay.after = "delete"
    commit(department, *((f"e{n}", n) for n in range(120)))
    department.execute("UPDATE hongyan_outbox SET payload = '{}' WHERE id = 'e7'")
    processes.start("relay", relaying)
    eventually(lambda: department.states() == {"e7": "rejected"}, LONG_S)
    assert Counter(ids(kafka, own)) == Counter(f"e{n}" for n in range(120) if n != 7)


def test_a_relay_killed_between_the_commit_to_kafka_and_the_mark_repeats_nothing(
    kafka: Kafka, own: OwnTopics, relaying: Settings, department: Department, processes: Processes
) -> None:
    """A lock on the row holds the mark up until the event is on the log; there the relay is killed."""
    commit(department, ("first", 1))
    holder = department.connect()
    holder.cursor().execute("SELECT id FROM hongyan_outbox WHERE id = 'first' FOR UPDATE")
    relay = processes.start("relay", relaying)
    eventually(lambda: ids(kafka, own) == ["first"], LONG_S)
    relay.kill()
    department.end_waiting_sessions()
    holder.rollback()
    assert department.states() == {"first": "new"}
    commit(department, ("second", 1))
    processes.start("relay", relaying)
    eventually(lambda: department.states() == {"first": "sent", "second": "sent"}, LONG_S)
    assert by_key(kafka, own)[KEY] == ["first", "second"]


def test_of_two_relays_one_stands_by_and_takes_over(
    kafka: Kafka, own: OwnTopics, relaying: Settings, department: Department, processes: Processes
) -> None:
    """The first is killed under load; the second goes on, and nothing is lost or doubled."""
    relaying.relay.batch = 10
    first = processes.start("relay", relaying, slot="a")
    second = processes.start("relay", relaying, slot="b")
    assert (state_of(first), state_of(second)) == ("working", "standby")
    for start in range(0, 400, 20):
        commit(department, *((f"e{n}", n % 30) for n in range(start, start + 20)))
    first.kill()
    eventually(lambda: state_of(second) == "working", LONG_S)
    eventually(lambda: set(department.states().values()) == {"sent"}, LONG_S)
    assert Counter(ids(kafka, own)) == Counter(f"e{n}" for n in range(400))
    assert second.terminate() == 0


def test_a_relay_that_was_stopped_and_lost_its_lock_doubles_nothing(
    kafka: Kafka, own: OwnTopics, relaying: Settings, department: Department, processes: Processes
) -> None:
    """The database ends the hung relay's session, another takes over; the first, woken in mid-batch, is fenced."""
    relaying.relay = relaying.relay.model_copy(update={"batch": 5, "lock_idle_s": 1.0})
    hung = processes.start("relay", relaying, slot="a")
    other = processes.start("relay", relaying, slot="b")
    commit(department, *((f"e{n}", n % 30) for n in range(300)))
    eventually(lambda: "sent" in department.states().values(), LONG_S)
    hung.process.send_signal(signal.SIGSTOP)
    eventually(lambda: state_of(other) == "working", LONG_S)
    hung.process.send_signal(signal.SIGCONT)
    commit(department, *((f"e{n}", n % 30) for n in range(300, 400)))
    eventually(lambda: set(department.states().values()) == {"sent"}, LONG_S)
    eventually(lambda: sorted((state_of(hung), state_of(other))) == ["standby", "working"], LONG_S)
    assert Counter(ids(kafka, own)) == Counter(f"e{n}" for n in range(400))
    for arrived in by_key(kafka, own).values():
        assert arrived == sorted(arrived, key=lambda one: int(one[1:]))


def test_a_notification_wakes_the_relay_at_the_commit(
    kafka: Kafka, own: OwnTopics, relaying: Settings, department: Department, processes: Processes
) -> None:
    """With PostgreSQL nobody waits for the next look, which is an hour away here."""
    if department.kind != "postgresql":
        pytest.skip("only PostgreSQL notifies")
    relaying.relay.poll_s = 3600.0
    processes.start("relay", relaying)
    for number in (1, 2):
        commit(department, (f"e{number}", number))
        eventually(lambda number=number: len(ids(kafka, own)) == number, 20)  # type: ignore[misc]


def test_a_database_that_goes_away_is_waited_for(
    kafka: Kafka,
    own: OwnTopics,
    relaying: Settings,
    department: Department,
    processes: Processes,
    request: pytest.FixtureRequest,
) -> None:
    """Sessions are cut (PostgreSQL) or the server is killed (MariaDB): the relay says so, and goes on by itself."""
    relay = processes.start("relay", relaying)
    commit(department, ("before", 1))
    eventually(lambda: ids(kafka, own) == ["before"], LONG_S)
    if department.kind == "mariadb":
        server: MariaDb = request.getfixturevalue("mariadb_server")
        server.kill()
        eventually(lambda: state_of(relay) == "waiting", LONG_S)
        eventually(server.answers, LONG_S)
    else:
        with refused(department):
            eventually(lambda: state_of(relay) == "waiting", LONG_S)
    commit(department, ("after", 1))
    eventually(lambda: by_key(kafka, own)[KEY] == ["before", "after"], LONG_S)
    assert state_of(relay) == "working"


def test_a_kafka_that_is_away_is_waited_for(
    relaying: Settings, department: Department, processes: Processes, tmp_path: Path
) -> None:
    """It is away at the start; later the broker is killed and comes back: each case once, in order."""
    if department.kind != "postgresql":
        pytest.skip("the database has no part in it")
    broker = Broker(tmp_path)
    own = relaying.model_copy(deep=True)
    own.kafka = KafkaSettings(bootstrap_servers=broker.kafka.address)
    commit(department, ("early", 1))
    relay = processes.start("relay", own, wait=False)
    eventually(lambda: state_of(relay) == "waiting", LONG_S)
    try:
        broker.start()
        kafka, topics = broker.connect(), Topics()
        admin = kafka.admin()
        admin.ensure_topics(topics.base_specs(load_contracts().domains()))
        admin.close()
        eventually(lambda: ids(kafka, topics) == ["early"], 90)
        broker.kill()
        commit(department, ("away", 1))
        eventually(lambda: state_of(relay) == "waiting", 90)
        broker.start()
        eventually(lambda: department.states()["away"] == "sent", 90)
        assert by_key(kafka, topics)[KEY] == ["early", "away"]
    finally:
        processes.end()
        broker.kill()


def test_a_registry_that_is_away_is_waited_for(
    kafka: Kafka, own: OwnTopics, relaying: Settings, department: Department, processes: Processes, tmp_path: Path
) -> None:
    """The relay holds the row until the registry answers; then it is sent, and nothing was rejected meanwhile."""
    if department.kind != "postgresql":
        pytest.skip("the database has no part in it")
    port = free_port()
    relaying.registry.url = f"http://127.0.0.1:{port}"
    relay = processes.start("relay", relaying)
    commit(department, ("held", 1))
    eventually(lambda: state_of(relay) == "waiting", LONG_S)
    assert department.states() == {"held": "new"}
    processes.start("registry", relaying, port=port)
    eventually(lambda: department.states() == {"held": "sent"}, LONG_S)
    assert ids(kafka, own) == ["held"]


def test_any_other_database_is_polled(
    kafka: Kafka, own: OwnTopics, installation: Settings, processes: Processes, tmp_path: Path
) -> None:
    """The statements come from SQLAlchemy (SQLite here), with neither lock nor notification."""
    file = tmp_path / "department.db"
    connection = sqlite3.connect(file)
    connection.executescript(create_statement("sqlite"))
    connection.execute(
        "INSERT INTO hongyan_outbox (id, aggregatetype, aggregateid, type, payload) VALUES ('e1', 'window', ?, ?, ?)",
        (KEY, ACCEPTED, json.dumps({**load_contracts().types[ACCEPTED].sample, "project_no": KEY})),
    )
    connection.commit()
    installation.relay = RelaySettings(dsn=SecretStr(f"sqlite:///{file}"), source=SOURCE, poll_s=0.1)
    processes.start("relay", installation)
    eventually(lambda: connection.execute("SELECT state FROM hongyan_outbox").fetchall() == [("sent",)], LONG_S)
    connection.close()
    assert ids(kafka, own) == ["e1"]

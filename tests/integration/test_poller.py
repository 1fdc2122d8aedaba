"""The table poller: a table that can't change, read only, and each state of each row told once."""

from __future__ import annotations

import http.client
import json
import secrets
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime.embedded.ports import free_port
from services.runtime.kafka.port import Kafka
from services.runtime.settings import KafkaSettings, PollerSettings, Settings, as_environment
from tests import poller
from tests.broker import Broker
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.databases import Department, MariaDb, refused
from tests.events import CORRECTED, SOURCE, TestEvents, attribute
from tests.poller import DELETED, add, change, commit, create, mapping, published, rejected, told
from tests.processes import Processes, Running

pytestmark = pytest.mark.servers

LONG_S = 20.0
Poll = Callable[..., Running]
on_one_database = pytest.mark.parametrize("department", ["postgresql"], indirect=True)
"""Where the database has no part in what is shown."""


@pytest.fixture
def domains() -> list[str]:
    """Nothing is published elsewhere."""
    return ["health", "window"]


@pytest.fixture
def poll(installation: Settings, department: Department, processes: Processes, tmp_path: Path) -> Poll:
    """A department's table, and a way to start a poller of it with some parts of the mapping changed."""
    create(department)

    def start(slot: str = "0", wait: bool = True, **changes: Any) -> Running:
        file = poller.write_mapping(tmp_path, mapping(department, **changes))
        installation.poller = PollerSettings(mapping=file, lock_idle_s=30.0)
        return processes.start("poller", installation, slot=slot, wait=wait)

    return start


def health_of(running: Running) -> dict[str, Any]:
    """Return what a poller says of itself."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=5)
    try:
        connection.request("GET", "/health")
        found: dict[str, Any] = json.loads(connection.getresponse().read())
    except OSError:
        return {"state": "silent", "trouble": ""}
    else:
        return found
    finally:
        connection.close()


def metric(running: Running, line: str) -> float:
    """Return a metric's value, 0 when it is not there yet."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=5)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return next((float(one.split()[-1]) for one in lines if one.startswith(line)), 0.0)


def looked_again(running: Running) -> None:
    """Wait until a look has begun and ended since now."""
    for _ in range(2):
        before = metric(running, "hongyan_poller_looked_timestamp_seconds ")
        eventually(lambda before=before: metric(running, "hongyan_poller_looked") > before, LONG_S)  # type: ignore[misc]


def test_rows_become_events_with_codes_constants_lists_and_the_mappings_time_zone(
    kafka: Kafka, own: OwnTopics, department: Department, poll: Poll, events: TestEvents
) -> None:
    """More rows than a page, all of the same cursor value; each is complete, and comes once."""
    connection = department.connect()
    for number in range(1, 51):
        add(connection.cursor(), number, changed_at="2025-12-02 10:15:00", class_code="B200")
    add(connection.cursor(), 51, number="draft:51")
    connection.commit()
    running = poll()
    eventually(lambda: len(published(kafka, own)) == 50, LONG_S)
    looked_again(running)
    assert told(kafka, own) == {str(number): ["issued"] for number in range(1, 51)}
    record = published(kafka, own)[0]
    data = events.publishing.decode_data(attribute(record, "ce_type"), record.value or b"")
    assert data["institution_class"] == "专科医院"
    assert data["media_types"] == ["网络", "户外"]
    assert data["beds"] == 20
    assert str(data["issued_on"]) == "2025-12-02"
    assert attribute(record, "ce_source") == SOURCE
    assert metric(running, 'hongyan_poller_rows_total{outcome="new"}') == 50


def test_a_transaction_that_commits_late_is_found_inside_the_overlap(
    kafka: Kafka, own: OwnTopics, department: Department, poll: Poll
) -> None:
    """Its cursor is older than that of rows told of long before; nothing comes twice for being read again."""
    running = poll()
    slow = department.connect()
    add(slow.cursor(), 1, age="30")
    commit(department, 2)
    eventually(lambda: told(kafka, own) == {"2": ["issued"]}, LONG_S)
    slow.commit()
    eventually(lambda: told(kafka, own) == {"1": ["issued"], "2": ["issued"]}, LONG_S)
    looked_again(running)
    assert len(published(kafka, own)) == 2


@on_one_database
def test_what_commits_even_later_is_found_by_comparison(
    kafka: Kafka, own: OwnTopics, department: Department, poll: Poll
) -> None:
    """A cursor far behind the overlap: only the comparison of all rows sees it."""
    poll(compare_s=0.3)
    commit(department, 2)
    eventually(lambda: told(kafka, own) == {"2": ["issued"]}, LONG_S)
    commit(department, 1, age="86400")
    eventually(lambda: told(kafka, own) == {"1": ["issued"], "2": ["issued"]}, LONG_S)


def test_a_changed_row_is_a_follow_up_and_a_touched_one_is_nothing(
    kafka: Kafka, own: OwnTopics, department: Department, poll: Poll, events: TestEvents
) -> None:
    """The follow-up names the event before it; a row that returns to an earlier state is told of again."""
    running = poll()
    commit(department, 1)
    eventually(lambda: told(kafka, own) == {"1": ["issued"]}, LONG_S)
    change(department, 1)
    looked_again(running)
    assert told(kafka, own) == {"1": ["issued"]}
    for count, beds in ((2, 30), (3, 20), (4, 30)):
        change(department, 1, beds=beds)
        eventually(lambda count=count: len(published(kafka, own)) == count, LONG_S)  # type: ignore[misc]
    records = published(kafka, own)
    assert [attribute(r, "ce_type").rsplit(".", 1)[1] for r in records] == ["issued", *["corrected"] * 3]
    ids = [attribute(r, "ce_id") for r in records]
    assert len(set(ids)) == 4
    assert [attribute(r, "ce_follows") for r in records[1:]] == ids[:-1]
    beds_told = [events.publishing.decode_data(CORRECTED, r.value or b"")["beds"] for r in records[1:]]
    assert beds_told == [30, 20, 30]


@on_one_database
def test_without_a_follow_up_type_a_changed_row_is_rejected_and_never_passed_over_in_silence(
    kafka: Kafka, own: OwnTopics, department: Department, poll: Poll
) -> None:
    """Unless the mapping says that changes are to be ignored."""
    running = poll(changed=None)
    commit(department, 1)
    eventually(lambda: told(kafka, own) == {"1": ["issued"]}, LONG_S)
    change(department, 1, beds=30)
    eventually(
        lambda: "changed" in rejected(kafka, own).get("1", {"problems": [{"problem": ""}]})["problems"][0]["problem"]
    )
    running.terminate()
    running = poll(changed="ignore")
    eventually(lambda: metric(running, 'hongyan_poller_rows_total{outcome="ignored"}') > 0, LONG_S)
    eventually(lambda: rejected(kafka, own) == {}, LONG_S)
    assert len(published(kafka, own)) == 1


@on_one_database
def test_deletions_are_found_by_comparison_when_asked(
    kafka: Kafka, own: OwnTopics, department: Department, poll: Poll
) -> None:
    """A row that is gone is told of once; when it comes back as it was, that is told of, too."""
    running = poll(compare_s=0.3, deleted=DELETED)
    commit(department, 1, 2)
    eventually(lambda: len(published(kafka, own)) == 2, LONG_S)
    department.execute("DELETE FROM ad_certificate WHERE id = 1")
    eventually(lambda: told(kafka, own) == {"1": ["issued", "revoked"], "2": ["issued"]}, LONG_S)
    first, last = (r for r in published(kafka, own) if "0000001" in attribute(r, "ce_subject"))
    assert attribute(last, "ce_follows") == attribute(first, "ce_id")
    looked_again(running)
    commit(department, 1)
    eventually(lambda: told(kafka, own)["1"] == ["issued", "revoked", "issued"], LONG_S)
    assert len({attribute(r, "ce_id") for r in published(kafka, own)}) == 4


@on_one_database
def test_more_deletions_than_the_limit_are_withheld(
    kafka: Kafka, own: OwnTopics, department: Department, poll: Poll
) -> None:
    """An empty table is more likely a mistake than the end of every certificate: it says so, and tells nobody."""
    running = poll(compare_s=0.3, deleted={**DELETED, "limit": 2})
    commit(department, 1, 2, 3)
    eventually(lambda: len(published(kafka, own)) == 3, LONG_S)
    department.execute("DELETE FROM ad_certificate")
    eventually(lambda: "deleted.limit" in health_of(running)["trouble"], LONG_S)
    assert metric(running, "hongyan_poller_withheld_deletions ") == 3
    commit(department, 1, 2, 3)
    eventually(lambda: health_of(running)["trouble"] == "", LONG_S)
    assert len(published(kafka, own)) == 3


@on_one_database
def test_a_bad_row_is_rejected_field_by_field_and_told_of_once_mended(
    kafka: Kafka, own: OwnTopics, department: Department, poll: Poll, installation: Settings
) -> None:
    """The others go on; mended rows come by themselves, those that were mended without touching the cursor, too."""
    commit(department, 1, class_code="Z9", issued_at=None)
    commit(department, 2, hospital="", media="")
    commit(department, 3)
    commit(department, 4, changed_at=None)
    commit(department, 5, class_code="Z9")
    running = poll()
    eventually(lambda: set(rejected(kafka, own)) == {"1", "2", "4", "5"}, LONG_S)
    eventually(lambda: told(kafka, own) == {"3": ["issued"]}, LONG_S)
    eventually(lambda: metric(running, "hongyan_poller_rejects ") == 4, LONG_S)
    found = {key: {p["field"]: p for p in record["problems"]} for key, record in rejected(kafka, own).items()}
    assert found["1"]["/data/institution_class"]["column"] == "class_code"
    assert "Z9" in found["1"]["/data/institution_class"]["problem"]
    assert {"/data/institution_name", "/data/media_types"} <= found["2"].keys()
    assert set(found["4"]) == {"/changed_at"}
    shown = run_command(installation, "poller", "rejects", str(installation.poller.mapping), "--key", "1", "--json")
    assert [one["key"] for one in json.loads(shown.stdout)] == ["1"]
    change(department, 1, class_code="A100", issued_at="2025-12-03 09:00:00")
    change(department, 2, touch=False, hospital="改好的医院", media="网络")
    change(department, 4)
    department.execute("DELETE FROM ad_certificate WHERE id = 5")
    eventually(lambda: rejected(kafka, own) == {}, LONG_S)
    assert told(kafka, own) == {str(number): ["issued"] for number in range(1, 5)}


def test_a_time_that_no_calendar_has_holds_up_its_own_row_alone(
    kafka: Kafka, own: OwnTopics, department: Department, poll: Poll
) -> None:
    """As a value and as the cursor: PostgreSQL has an infinity, MariaDB a day that is all noughts."""
    odd = "infinity" if department.kind == "postgresql" else "0000-00-00 00:00:00"
    commit(department, 1, issued_at=odd)
    commit(department, 2, changed_at=odd)
    commit(department, 3)
    poll()
    eventually(lambda: told(kafka, own) == {"3": ["issued"]}, LONG_S)
    eventually(lambda: set(rejected(kafka, own)) == {"1", "2"}, LONG_S)
    assert [p["field"] for p in rejected(kafka, own)["2"]["problems"]] == ["/changed_at"]
    change(department, 1, issued_at="2025-12-02 10:15:00")
    change(department, 2)
    commit(department, 4)
    eventually(lambda: set(told(kafka, own)) == {"1", "2", "3", "4"}, LONG_S)
    eventually(lambda: rejected(kafka, own) == {}, LONG_S)


@on_one_database
def test_every_row_without_a_cursor_is_told(kafka: Kafka, own: OwnTopics, department: Department, poll: Poll) -> None:
    """More of them than a page; each that gets one is told of."""
    commit(department, *range(1, 46), changed_at=None)
    poll()
    eventually(lambda: len(rejected(kafka, own)) == 45, LONG_S)
    for number in (1, 45):
        change(department, number)
    eventually(lambda: set(told(kafka, own)) == {"1", "45"}, LONG_S)
    eventually(lambda: len(rejected(kafka, own)) == 43, LONG_S)


@on_one_database
def test_a_mended_mapping_brings_the_rejected_rows(
    kafka: Kafka, own: OwnTopics, department: Department, poll: Poll
) -> None:
    """The rows are as they were, far behind the watermark."""
    commit(department, 1, class_code="C300", age="86400")
    commit(department, 2)
    running = poll()
    eventually(lambda: set(rejected(kafka, own)) == {"1"}, LONG_S)
    assert running.terminate() == 0
    poll(codes={"classes": {"A100": "综合医院", "C300": "中医医院"}})
    eventually(lambda: told(kafka, own) == {"1": ["issued"], "2": ["issued"]}, LONG_S)
    eventually(lambda: rejected(kafka, own) == {}, LONG_S)


@on_one_database
def test_when_everything_is_bad_it_stops_and_says_so(
    kafka: Kafka, own: OwnTopics, department: Department, poll: Poll
) -> None:
    """It reads no further than the limit of rejects; with the mapping mended all rows come, none passed over."""
    commit(department, *range(1, 61), class_code="C300")
    running = poll(max_rejects=30)
    eventually(lambda: "max_rejects" in health_of(running)["trouble"], LONG_S)
    looked_again(running)
    assert len(rejected(kafka, own)) == 40
    assert running.terminate() == 0
    running = poll(max_rejects=30, codes={"classes": {"C300": "中医医院"}})
    eventually(lambda: len(published(kafka, own)) == 60, LONG_S)
    assert health_of(running)["state"] == "working"


@on_one_database
def test_a_row_from_the_future_hides_nothing(kafka: Kafka, own: OwnTopics, department: Department, poll: Poll) -> None:
    """One bad clock wrote the year 2099 into the cursor: rows that come later are found all the same."""
    running = poll(time_zone="UTC")
    commit(department, 1, changed_at="2099-01-01 00:00:00")
    eventually(lambda: told(kafka, own) == {"1": ["issued"]}, LONG_S)
    commit(department, 2)
    eventually(lambda: told(kafka, own) == {"1": ["issued"], "2": ["issued"]}, LONG_S)
    looked_again(running)
    assert len(published(kafka, own)) == 2


def test_it_needs_no_more_than_to_read(
    kafka: Kafka, own: OwnTopics, department: Department, poll: Poll, installation: Settings
) -> None:
    """A login with SELECT on the table alone is enough; its address comes from the settings."""
    user = f"reader_{secrets.token_hex(4)}"
    on_postgresql = department.kind == "postgresql"
    department.execute(f"CREATE USER {user} {'LOGIN PASSWORD' if on_postgresql else 'IDENTIFIED BY'} 'secret'")
    department.execute(f"GRANT SELECT ON ad_certificate TO {user}")
    url = make_url(department.url).set(username=user, password="secret").render_as_string(hide_password=False)
    commit(department, 1)
    try:
        running = poll(url=url)
        eventually(lambda: told(kafka, own) == {"1": ["issued"]}, LONG_S)
        running.terminate()
    finally:
        department.execute(f"DROP OWNED BY {user}" if on_postgresql else "SELECT 1")
        department.execute(f"DROP USER {user}")


@on_one_database
def test_a_lost_store_is_made_again_from_the_journal(
    kafka: Kafka, own: OwnTopics, department: Department, poll: Poll, installation: Settings
) -> None:
    """The local file is a view: without it nothing is told twice, and nothing is forgotten."""
    commit(department, *range(1, 41))
    commit(department, 41, class_code="Z9")
    running = poll()
    eventually(lambda: len(published(kafka, own)) == 40, LONG_S)
    eventually(lambda: set(rejected(kafka, own)) == {"41"}, LONG_S)
    running.kill()
    for file in (installation.data_dir / "poller").iterdir():
        file.unlink()
    change(department, 1, beds=99)
    running = poll(cursor={"column": "changed_at", "overlap": 86400})
    eventually(lambda: told(kafka, own)["1"] == ["issued", "corrected"], LONG_S)
    looked_again(running)
    assert len(published(kafka, own)) == 41
    assert metric(running, "hongyan_poller_rejects ") == 1


def test_of_two_pollers_one_stands_by_and_takes_over(
    kafka: Kafka, own: OwnTopics, department: Department, poll: Poll
) -> None:
    """The first is stopped in mid-work and loses its lock; woken up, it can tell nothing twice."""
    first = poll("a")
    second = poll("b")
    assert (health_of(first)["state"], health_of(second)["state"]) == ("working", "standby")
    commit(department, *range(1, 201))
    eventually(lambda: len(published(kafka, own)) > 0, LONG_S)
    first.process.send_signal(signal.SIGSTOP)
    department.end_sessions_but_mine()
    eventually(lambda: health_of(second)["state"] == "working", LONG_S)
    first.process.send_signal(signal.SIGCONT)
    commit(department, *range(201, 301))
    eventually(lambda: len(published(kafka, own)) >= 300, LONG_S)
    eventually(
        lambda: sorted((health_of(first)["state"], health_of(second)["state"])) == ["standby", "working"], LONG_S
    )
    assert told(kafka, own) == {str(number): ["issued"] for number in range(1, 301)}
    assert second.terminate() == 0


def test_a_database_that_goes_away_is_waited_for(
    kafka: Kafka, own: OwnTopics, department: Department, poll: Poll, request: pytest.FixtureRequest
) -> None:
    """Sessions are cut (PostgreSQL) or the server is killed (MariaDB): the poller says so, and goes on by itself."""
    running = poll()
    commit(department, 1)
    eventually(lambda: told(kafka, own) == {"1": ["issued"]}, LONG_S)
    if department.kind == "mariadb":
        server: MariaDb = request.getfixturevalue("mariadb_server")
        server.kill()
        eventually(lambda: health_of(running)["state"] == "waiting", LONG_S)
        eventually(server.answers, LONG_S)
    else:
        with refused(department):
            eventually(lambda: health_of(running)["state"] == "waiting", LONG_S)
    commit(department, 2)
    eventually(lambda: told(kafka, own) == {"1": ["issued"], "2": ["issued"]}, LONG_S)
    assert health_of(running)["state"] == "working"


@on_one_database
def test_a_table_that_lost_a_column_is_waited_for_by_name(
    kafka: Kafka, own: OwnTopics, department: Department, poll: Poll
) -> None:
    """The health page says which column is missing; once it is back the poller goes on by itself."""
    running = poll()
    department.execute("ALTER TABLE ad_certificate RENAME COLUMN beds TO bed_count")
    eventually(lambda: "beds" in health_of(running)["trouble"], LONG_S)
    department.execute("ALTER TABLE ad_certificate RENAME COLUMN bed_count TO beds")
    commit(department, 1)
    eventually(lambda: told(kafka, own) == {"1": ["issued"]}, LONG_S)


@on_one_database
def test_a_kafka_and_a_registry_that_are_away_are_waited_for(
    installation: Settings, department: Department, processes: Processes, poll: Poll, tmp_path: Path
) -> None:
    """Both are away at the start, the broker is killed later: each certificate once."""
    broker = Broker(tmp_path)
    port = free_port()
    installation.kafka = KafkaSettings(bootstrap_servers=broker.kafka.address)
    installation.registry.url = f"http://127.0.0.1:{port}"
    commit(department, 1)
    running = poll(wait=False)
    eventually(lambda: health_of(running)["state"] == "waiting", LONG_S)
    try:
        broker.start()
        kafka, topics = broker.connect(), Topics()
        admin = kafka.admin()
        admin.ensure_topics(topics.base_specs(load_contracts().domains()))
        admin.close()
        eventually(lambda: "schema registry" in health_of(running)["trouble"], 90)
        processes.start("registry", installation, port=port)
        eventually(lambda: told(kafka, topics) == {"1": ["issued"]}, 90)
        broker.kill()
        commit(department, 2)
        eventually(lambda: health_of(running)["state"] == "waiting", 90)
        broker.start()
        eventually(lambda: told(kafka, topics) == {"1": ["issued"], "2": ["issued"]}, 90)
    finally:
        processes.end()
        broker.kill()


def run_command(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the product's command under these settings."""
    environment = as_environment(settings) | {"PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "hongyan", *arguments], capture_output=True, text=True, check=False, env=environment
    )


def test_any_other_database_is_polled_and_text_may_hold_the_time(
    kafka: Kafka, own: OwnTopics, installation: Settings, processes: Processes, tmp_path: Path
) -> None:
    """SQLite has no times: the cursor is text of a form that the mapping tells."""
    file = tmp_path / "department.db"
    connection = sqlite3.connect(file)
    connection.execute(poller.CREATE.format(timestamp="text", options=""))
    sqlite = Department("sqlite", f"sqlite:///{file}", lambda: sqlite3.connect(file))
    row = "INSERT INTO ad_certificate VALUES (?, ?, '合成医院', 'A100', 20, '网络', '20251202101500', ?)"
    changed = mapping(sqlite, cursor={"column": "changed_at", "overlap": 600, "format": "%Y%m%d%H%M%S"})
    for name in ("issued_on", "valid_from"):
        changed["fields"][name] = {"column": "issued_at", "format": "%Y%m%d%H%M%S"}
    installation.poller = PollerSettings(mapping=poller.write_mapping(tmp_path, changed))
    connection.execute(row, (1, "（川）医广〔2025〕第0000001号", "20251202101500"))
    connection.commit()
    processes.start("poller", installation)
    eventually(lambda: told(kafka, own) == {"1": ["issued"]}, LONG_S)
    connection.execute(row, (2, "（川）医广〔2025〕第0000002号", "20251202100600"))
    connection.commit()
    eventually(lambda: Counter(told(kafka, own)) == Counter({"1": ["issued"], "2": ["issued"]}), LONG_S)
    connection.close()

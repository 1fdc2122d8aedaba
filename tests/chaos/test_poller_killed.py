"""The table poller under SIGKILL: every committed case is told once, every change once, whatever is killed.

What is asserted, and why it is all that a poller can promise: a table shows states and no transitions. So each case's
first event (``issued``) is on the log exactly once; no event id is there twice; and the last event of each case says
what its row says now. The run of 20,000 cases with 50 kills: ``HONGYAN_TESTS_POLLER_CASES=20000
HONGYAN_TESTS_POLLER_KILLS=50``.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from schemas.formats import normalise_certificate_no
from services.runtime.kafka.port import Kafka, Record
from services.runtime.settings import PollerSettings, Settings
from tests import poller
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.databases import Department
from tests.events import TestEvents, attribute
from tests.poller import add, mapping, published
from tests.processes import Processes

pytestmark = pytest.mark.servers

CASES = int(os.environ.get("HONGYAN_TESTS_POLLER_CASES", "300"))
KILLS = int(os.environ.get("HONGYAN_TESTS_POLLER_KILLS", "3"))
BATCH = 20
WRITERS = 3
PHASE_S = 0.3
"""A look of some pages takes about as long: the kill falls anywhere in one."""


class ApprovalSystem:
    """Decides synthetic certificates in concurrent transactions, one in ten rolled back, one in five changed later."""

    def __init__(self, department: Department) -> None:
        self._department = department
        poller.create(department)

    def decide(self, cases: range) -> None:
        """Decide cases, a transaction each, and change an earlier one now and then."""
        connection = self._department.connector()
        cursor = connection.cursor()
        for case in cases:
            add(cursor, case, beds=1)
            if case % 10 == 9:
                connection.rollback()
                continue
            connection.commit()
            if case % 5 == 0:
                cursor.execute(
                    "UPDATE ad_certificate SET beds = beds + 1, changed_at = localtimestamp WHERE id = %s", (case,)
                )
                connection.commit()
        connection.close()

    def rows(self) -> dict[str, int]:
        """Return what the table says: the beds of each certificate, by its number."""
        return {str(number): int(beds) for number, beds in self._department.execute(_ROWS)}


_ROWS = "SELECT number, beds FROM ad_certificate"


def by_certificate(records: list[Record]) -> dict[str, list[Record]]:
    """Return the events of each certificate in order, by its number."""
    found: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        found[attribute(record, "ce_subject").split("/", 1)[1]].append(record)
    return found


@pytest.mark.timeout(180 + CASES // 10 + KILLS * 15)
def test_every_case_is_told_once_and_its_last_state_stands_whatever_is_killed(
    kafka: Kafka,
    own: OwnTopics,
    installation: Settings,
    department: Department,
    processes: Processes,
    events: TestEvents,
    tmp_path: Path,
) -> None:
    """It is killed again and again at a random moment, while transactions commit and roll back."""
    dice = random.Random(20251203)
    system = ApprovalSystem(department)
    content = mapping(department, poll_s=0.02, batch=BATCH, cursor={"column": "changed_at", "overlap": 20})
    installation.poller = PollerSettings(mapping=poller.write_mapping(tmp_path, content))
    share = CASES // (KILLS + 1)
    with ThreadPoolExecutor(WRITERS) as writers:
        for start in range(0, KILLS * share, share):
            running = processes.start("poller", installation, wait=False)
            cases = [range(start + n, start + share, WRITERS) for n in range(WRITERS)]
            writing = [writers.submit(system.decide, some) for some in cases]
            eventually(running.healthy, 60)
            threading.Event().wait(dice.uniform(0, PHASE_S))
            running.kill()
            for one in writing:
                one.result(60)
    system.decide(range(KILLS * share, CASES))
    processes.start("poller", installation)
    rows = system.rows()

    def is_told() -> bool:
        told = by_certificate(published(kafka, own))
        return {number: _beds(events, records[-1]) for number, records in told.items()} == normalised(rows)

    eventually(is_told, 60 + CASES / 100)
    records = published(kafka, own)
    first = Counter(attribute(r, "ce_subject") for r in records if attribute(r, "ce_type").endswith(".issued"))
    assert set(first.values()) == {1}
    assert len(first) == len(rows)
    assert set(Counter(attribute(r, "ce_id") for r in records).values()) == {1}


def _beds(events: TestEvents, record: Record) -> int:
    return int(events.publishing.decode_data(attribute(record, "ce_type"), record.value or b"")["beds"])


def normalised(rows: dict[str, int]) -> dict[str, int]:
    """Return the rows by the number as events have it."""
    return {normalise_certificate_no(number): beds for number, beds in rows.items()}

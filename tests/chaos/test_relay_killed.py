"""The outbox relay under SIGKILL: every committed case is on the log exactly once, in commit order per case.

The run of 20,000 cases with 50 kills: ``HONGYAN_TESTS_RELAY_CASES=20000 HONGYAN_TESTS_RELAY_KILLS=50``.
"""

from __future__ import annotations

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.runtime.kafka.port import Kafka
from services.runtime.settings import Settings
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.databases import Department
from tests.outbox import accept, by_key
from tests.processes import Processes, Running

pytestmark = pytest.mark.servers

CASES = int(os.environ.get("HONGYAN_TESTS_RELAY_CASES", "600"))
KILLS = int(os.environ.get("HONGYAN_TESTS_RELAY_KILLS", "5"))
BATCH = 20
WRITERS = 3
PROJECTS = 200
PHASE_S = 0.03
"""A batch takes about as long: the kill falls anywhere in one."""


class ApprovalSystem:
    """Decides synthetic cases in concurrent transactions, one in ten rolled back; its own table is the truth."""

    def __init__(self, department: Department) -> None:
        self._department = department
        department.execute("CREATE TABLE project (number int PRIMARY KEY, cases int NOT NULL)")
        rows = ", ".join(f"({number}, 0)" for number in range(PROJECTS))
        department.execute(f"INSERT INTO project VALUES {rows}")

    def decide(self, cases: range) -> None:
        """Decide cases, a transaction each, all of a project's in the order of its row lock."""
        connection = self._department.connector()
        cursor = connection.cursor()
        for case in cases:
            number = case * 7 % PROJECTS
            cursor.execute("SELECT cases FROM project WHERE number = %s FOR UPDATE", (number,))
            count = cursor.fetchone()[0] + 1
            cursor.execute("UPDATE project SET cases = %s WHERE number = %s", (count, number))
            accept(cursor, f"{number}/{count}{'/abandoned' if case % 10 == 9 else ''}", number)
            if case % 10 == 9:
                connection.rollback()
            else:
                connection.commit()
        connection.close()

    def committed(self) -> dict[str, list[str]]:
        """Return the ids of all events that were committed, in order, by business key."""
        counts = self._department.execute("SELECT number, cases FROM project WHERE cases > 0")
        return {f"SYN-{number:06d}": [f"{number}/{n + 1}" for n in range(count)] for number, count in counts}


def settled(department: Department) -> int:
    """Return how many rows the relay has marked."""
    return int(department.execute("SELECT count(*) FROM hongyan_outbox WHERE state <> 'new'")[0][0])


def kill_in_mid_work(relay: Running, department: Department, goal: int, phase_s: float) -> None:
    """Kill a relay that works once so many rows are marked, and some milliseconds more."""
    eventually(lambda: settled(department) >= goal and relay.healthy(), 60)
    threading.Event().wait(phase_s)
    relay.kill()


@pytest.mark.timeout(180 + CASES // 20 + KILLS * 15)
def test_every_committed_case_is_published_exactly_once_whatever_is_killed(
    kafka: Kafka, own: OwnTopics, relaying: Settings, department: Department, processes: Processes
) -> None:
    """It is killed again and again, each time after a random number of rows and at a random moment of a batch."""
    relaying.relay = relaying.relay.model_copy(update={"batch": BATCH, "poll_s": 0.02})
    dice = random.Random(20251201)
    system = ApprovalSystem(department)
    share = CASES // (KILLS + 1)
    with ThreadPoolExecutor(WRITERS) as writers:
        for start in range(0, KILLS * share, share):
            relay = processes.start("relay", relaying, wait=False)
            cases = [range(start + n, start + share, WRITERS) for n in range(WRITERS)]
            writing = [writers.submit(system.decide, some) for some in cases]
            goal = settled(department) + dice.randrange(share // 2)
            kill_in_mid_work(relay, department, goal, dice.uniform(0, PHASE_S))
            for one in writing:
                one.result(60)
    system.decide(range(KILLS * share, CASES))
    processes.start("relay", relaying)
    committed = system.committed()
    eventually(lambda: settled(department) == sum(map(len, committed.values())), 60 + CASES / 100)
    assert by_key(kafka, own) == committed

"""The fact store on a real PostgreSQL: the cells depend on the set of events alone, however they came."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.runtime.positions import PositionLostError
from services.statistics.facts import Deletion, Fact
from tests.fact_stores import ACCEPTED, COMPLETED, TOPIC, OwnStore, deletion, identified

pytestmark = pytest.mark.servers
EXAMPLES = int(os.environ.get("HONGYAN_TESTS_EXAMPLES", "20"))


@pytest.fixture
def store(database_dsn: str) -> Iterator[OwnStore]:
    """Return a store of the test's own."""
    found = OwnStore(database_dsn)
    yield found
    found.store.close()


@dataclass(frozen=True)
class Said:
    """An event in the model: what happened, and which one it corrects or deletes."""

    id: str
    case: str
    kind: str
    when: str
    recorded: str
    level: str
    follows: str | None
    deletes: bool

    @property
    def month(self) -> str:
        """The month in which it happened."""
        return self.when[:7]

    def identity(self, of: str | None = None) -> int:
        """Return the number that decides between two at once."""
        return identified(of or self.id).int


WHENS = (
    "2025-11-30T23:59:59",
    "2025-12-01T00:00:00",
    "2025-12-15T12:00:00",
    "2025-12-31T23:59:59",
    "2026-01-01T00:00:00",
)


@st.composite
def histories(draw: st.DrawFn) -> list[Said]:
    """Draw up to a dozen events of few cases, some correcting or deleting others, some at the same time."""
    count = draw(st.integers(1, 12))
    found = []
    for n in range(count):
        follows = draw(st.none() | st.integers(0, count - 1).filter(lambda other, n=n: other != n))
        found.append(
            Said(
                id=f"e{n}",
                case=draw(st.sampled_from("abc")),
                kind=draw(st.sampled_from((ACCEPTED, COMPLETED))),
                when=draw(st.sampled_from(WHENS)),
                recorded=draw(st.sampled_from(("2026-01-02T00:00:00", "2026-01-03T00:00:00"))),
                level=draw(st.sampled_from(("province", "city"))),
                follows=None if follows is None else f"e{follows}",
                deletes=follows is not None and draw(st.booleans()),
            )
        )
    return found


def expected(said: Sequence[Said]) -> tuple[Counter[tuple[str, str, str]], Counter[tuple[str, str, str]]]:
    """Count (events, cases) by month, kind and level, as the rules say and by no code of the product."""
    last: dict[str, Said] = {}
    for one in said:
        known = last.get(one.follows or "")
        if one.follows and (known is None or (known.recorded, known.identity()) < (one.recorded, one.identity())):
            last[one.follows] = one
    valid = [
        one for one in said if not one.deletes and one.id not in last and (not one.follows or last[one.follows] is one)
    ]
    first: dict[tuple[str, str], Said] = {}
    for one in sorted(valid, key=lambda s: (s.when, s.identity())):
        first.setdefault((one.kind, one.case), one)
    events = Counter((one.month, one.kind, one.level) for one in valid)
    return events, Counter((one.month, one.kind, one.level) for one in first.values())


def row(store: OwnStore, one: Said) -> Fact | Deletion:
    """Return the fact or the deletion that an event is."""
    if one.deletes and one.follows:
        return deletion(one.id, one.follows, one.recorded)
    return store.fact(one.id, one.when, one.kind, one.case, one.follows, one.recorded, level=one.level)


def counted(store: OwnStore) -> tuple[Counter[tuple[str, str, str]], Counter[tuple[str, str, str]]]:
    """Return what the store counts, by month, kind and level."""
    import psycopg

    from services.statistics.store import in_schema

    events: Counter[tuple[str, str, str]] = Counter()
    cases: Counter[tuple[str, str, str]] = Counter()
    store.settle()
    with psycopg.connect(in_schema(store.dsn)) as connection:
        statement = "SELECT month, type, data ->> 'level', events, cases FROM month_cell m JOIN cell c ON c.id = m.cell"
        for month, kind, level, some, first in connection.execute(statement):
            key = (f"{month // 100}-{month % 100:02d}", kind, level)
            events[key] += some
            cases[key] += first
    return +events, +cases


def feed(store: OwnStore, rows: Sequence[Fact | Deletion], random: Random) -> None:
    """Store rows in any order, some again, in batches of any size, settled now and then, some stored twice over."""
    arranged = [*rows, *random.sample(list(rows), random.randint(0, len(rows)))]
    random.shuffle(arranged)
    while arranged:
        size = random.randint(1, len(arranged))
        batch, arranged = arranged[:size], arranged[size:]
        store.put(*batch)
        if random.random() < 0.3:
            # A process that died after its commit reads the batch again, and finds that it no longer owns the place.
            with pytest.raises(PositionLostError):
                store.store.store(batch, {(TOPIC, 0): (store.offset - size, store.offset)})
        if random.random() < 0.5:
            store.settle()


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=histories(), random=st.randoms(use_true_random=False))
def test_any_order_repetition_and_batching_gives_the_same_cells(
    store: OwnStore, said: list[Said], random: Random
) -> None:
    """Corrections and deletions too may come before what they correct; the cells are those of the model."""
    rows = [row(store, one) for one in said]
    found = []
    for _ in range(2):
        store.empty()
        feed(store, rows, random)
        found.append(store.cells())
        assert counted(store) == expected(said)
    assert found[0] == found[1]


def test_a_correction_moves_a_case_between_cells_once(store: OwnStore) -> None:
    """Department, level and month of the correction hold; what it corrects counts nowhere."""
    store.put(store.fact("e1", "2025-12-10T09:00:00", case="A"))
    assert store.exact("items_handled", "2025-12", department_code="D1") == 1
    moved = store.fact(
        "e2", "2025-11-28T09:00:00", case="A", follows="e1", recorded="2025-12-20T00:00:00", department_code="D2"
    )
    store.put(moved)
    store.put(moved)
    assert store.exact("items_handled", "2025-12") == 0
    assert store.exact("items_handled", "2025-11", department_code="D2") == 1


def test_a_reopened_case_counts_at_its_first_completion_and_again_if_that_is_deleted(store: OwnStore) -> None:
    """The second completion stands aside until the first is no more."""
    store.put(store.fact("e1", "2025-11-10T09:00:00", case="A"), store.fact("e2", "2025-12-10T09:00:00", case="A"))
    assert (store.exact("items_handled", "2025-11"), store.exact("items_handled", "2025-12")) == (1, 0)
    store.put(deletion("t1", "e1", "2025-12-20T00:00:00"))
    assert (store.exact("items_handled", "2025-11"), store.exact("items_handled", "2025-12")) == (0, 1)


def test_a_merged_department_is_told_as_its_unit_from_then_on(store: OwnStore) -> None:
    """Old months stay as they were; the unit's name is the one that was decided."""
    import psycopg

    from services.statistics.departments import UnitChange, change_unit

    for month in ("2025-12", "2026-01"):
        store.put(
            store.fact(f"a{month}", f"{month}-10T09:00:00"),
            store.fact(f"b{month}", f"{month}-10T09:00:00", department_code="D2", department_name="二厅"),
        )
    with psycopg.connect(store.dsn) as connection:
        change_unit(connection, UnitChange("D2", 202601, "D1", "一厅（合并）"), "张三", "机构改革")
    with store.reading() as reader:
        before = reader.breakdown("items_handled", "2025-12", "department_code")
        after = reader.breakdown("items_handled", "2026-01", "department_code")
        assert {one.dimensions["department_code"]: one.exact for one in before} == {"D1": 1, "D2": 1}
        assert {one.dimensions["department_code"]: one.exact for one in after} == {"D1": 2}
        assert reader.label("department_code", "D1", "2026-01") == "一厅（合并）"
        assert reader.label("department_code", "D2", "2025-12") == "二厅"

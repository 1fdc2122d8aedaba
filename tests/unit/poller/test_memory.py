"""What a poller remembers is a view of its journal: it can be lost, copied late, or belong to another cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from producers.poller.journal import Changes, Journal
from producers.poller.memory import Memory, TakenOverError
from schemas.topics import Topics
from tests.fakes.kafka import FakeKafka


@pytest.fixture
def cluster() -> FakeKafka:
    """A cluster with the poller's topic."""
    found = FakeKafka()
    found.admin().ensure_topics([Topics().poller_spec("certificates")])
    return found


@pytest.fixture
def journal(cluster: FakeKafka) -> Journal:
    """The journal of one poller."""
    return Journal(cluster, Topics(), "certificates")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    """Its memory."""
    with Memory(tmp_path / "store.sqlite") as found:
        yield found


def committed(cluster: FakeKafka, journal: Journal, changes: Changes) -> dict[int, int]:
    """Commit changes and return the next offsets."""
    producer = cluster.transactional_producer("poller-certificates")
    producer.begin()
    last = journal.write(producer, changes)
    producer.commit()
    return {number: sent.result(1).offset + 1 for number, sent in last.items()}


STATE = {"digest": "d", "number": 1, "id": "e1"}
REJECT = {"key": [2], "problems": []}
BOTH = Changes({"1": STATE}, {"2": REJECT}, {"cursor": 7})


def test_it_catches_up_with_what_was_committed_and_with_nothing_else(
    cluster: FakeKafka, journal: Journal, memory: Memory
) -> None:
    """An aborted transaction leaves no trace; a mended row is taken off the rejects."""
    committed(cluster, journal, BOTH)
    producer = cluster.transactional_producer("poller-certificates")
    producer.begin()
    journal.write(producer, Changes({"9": STATE}))
    producer.abort()
    memory.catch_up(journal)
    assert memory.states(["1", "2", "9"]) == {"1": STATE}
    assert memory.rejects() == memory.rejects_of(["1", "2"]) == {"2": REJECT} == journal.rejects()
    assert memory.progress == {"cursor": 7}
    committed(cluster, journal, Changes({"2": STATE}, {"2": None}))
    memory.catch_up(journal)
    assert (memory.count_rejects(), journal.rejects()) == (0, {})
    assert memory.states(["2"]) == {"2": STATE}
    assert memory.progress == {"cursor": 7}


def test_a_restart_reads_only_what_it_does_not_know(cluster: FakeKafka, journal: Journal, tmp_path: Path) -> None:
    """What was applied after its commit is not read again; what a crash left out is."""
    path = tmp_path / "store.sqlite"
    with Memory(path) as memory:
        memory.catch_up(journal)
        memory.apply(BOTH, committed(cluster, journal, BOTH))
    committed(cluster, journal, Changes({"3": STATE}))
    with Memory(path) as memory:
        read = list(journal.read({0: 2, 1: 1}))
        assert [list(changes.states) for changes, _ in read] == [["3"]]
        memory.catch_up(journal)
        assert memory.states(["1", "3"]) == {"1": STATE, "3": STATE}


def test_an_older_poller_that_wakes_up_may_not_write(cluster: FakeKafka, journal: Journal, tmp_path: Path) -> None:
    """Its successor has gone on meanwhile, over the same file."""
    path = tmp_path / "store.sqlite"
    with Memory(path) as older, Memory(path) as newer:
        older.catch_up(journal)
        hanging = Changes({"1": STATE})
        offsets = committed(cluster, journal, hanging)
        newer.catch_up(journal)
        changed = Changes({"1": {**STATE, "number": 2}})
        newer.apply(changed, committed(cluster, journal, changed))
        with pytest.raises(TakenOverError):
            older.apply(hanging, offsets)
        assert newer.states(["1"])["1"]["number"] == 2


def test_a_view_of_another_cluster_is_thrown_away(journal: Journal, cluster: FakeKafka, memory: Memory) -> None:
    """A new Kafka knows nothing: what the old one knew must not keep rows from being told of."""
    committed(cluster, journal, BOTH)
    memory.catch_up(journal)
    other = FakeKafka()
    other.admin().ensure_topics([Topics().poller_spec("certificates")])
    other_journal = Journal(other, Topics(), "certificates")
    memory.catch_up(other_journal)
    assert (memory.states(["1"]), memory.rejects(), memory.progress) == ({}, {}, {})


def test_a_pass_tells_which_rows_it_has_not_met(journal: Journal, cluster: FakeKafka, memory: Memory) -> None:
    """Those whose end was told before are left out."""
    committed(cluster, journal, Changes(dict.fromkeys("abc", STATE) | {"d": {"gone": True, "number": 2, "id": "e"}}))
    memory.catch_up(journal)
    memory.see(memory.begin_pass(), "abc")
    number = memory.begin_pass()
    memory.see(number, "b")
    assert memory.count_unseen(number) == 2
    assert memory.unseen(number, 10).keys() == {"a", "c"}
    assert len(memory.unseen(number, 1)) == 1

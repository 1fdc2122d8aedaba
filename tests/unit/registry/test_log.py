"""The log: several instances agree, reads go on without Kafka, and a log that isn't whole is not served."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from schemas.topics import Topics
from services.registry.log import RegistryLog
from services.registry.state import RefusedError, Version
from services.runtime.errors import KafkaUnavailableError
from services.runtime.kafka.port import Partition
from tests.conditions import eventually
from tests.registries import PatientKafka

TOPICS = Topics()
LOG = Partition(TOPICS.control_schemas, 0)


@contextmanager
def following(kafka: PatientKafka, *, ready: bool = True) -> Iterator[RegistryLog]:
    """Run a log until the block ends."""
    stop = threading.Event()
    log = RegistryLog(kafka, TOPICS)
    thread = threading.Thread(target=log.run, args=(stop,))
    thread.start()
    try:
        if ready:
            eventually(lambda: log.ready and log.writable)
        yield log
    finally:
        stop.set()
        thread.join(10)
    assert not log.ready


def register(log: RegistryLog, subject: str, schema: str) -> Version:
    """Register a schema that is expected to be taken."""
    outcome = log.append({"kind": "register", "subject": subject, "schema": schema})
    assert isinstance(outcome, Version)
    return outcome


def test_writers_on_several_instances_get_the_same_ids() -> None:
    """Thirty threads register ten schemas on three instances at once: each has one id, known to all of them."""
    kafka = PatientKafka()
    names = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"]
    schemas = [f'"{name}"' for name in names] + ['{"items":"int","type":"array"}', '{"type":"map","values":"int"}']
    got: list[tuple[str, int]] = []
    with ExitStack() as stack:
        logs = [stack.enter_context(following(kafka)) for _ in range(3)]
        threads = [
            threading.Thread(target=lambda log, s, n: got.append((s, register(log, f"s{n}", s).id)), args=(log, s, n))
            for n, s in enumerate(schemas)
            for log in logs
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(got) == 30
        assert len(set(got)) == 10
        assert sorted({number for _, number in got}) == list(range(1, 11))
        for log in logs:
            log.catch_up()
            with log.reading() as state:
                assert {(text, number) for number, text in state.schemas.items()} == set(got)


def test_a_refusal_of_the_fold_reaches_the_writer() -> None:
    """The verdict is the fold's own, with its code."""
    with following(PatientKafka()) as log, pytest.raises(RefusedError) as caught:
        register(log, "a", "nonsense")
    assert caught.value.code == 42201


def test_a_new_instance_reads_what_the_last_one_wrote() -> None:
    """A restart keeps ids."""
    kafka = PatientKafka()
    with following(kafka) as log:
        register(log, "a", '"int"'), register(log, "b", '"long"')
    with following(kafka) as log, log.reading() as state:
        assert state.schemas == {1: '"int"', 2: '"long"'}
        assert log.offset == 2


def test_records_of_others_on_the_log_stop_nothing() -> None:
    """Garbage is passed over by every instance alike."""
    kafka = PatientKafka()
    with following(kafka) as log:
        for value in (None, b"\x00garbage", b"[]"):
            kafka.producer().send(TOPICS.control_schemas, key=None, value=value)
        assert register(log, "a", '"int"').id == 1


def test_nothing_is_read_before_the_logs_end_was_reached() -> None:
    """A schema not read yet must not look unknown."""
    kafka = PatientKafka()
    kafka.away = True
    with following(kafka, ready=False) as log:
        with pytest.raises(KafkaUnavailableError), log.reading():
            pass
        kafka.away = False
        eventually(lambda: log.ready)
    with pytest.raises(KafkaUnavailableError), log.reading():
        pass


def test_reads_go_on_while_kafka_is_away_and_writes_resume_after_it() -> None:
    """What is in memory needs no Kafka; a write says to try again, and then works."""
    kafka = PatientKafka()
    with following(kafka) as log:
        register(log, "a", '"int"')
        kafka.away = True
        eventually(lambda: not log.writable or refuses(log))
        with log.reading() as state:
            assert state.schemas == {1: '"int"'}
        with pytest.raises(KafkaUnavailableError):
            log.catch_up()
        kafka.away = False
        eventually(lambda: log.writable)
        assert register(log, "a2", '"long"').id == 2


def refuses(log: RegistryLog) -> bool:
    """Tell whether a write is refused for now."""
    try:
        log.append({"kind": "level", "subject": None, "value": None})
    except KafkaUnavailableError:
        return True
    return False


def test_a_log_whose_beginning_is_gone_is_not_served() -> None:
    """Read without its beginning, it would give ids to other schemas."""

    kafka = PatientKafka()
    kafka.first = 3
    with following(kafka, ready=False) as log:
        eventually(lambda: kafka.closed >= 2, what="a first try to follow the log")
        assert not log.ready
        assert not log.writable
        kafka.first = 0
        eventually(lambda: log.ready)


def test_a_log_that_lost_records_is_written_no_more_and_still_read_from_memory() -> None:
    """An instance that remembers more than the log holds keeps answering and adds nothing to the damage."""
    kafka = PatientKafka()
    with following(kafka) as log:
        register(log, "a", '"int"'), register(log, "b", '"long"')
        kafka.away = True
        eventually(lambda: not log.writable or refuses(log))
        kafka.logs[LOG].clear()
        kafka.closed = 0
        kafka.away = False
        eventually(lambda: kafka.closed >= 4, what="two tries to follow the log")
        assert refuses(log)
        with log.reading() as state:
            assert state.schemas == {1: '"int"', 2: '"long"'}

"""What the Kafka client's errors are to the port."""

from __future__ import annotations

import pytest
from kafka.errors import LogTruncationError, NotCoordinatorError, OffsetOutOfRangeError

from services.runtime.embedded.ports import free_port
from services.runtime.errors import KafkaUnavailableError, OffTheLogError
from services.runtime.kafka.client import KafkaPython
from services.runtime.kafka.wrapping import wrapped
from services.runtime.settings import KafkaSettings


@pytest.mark.parametrize("error", [LogTruncationError({}), OffsetOutOfRangeError()])
def test_a_position_off_its_log_is_one_error_however_the_library_finds_it_out(error: Exception) -> None:
    """For an outage a reader only waits, and tells nobody that a log was made anew under it."""
    with pytest.raises(OffTheLogError), wrapped("poll"):
        raise error
    with pytest.raises(KafkaUnavailableError) as other, wrapped("poll"):
        raise NotCoordinatorError
    assert not isinstance(other.value, OffTheLogError)


def test_where_nobody_answers_it_is_told_where_and_what_to_do_with_the_librarys_words_kept() -> None:
    """A command prints it as it is; a process writes it to its log, where the library's words are looked for."""
    address = f"127.0.0.1:{free_port()}"
    kafka = KafkaPython(KafkaSettings(bootstrap_servers=address))
    kafka._base["bootstrap_timeout_ms"] = 50
    with pytest.raises(KafkaUnavailableError) as told:
        kafka.consumer(None)
    assert str(told.value).startswith(f"Kafka 在 {address} 没有应答：请核对设置 HONGYAN_KAFKA__BOOTSTRAP_SERVERS")
    assert "connect: KafkaTimeoutError" in str(told.value)

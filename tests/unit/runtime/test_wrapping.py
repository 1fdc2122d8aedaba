"""What the Kafka client's errors are to the port."""

from __future__ import annotations

import pytest
from kafka.errors import LogTruncationError, NotCoordinatorError, OffsetOutOfRangeError

from services.runtime.errors import KafkaUnavailableError, OffTheLogError
from services.runtime.kafka.wrapping import wrapped


@pytest.mark.parametrize("error", [LogTruncationError({}), OffsetOutOfRangeError()])
def test_a_position_off_its_log_is_one_error_however_the_library_finds_it_out(error: Exception) -> None:
    """For an outage a reader only waits, and tells nobody that a log was made anew under it."""
    with pytest.raises(OffTheLogError), wrapped("poll"):
        raise error
    with pytest.raises(KafkaUnavailableError) as other, wrapped("poll"):
        raise NotCoordinatorError
    assert not isinstance(other.value, OffTheLogError)

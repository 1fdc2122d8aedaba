"""How much a department may send: a bucket that fills, and what is owed beyond it."""

from __future__ import annotations

import pytest

from producers.gateway.limits import Bucket, RateLimits, TooManyEventsError
from services.runtime.settings import GatewaySettings
from services.subscriptions.control import Department
from tests.fakes.virtual_time import VirtualClock


def test_a_batch_larger_than_the_bucket_is_let_in_and_paid_for_afterwards() -> None:
    """It is slow, and not refused for ever: on the average the rate holds all the same."""
    clock = VirtualClock()
    limits = RateLimits(GatewaySettings(), clock)
    department = Department(id="d", name="d", source="urn:d", types=(), rate_per_s=10.0, burst=20)
    for _ in range(3):
        limits.take(department, 1)
        limits.owe(department, 99)
        with pytest.raises(TooManyEventsError) as caught:
            limits.take(department, 1)
        assert caught.value.retry_after_s in {9, 10}
        clock.seconds += caught.value.retry_after_s


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    """However long nobody sends."""
    bucket = Bucket(10.0, 20.0, 20.0, 0.0)
    assert bucket.take(20, 1000.0) == 0.0
    assert bucket.take(1, 1000.0) == pytest.approx(0.1)

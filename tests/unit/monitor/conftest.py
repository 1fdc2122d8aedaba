"""The cluster that the monitor's tests measure."""

from __future__ import annotations

import pytest

from tests.fakes.kafka import FakeKafka
from tests.lagging import cluster_with_one_agency


@pytest.fixture
def cluster() -> FakeKafka:
    """A cluster with one agency's topics."""
    return cluster_with_one_agency()

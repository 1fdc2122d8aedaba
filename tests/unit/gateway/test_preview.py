"""Who would receive an event: the gateway's answer is the router's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from producers.gateway.parsing import Parsed
from producers.gateway.preview import Preview
from producers.publishing import Publishing
from schemas.codec import Codec
from schemas.contracts import Contracts, load_contracts
from schemas.topics import Topics
from services.runtime.clock import SystemClock
from services.runtime.settings import GatewaySettings
from services.subscriptions.control import Agency, ControlView, Subscription
from tests.events import ISSUED
from tests.fakes.schemas import MemorySchemas

KNOWN = load_contracts().types


@pytest.mark.parametrize(("sharing", "receivers"), [("conditional", ["market"]), ("none", [])])
def test_a_type_that_is_not_shared_goes_to_nobody(sharing: str, receivers: list[str]) -> None:
    """不予共享: whatever was approved before, as in the router."""
    contract = KNOWN[ISSUED]
    entry = contract.catalogue.model_copy(update={"sharing": sharing})
    contracts = Contracts({ISSUED: replace(contract, catalogue=entry)})
    view = ControlView(
        agencies={"market": Agency("market", "market", "510000", "http://x", state="active")},
        subscriptions={"s": Subscription("s", "market", [ISSUED])},
        version=1,
    )
    schemas, clock = MemorySchemas(), SystemClock()
    publishing = Publishing(contracts, schemas, "http://r", Topics(), GatewaySettings(), clock)
    prepared = publishing.prepare({"id": "1", "source": "urn:a", "type": ISSUED}, contract.sample)
    answer = Preview(view, Codec(schemas).decode, contracts, clock).answer([Parsed({"id": "1"}, {})], [prepared])
    assert [one["agency"] for one in answer["events"][0]["receivers"]] == receivers

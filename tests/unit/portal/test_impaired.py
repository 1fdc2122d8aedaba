"""Grants that name what a later schema has taken away: told once, and closed when they are mended or have ended."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.portal.impaired import ImpairedGrants
from services.runtime.alerts import Alert
from services.runtime.kafka.port import Partition
from tests.events import ISSUED
from tests.fakes.kafka import FakeKafka
from tests.fakes.virtual_time import VirtualClock
from tests.unit.portal.test_grant_contents import later

TOPICS = Topics()
GRANT: dict[str, Any] = {"agency": "market", "types": [ISSUED], "filters": [], "version": 1, "state": "active"}
NAMED = {**GRANT, "id": "named", "fields": {"levels": ["public"], "mask": ["contact_name"]}}


@pytest.fixture
def kafka() -> FakeKafka:
    """A Kafka with the alerts' topic."""
    made = FakeKafka()
    made.admin().ensure_topics([TOPICS.alerts_spec()])
    return made


def alerts(kafka: FakeKafka) -> list[tuple[str, str, str]]:
    """Return subject, grant and state of every alert."""
    found = [Alert.from_bytes(record.value) for record in kafka.logs[Partition(TOPICS.alerts, 0)]]
    return [(one.subject, one.labels["subscription"], one.state) for one in found]


def test_each_impaired_grant_is_told_of_once_by_name(kafka: FakeKafka) -> None:
    """Also over a restart; one that names nothing that is gone, a draft, and one that has ended are not."""
    rows = [
        NAMED,
        {**GRANT, "id": "filtered", "agency": "b", "fields": None, "filters": [{"cel": "data.contact_name != ''"}]},
        {**GRANT, "id": "whole", "fields": None},
        {**NAMED, "id": "draft", "state": "draft"},
        {**NAMED, "id": "over", "state": "expired"},
    ]
    told = [("b", "filtered", "open"), ("market", "named", "open")]
    for _ in range(2):
        watch = ImpairedGrants(lambda: rows, later(), kafka, TOPICS, VirtualClock())
        known = watch.told()
        watch.look(kafka.producer(), known)
        watch.look(kafka.producer(), known)
        assert alerts(kafka) == told
    detail = Alert.from_bytes(kafka.logs[Partition(TOPICS.alerts, 0)][1].value).detail
    assert detail.startswith("named: /fields/mask/0: ")
    assert "contact_name" in detail


@pytest.mark.parametrize("how", ["terminated", "mended", "given back"])
def test_an_alert_is_closed_when_nothing_is_wrong_any_more(kafka: FakeKafka, how: str) -> None:
    """The grant has ended, another version names what is there, or the schema has the field again."""
    watch = ImpairedGrants(lambda: [NAMED], later(), kafka, TOPICS, VirtualClock())
    watch.look(kafka.producer(), watch.told())
    row = {
        "terminated": {**NAMED, "state": "terminated", "version": 2},
        "mended": {**NAMED, "fields": None, "version": 2},
        "given back": NAMED,
    }[how]
    contracts = load_contracts() if how == "given back" else later()
    again = ImpairedGrants(lambda: [row], contracts, kafka, TOPICS, VirtualClock())
    again.look(kafka.producer(), again.told())
    assert alerts(kafka) == [("market", "named", "open"), ("market", "named", "closed")]

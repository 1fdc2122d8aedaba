"""Explaining and trying on the real logs: what was withheld, as it was then, past retention, and no oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kafka import TopicPartition

from schemas.topics import EVENT_PARTITIONS
from services.runtime.kafka.port import Admin, Kafka
from services.runtime.settings import Settings
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.events import CORRECTED, ISSUED, REVOKED, TestEvents, document, read_all
from tests.portal import LAW, Portal, start_portal
from tests.processes import Processes

pytestmark = pytest.mark.servers
PERIOD = {"from": "2025-01-01", "to": "2027-01-01"}
TYPES = [ISSUED, CORRECTED, REVOKED]


@pytest.fixture
def portal(installation: Settings, processes: Processes) -> Portal:
    """A portal with an agency and a department, and a router."""
    found = start_portal(installation, processes)
    found.agency("market")
    found.department("health", TYPES)
    processes.start("router", installation)
    return found


@pytest.fixture
def routed(kafka: Kafka, own: OwnTopics) -> Callable[[int], None]:
    """Waits until so many events are on the ledger."""

    def wait(count: int) -> None:
        def enough() -> bool:
            found = [document(r) for r in read_all(kafka, own.ledger_routed, EVENT_PARTITIONS)]
            return sum("id" in entry for entry in found) >= count

        eventually(enough, 30, f"{count} events on the ledger")

    return wait


def test_nobody_learns_from_a_draft_what_fields_say_that_were_not_granted(
    portal: Portal, events: TestEvents, routed: Callable[[int], None]
) -> None:
    """An applicant's filter on a name is an oracle for it; the data's owner alone has it tried on whole data."""
    events.publish(*(events.certificate(f"e{n}", n, contact_name="张三丰" if n < 3 else "李四") for n in range(8)))
    routed(8)
    grant = {"agency": "market", "types": [ISSUED], **LAW, "by": "market-zhang"}
    hidden = {"cel": "data.contact_name == '张三丰'"}
    name = portal.done("/v1/subscriptions", {**grant, "filters": [hidden]})["id"]
    tried = f"/v1/subscriptions/{name}/dry-run"
    zhang, li = portal.keys["market-zhang"], portal.keys["health-li"]
    for key in (zhang, None):
        found = portal.done(tried, PERIOD, **({"key": key} if key else {}))
        assert (found["matched"], found["failed"], found["public_only"]) == (0, 8, True)
    assert portal.ask(tried, {**PERIOD, "samples": 1}, key=zhang)[0] == 403
    owners = portal.done(tried, {**PERIOD, "samples": 1}, key=li)
    assert (owners["matched"], owners["failed"], owners["public_only"]) == (3, 0, False)
    asked = "/v1/explain?event=e1&agency=market"
    assert [one["matches"] for one in portal.done(asked, key=zhang)["now"]] == [False]
    assert "failed" in portal.done(asked, key=zhang)["now"][0]["filters"][0]
    assert portal.done(asked, key=li)["now"][0]["filters"][0]["holds"] is True
    assert (
        "只看公开字段"
        in portal.command(
            "subscription", "dry-run", name, "--from", "2025-01-01", "--to", "2027-01-01", "--by", "market-zhang"
        ).stdout
    )
    # Ended before anyone has approved it, it is no oracle either.
    portal.done(f"/v1/subscriptions/{name}/terminate", {"reason": "r", "by": "market-zhang"})
    assert portal.done(tried, PERIOD, key=zhang)["matched"] == 0


def test_a_dry_run_passes_over_what_is_no_event_and_counts_as_the_router_does(
    portal: Portal, own: OwnTopics, events: TestEvents, routed: Callable[[int], None]
) -> None:
    """Poison is counted, a repetition is not, and follow-ups on what would have been given are."""
    certificate = events.certificate("e1", 1)
    topic = own.events("health")
    events.publish(certificate, certificate, events.certificate("e2", 2))
    events.publish(events.certificate("c1", 1, CORRECTED), events.certificate("c9", 9, CORRECTED))
    headers = {name: value.decode() for name, value in certificate.headers}
    events.publish_raw(topic, b"poison")
    events.publish_raw(topic, b"\0\0\0\0\x63junk", certificate.key, headers | {"ce_id": "no-schema"})
    events.publish_raw(topic, (certificate.value or b"")[:9], certificate.key, headers | {"ce_id": "cut-short"})
    routed(8)
    grant = {"agency": "market", "types": [ISSUED], **LAW, "by": "market-zhang"}
    name = portal.done("/v1/subscriptions", {**grant, "filters": [{"cel": "data.beds > 0"}]})["id"]
    found = portal.done(f"/v1/subscriptions/{name}/dry-run", {**PERIOD, "by": "health-li"})
    assert (found["matched"], found["follow_ups"], found["unreadable"]) == (3, 1, 3)
    assert found["types"] == {CORRECTED: 1, ISSUED: 2}


def test_an_event_is_explained_as_it_was_then_withheld_and_past_its_keeping(
    portal: Portal, own: OwnTopics, admin: Admin, events: TestEvents, routed: Callable[[int], None]
) -> None:
    """Delivered under a grant that was suspended since; withheld from a backfill; known to the ledger alone."""
    first = portal.grant("market", "health", [ISSUED], filters=[{"exact": {"division": "510100"}}])
    city = {"reviewer_division": "510100", "reviewer_level": "city"}
    here, there = events.certificate("here", 1, **city), events.certificate("there", 2)
    events.publish(here, there, events.certificate("r2", 2, REVOKED))
    routed(3)
    portal.done(f"/v1/subscriptions/{first}/suspend", {"reason": "r"})
    second = portal.grant("market", "health", [ISSUED], backfill_from="2025-01-01T00:00:00+08:00")
    eventually(lambda: portal.done(f"/v1/subscriptions/{second}")["backfill"]["done"], 60)

    def explained(event: str) -> dict[str, Any]:
        found: dict[str, Any] = portal.done(f"/v1/explain?event={event}&agency=market")
        return found

    def matches(found: list[dict[str, Any]]) -> dict[str, bool]:
        return {one["subscription"]: one["matches"] for one in found}

    given, withheld = explained("here"), explained("there")
    assert given["got"][0]["versions"].keys() == {first}
    assert matches(given["then"]) == {first: True}
    assert matches(given["now"]) == {first: False, second: True}
    assert (withheld["got"], withheld["original"]) == ([], True)
    (kept_back,) = withheld["withheld"]
    assert (kept_back["subscription"], "ended" in kept_back["reason"]) == (second, True)
    assert matches(withheld["then"]) == {first: False}
    assert explained("r2")["original"] is False
    assert f"withheld): {second}" in portal.command("explain", "there", "market").stdout

    place = given["event"]
    partition = TopicPartition(place["topic"], place["partition"])
    admin.client.delete_records({partition: place["offset"] + 1})  # type: ignore[attr-defined]
    gone = eventually(lambda: not (found := explained("here"))["kept"] and found)
    assert (gone["verdict"], gone["got"], gone["now"]) == ("routed", given["got"], [])
    assert "只凭台账" in portal.command("explain", "here", "market").stdout

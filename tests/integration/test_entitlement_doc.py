"""docs/entitlement.md, run as it is written: a draft is tried over December, approved, backfilled and revoked."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from schemas.codec import Codec
from schemas.registry_client import RegistryClient
from schemas.topics import EVENT_PARTITIONS
from services.runtime.kafka.port import Kafka
from services.runtime.settings import Settings
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.events import REVOKED, TestEvents, attribute, document, read_all
from tests.portal import start_portal
from tests.processes import Processes

PAGE = (Path(__file__).parents[2] / "docs" / "entitlement.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```sh run\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
CITY = {"reviewer_division": "510100", "reviewer_level": "city", "contact_name": "张三丰"}


@pytest.mark.servers
def test_the_page_as_written_takes_a_grant_from_draft_to_its_end(
    own: OwnTopics,
    kafka: Kafka,
    installation: Settings,
    processes: Processes,
    events: TestEvents,
) -> None:
    """December is tried before anyone approves it; then it is delivered, explained, followed up, and stopped."""
    portal = start_portal(installation, processes)
    for process in ("router", "ledger"):
        processes.start(process, installation)
    december = [
        events.certificate(f"e{n}", n, issued_on=f"2025-12-{1 + n % 31:02d}", valid_from="2026-01-01", **CITY)
        for n in range(40)
    ]
    november = events.certificate("november", 77, issued_on="2025-11-30", valid_from="2026-01-01", **CITY)
    elsewhere = events.certificate("elsewhere", 78, issued_on="2025-12-02")
    events.publish(*december, november, elsewhere, events.certificate("r3", 3, REVOKED))
    name = ""

    def run(command: str) -> str:
        words = [{"SUB": name, "EVENT": "e5"}.get(word, word) for word in shlex.split(command)[1:]]
        done = portal.command(*words)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    said: dict[str, str] = {}
    for command in COMMANDS:
        words = shlex.split(command)
        if "explain" in command:
            eventually(lambda: "100.0%" in run("hongyan subscription show SUB"), 60)
        if "follow-ups" in command:
            events.publish(events.certificate("r5", 5, REVOKED))
            eventually(lambda: "r5" in run("hongyan follow-ups"), 20)
        said[words[2] if words[1] == "subscription" else words[1]] = run(command)
        if "draft" in command:
            name = said["draft"].split()[0]

    assert "会收到 41 个（后续 1 个）；其中已终止、补送时不送 1 个" in said["dry-run"]
    assert "张**" in said["dry-run"]
    assert "张三丰" not in said["dry-run"]
    got = read_all(kafka, own.feed("market"), 1)
    codec = Codec(RegistryClient(installation.registry.url))
    backfilled = {f"e{n}" for n in range(40)} - {"e3"}
    assert sorted(attribute(record, "ce_id") for record in got) == sorted({*backfilled, "r5"})
    assert {codec.decode(r.value).data["contact_name"] for r in got if attribute(r, "ce_id") != "r5"} == {"张**"}
    assert "✓ division" in said["explain"]
    assert "有权，已入队 (entitled, queued): backfilled" in said["explain"]
    assert "尚未送达 (not delivered yet)" in said["explain"]
    assert "contact_name: mask" in said["explain"]
    assert "terminated" in said["terminate"]
    events.publish(events.certificate("after", 99, **CITY), events.certificate("r6", 6, REVOKED))
    ledger = [e for e in _ledger(kafka, own) if e["id"] in {"after", "r6"}]
    assert {e["id"]: (e["agencies"], e["follow_up"]) for e in ledger} == {"after": ({}, []), "r6": ({}, ["market"])}
    explained = json.loads(run("hongyan explain e3 market --json"))
    assert (explained["verdict"], explained["got"]) == ("routed", [])
    assert [one["subscription"] for one in explained["withheld"]] == [name]
    assert [right["right"] for right in explained["now"][0]["rights"] if not right["holds"]] == ["state"]


def _ledger(kafka: Kafka, own: OwnTopics) -> list[dict[str, object]]:
    def both() -> list[dict[str, object]] | None:
        found = [document(record) for record in read_all(kafka, own.ledger_routed, EVENT_PARTITIONS)]
        found = [entry for entry in found if "id" in entry]
        return found if {"after", "r6"} <= {entry["id"] for entry in found} else None

    return eventually(both, 20)

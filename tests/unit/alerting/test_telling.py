"""Who is told: by routes, each way once; an agency on its own feed; and of the end whoever knows of the beginning."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from consumers.alerter.telling import Telling
from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.alerting.feed import RAISED, Feed
from services.alerting.groups import Group, sent, take, telling
from services.runtime.alerts import Alert, AlertKind, Severity
from services.runtime.settings import AlertingSettings, DeliverySettings
from services.subscriptions.control import ControlView
from tests.fakes.kafka import FakeKafka

NOW = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
ROUTES = """
routes:
  - {name: all, mail: [all@example.org]}
  - {name: again, mail: [all@example.org]}
  - {name: grave, mail: [grave@example.org], severities: [critical]}
"""


def group(kind: AlertKind, subject: str = "market", severity: Severity | None = None) -> Group:
    """Return a trouble."""
    made = take(None, Alert(kind, subject, NOW.isoformat(), "detail", severity=severity), 1, NOW, 60)
    assert made is not None
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of routes."""
    found = tmp_path / "alerts.yaml"
    found.write_text(ROUTES, encoding="utf-8")
    return found


@pytest.fixture
def view() -> ControlView:
    """Two agencies, of which one takes alerts."""
    found = ControlView()
    for agency in ("market", "health"):
        found.apply(
            f"agency/{agency}", orjson.dumps({"id": agency, "name": "", "division": "", "sink": "", "keys": []})
        )
    grant = {"id": "g", "agency": "market", "types": [RAISED]}
    found.apply("subscription/g", orjson.dumps(grant))
    return found


@pytest.fixture
def told(file: Path, view: ControlView) -> Telling:
    """What is told to whom."""
    kafka, contracts, codec = FakeKafka(), load_contracts(), Codec(RegistryClient("http://127.0.0.1:9", 1.0))
    settings = AlertingSettings(routes=file, smtp_host="127.0.0.1")
    return Telling(
        settings, [], DeliverySettings(), view, lambda a: Feed(a, kafka.producer, Topics(), contracts, codec)
    )


def names(telling: Telling, one: Group) -> dict[str, str]:
    """Return the ways of a group, each with its manner."""
    return {way.name: manner for way, manner in telling.ways(one)}


def test_each_way_is_told_once_and_the_agency_on_its_feed(told: Telling) -> None:
    """At once, or afterwards where the feed itself is in trouble; who has no grant for alerts is told nothing."""
    assert names(told, group(AlertKind.GRANT_ENDING)) == {"mail:all@example.org": "repeating", "feed:market": "once"}
    held = names(told, group(AlertKind.LINE_HELD))
    assert held["feed:market"] == "afterwards"
    assert names(told, group(AlertKind.GRANT_ENDING, "health")) == {"mail:all@example.org": "repeating"}
    dead = names(told, group(AlertKind.DEAD_LETTERS, "router"))
    assert dead == {"mail:all@example.org": "repeating", "mail:grave@example.org": "repeating"}


def test_nobody_is_told_by_a_way_that_it_does_not_work(told: Telling) -> None:
    """The others are."""
    assert names(told, group(AlertKind.WAY_FAILING, "mail:all@example.org")) == {"mail:grave@example.org": "repeating"}


def test_whoever_was_told_while_it_was_grave_is_told_of_the_end_when_it_is_not(told: Telling) -> None:
    """Nothing in between."""
    grave, way = group(AlertKind.KEY_ENDING, "health", "critical"), "mail:grave@example.org"
    grave = sent(grave, way, telling(grave, way, "raised"), NOW)
    lesser = replace(grave, alerts=group(AlertKind.KEY_ENDING, "health", "warning").alerts)
    assert names(told, lesser)[way] == "ending"
    assert way not in names(told, group(AlertKind.KEY_ENDING, "health", "warning"))


def test_a_changed_file_is_read_again_and_a_bad_one_leaves_the_last_good_in_force(told: Telling, file: Path) -> None:
    """And says which field is wrong."""
    one = group(AlertKind.GROUP_TROUBLED, "router", "warning")
    assert names(told, one) == {"mail:all@example.org": "repeating"}
    file.write_text("routes: [{name: a, mail: [nobody]}]", encoding="utf-8")
    os.utime(file, (1, 1))
    assert names(told, one) == {"mail:all@example.org": "repeating"}
    assert "/routes/0/mail/0" in (told.trouble or "")
    file.write_text("routes: [{name: a, mail: [new@example.org]}]", encoding="utf-8")
    os.utime(file, (2, 2))
    assert names(told, one) == {"mail:new@example.org": "repeating"}
    assert told.trouble is None

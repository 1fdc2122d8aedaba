"""Of whom an administrator may want to hear nothing: somebody that there is."""

from __future__ import annotations

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from schemas.topics import Topics
from services.portal.alerts import Alerts, SilenceBody, alert_routes
from services.runtime.alerts import Alert, AlertKind
from services.runtime.errors import DatabaseUnavailableError, InvalidError
from services.runtime.probes import Health
from services.runtime.web import new_app
from tests.fakes.hand_clock import NOW, HandClock
from tests.fakes.kafka import FakeKafka

TOPICS = Topics()


def body(subject: str, kind: AlertKind | None = AlertKind.LINE_HELD) -> SilenceBody:
    """Return a silence that somebody wants."""
    return SilenceBody(kind=kind, subject=subject, hours=1, reason="检修")


def with_one_of_gone() -> Alerts:
    """Return the alerts of a cluster where one has ended, about an agency that there is no more."""
    kafka = FakeKafka()
    kafka.admin().ensure_topics([TOPICS.alerts_spec()])
    gone = Alert(AlertKind.LINE_HELD, "gone", NOW.isoformat(), "x", "closed")
    kafka.producer().send(TOPICS.alerts, key=gone.key.encode(), value=gone.to_bytes(), partition=0)
    return Alerts(kafka, TOPICS, HandClock())


def test_a_silence_about_nobody_is_refused_and_says_what_to_look_at() -> None:
    """A slip of the pen would let everybody be called all the same; an agency that was removed is on record."""
    alerts = with_one_of_gone()
    for subject in ("market", "gone", "router"):
        alerts.check_subject(body(subject), lambda: {"market"})
    alerts.check_subject(body("/srv/data", AlertKind.DISK_FILLING), lambda: {"market"})
    for kind in (AlertKind.LINE_HELD, None):
        with pytest.raises(InvalidError, match="没有叫 markte 的单位或部门"):
            alerts.check_subject(body("markte", kind), lambda: {"market"})


def test_while_the_database_is_away_a_silence_is_taken_as_it_is() -> None:
    """Somebody who mends it must be able to have his quiet."""

    def away() -> set[str]:
        raise DatabaseUnavailableError("away")

    Alerts(FakeKafka(), TOPICS, HandClock()).check_subject(body("markte"), away)


def test_the_alerts_of_an_agency_that_there_is_not_are_no_empty_list() -> None:
    """It would say that all is well with one whose name was mistyped."""
    alerts, router = with_one_of_gone(), APIRouter()
    alert_routes(router, alerts, lambda: {"market"})
    app = new_app("t", lambda: Health(ok=True), CollectorRegistry())
    app.include_router(router)
    with TestClient(app) as client:
        assert [client.get(f"/alerts?agency={name}").status_code for name in ("market", "gone")] == [200, 200]
        answer = client.get("/alerts?agency=markte")
    assert (answer.status_code, "没有叫 markte 的单位或部门" in answer.json()["detail"]) == (404, True)

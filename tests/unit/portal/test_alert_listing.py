"""Open alerts are listed before all that has ended, and none of them is left out, however many have ended since."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from schemas.topics import Topics
from services.portal.alerts import Alerts
from services.portal.web.alerts import KNOWN_ENDED, AlertBook, Counted
from services.portal.web.rendering import FOLDER, Statics, _environment
from services.portal.web.sides import Side
from services.runtime.alerts import Alert, AlertKind
from services.runtime.errors import KafkaUnavailableError
from tests.conditions import eventually
from tests.fakes.hand_clock import NOW, HandClock
from tests.fakes.kafka import FakeConsumer, FakeKafka

TOPICS = Topics()
ENDED = KNOWN_ENDED + 50


def raised(*alerts: Alert) -> Alerts:
    """Return the alerts of an installation in which these were raised, one after another."""
    kafka = FakeKafka()
    kafka.admin().ensure_topics([TOPICS.alerts_spec()])
    producer = kafka.producer()
    for one in alerts:
        producer.send(TOPICS.alerts, key=one.key.encode(), value=one.to_bytes(), partition=0)
    return Alerts(kafka, TOPICS, HandClock())


def alert(kind: AlertKind, subject: str, n: int = 0, state: str = "open") -> Alert:
    """Return an alert about the n-th event."""
    at = (NOW + timedelta(seconds=n)).isoformat()
    return Alert(kind, subject, at, "x", "closed" if state == "closed" else "open", {"event_id": f"e{n}"})


@pytest.fixture(scope="module")
def many() -> Alerts:
    """Two alerts that are open, and after them more that have ended than a page knows."""
    ended = [alert(AlertKind.EVENT_PARKED, "market", n, "closed") for n in range(ENDED)]
    return raised(alert(AlertKind.LINE_HELD, "market"), alert(AlertKind.DEAD_LETTERS, "router"), *ended)


class Nobody:
    """Agencies and lags of which nothing is known."""

    seen = None

    def agencies(self) -> Nobody:
        """Return none."""
        return self

    @property
    def value(self) -> dict[str, object]:
        """Return none."""
        return {}


def book(alerts: Alerts) -> AlertBook:
    """Return what the pages read."""
    return AlertBook(alerts, Nobody(), Nobody(), HandClock())  # type: ignore[arg-type]


def test_a_page_shows_what_is_open_before_all_that_has_ended(many: Alerts) -> None:
    """And tells that more have ended than it lists."""
    found = many.now(KNOWN_ENDED)
    assert [one.kind for one in found.alerts[:2]] == [AlertKind.DEAD_LETTERS, AlertKind.LINE_HELD]
    assert {one.state for one in found.alerts[2:]} == {"closed"}
    assert (len(found.alerts), found.more_ended) == (KNOWN_ENDED + 2, True)
    pages = book(many)
    assert [one.alert["kind"] for one in pages.of(Side(), found)] == ["dead-letters", "line-held"]
    assert [one.alert["kind"] for one in pages.of(Side(agency="market"), found)] == ["line-held"]


def test_a_terminal_lists_what_is_open_first_and_the_rest_by_pages(many: Alerts) -> None:
    """Page after page gives each once."""
    first = many.rows(everything=True, agency=None, limit=100)
    assert [row["state"] for row in first[:3]] == ["open", "open", "closed"]
    second = many.rows(everything=True, agency=None, limit=100, skip=100)
    last = many.rows(everything=True, agency=None, limit=100, skip=ENDED)
    assert not {row["key"] for row in first} & {row["key"] for row in second}
    assert len(last) == 2


def test_how_many_are_open_is_counted_as_the_page_of_alerts_lists_them(many: Alerts) -> None:
    """Alerts of one kind and subject are one; nobody waits for the first count, and others' are none of one's own."""
    parked = [alert(AlertKind.EVENT_PARKED, "market", n) for n in range(3)]
    pages = book(raised(alert(AlertKind.LINE_HELD, "tax"), *parked))
    eventually(lambda: pages.counted(None) is not None, 10, "counted")
    assert pages.counted(None) == Counted(len(pages.of(Side(), pages.held().value)), 1) == Counted(2, 1)
    assert (pages.counted("tax"), pages.counted("")) == (Counted(1, 0), Counted(0, 0))


def test_what_was_read_just_before_kafka_went_is_shown_with_its_time() -> None:
    """It is young, but nobody knows what has come since."""
    kafka, clock = FakeKafka(), HandClock()
    alerts = Alerts(kafka, TOPICS, clock)
    pages = AlertBook(alerts, Nobody(), Nobody(), clock, lambda: kafka.away)  # type: ignore[arg-type]
    assert pages.held().away == ""
    kafka.away = True
    assert "away" in pages.held().away
    kafka.away = False
    assert pages.held().away == ""


def test_alerts_that_kafka_owes_are_not_taken_for_none(many: Alerts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Kafka that goes while they are read gives no shorter list."""
    monkeypatch.setattr(FakeConsumer, "poll", lambda *_: {})
    with pytest.raises(KafkaUnavailableError):
        many.list(everything=False, agency=None, limit=10)


def test_the_count_is_read_anew_and_stands_while_kafka_is_away() -> None:
    """A page that is left open follows it, and reading anew leaves no thread behind each time."""
    before = set(threading.enumerate())
    kafka, clock = FakeKafka(), HandClock()
    kafka.admin().ensure_topics([TOPICS.alerts_spec()])
    pages = AlertBook(Alerts(kafka, TOPICS, clock), Nobody(), Nobody(), clock)  # type: ignore[arg-type]
    eventually(lambda: pages.counted(None) == Counted(0, 0), 10, "counted")
    one = alert(AlertKind.LINE_HELD, "tax")
    kafka.producer().send(TOPICS.alerts, key=one.key.encode(), value=one.to_bytes(), partition=0)

    def later() -> bool:
        clock.seconds += 10
        return pages.counted(None) == Counted(1, 0)

    eventually(later, 10, "counted anew")
    assert len(set(threading.enumerate()) - before) < 20


def test_the_navigation_says_how_many_are_open() -> None:
    """Red where one is critical; nothing where none is open, or none was counted yet."""
    template = _environment(Statics(FOLDER / "static"), HandClock()).get_template("alerts/_count.html")
    shown = template.render(language="en", alerts_open=Counted(2, 1))
    assert ("badge-bad" in shown, ">2<" in shown, "open" in shown) == (True, True, True)
    assert "badge-warn" in template.render(language="zh", alerts_open=Counted(2, 0))
    assert [template.render(language="zh", alerts_open=one).strip() for one in (None, Counted(0, 0))] == ["", ""]

"""Open alerts are listed before all that has ended, and none of them is left out, however many have ended since."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from schemas.topics import Topics
from services.portal.alerts import Alerts
from services.portal.open_alerts import OpenAlerts
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


def raised(*alerts: Alert) -> FakeKafka:
    """Return an installation's Kafka on which these were raised, one after another."""
    kafka = FakeKafka()
    kafka.admin().ensure_topics([TOPICS.alerts_spec()])
    producer = kafka.producer()
    for one in alerts:
        producer.send(TOPICS.alerts, key=one.key.encode(), value=one.to_bytes(), partition=0)
    return kafka


def alert(kind: AlertKind, subject: str, n: int = 0, state: str = "open") -> Alert:
    """Return an alert about the n-th event."""
    at = (NOW + timedelta(seconds=n)).isoformat()
    return Alert(kind, subject, at, "x", "closed" if state == "closed" else "open", {"event_id": f"e{n}"})


@pytest.fixture(scope="module")
def many() -> FakeKafka:
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


def book(kafka: FakeKafka, clock: HandClock | None = None, opened: OpenAlerts | None = None) -> AlertBook:
    """Return what the pages read."""
    clock = clock or HandClock()
    alerts, opened = Alerts(kafka, TOPICS, clock), opened or OpenAlerts(kafka, TOPICS, clock)
    return AlertBook(alerts, opened, Nobody(), Nobody(), clock, lambda: kafka.away)  # type: ignore[arg-type]


@contextmanager
def followed(kafka: FakeKafka, clock: HandClock) -> Iterator[AlertBook]:
    """Return the same while the open alerts are followed."""
    stop, opened = threading.Event(), OpenAlerts(kafka, TOPICS, clock)
    following = threading.Thread(target=opened.run, args=(stop,))
    following.start()
    try:
        yield book(kafka, clock, opened)
    finally:
        stop.set()
        following.join(10)


def test_a_page_shows_what_is_open_before_all_that_has_ended(many: FakeKafka) -> None:
    """And tells that more have ended than it lists."""
    found = book(many).alerts.now(KNOWN_ENDED)
    assert [one.kind for one in found.alerts[:2]] == [AlertKind.DEAD_LETTERS, AlertKind.LINE_HELD]
    assert {one.state for one in found.alerts[2:]} == {"closed"}
    assert (len(found.alerts), found.more_ended) == (KNOWN_ENDED + 2, True)
    pages = book(many)
    assert [one.alert["kind"] for one in pages.of(Side(), found)] == ["dead-letters", "line-held"]
    assert [one.alert["kind"] for one in pages.of(Side(agency="market"), found)] == ["line-held"]


def test_a_terminal_lists_what_is_open_first_and_the_rest_by_pages(many: FakeKafka) -> None:
    """Page after page gives each once."""
    first = book(many).alerts.rows(everything=True, agency=None, limit=100)
    assert [row["state"] for row in first[:3]] == ["open", "open", "closed"]
    second = book(many).alerts.rows(everything=True, agency=None, limit=100, skip=100)
    last = book(many).alerts.rows(everything=True, agency=None, limit=100, skip=ENDED)
    assert not {row["key"] for row in first} & {row["key"] for row in second}
    assert len(last) == 2


def test_how_many_are_open_is_counted_as_the_page_of_alerts_lists_them(many: FakeKafka) -> None:
    """Alerts of one kind and subject are one; nobody waits for the first count, and others' are none of one's own."""
    parked = [alert(AlertKind.EVENT_PARKED, "market", n) for n in range(3)]
    with followed(raised(alert(AlertKind.LINE_HELD, "tax"), *parked), HandClock()) as pages:
        eventually(lambda: pages.counted(None) is not None, 10, "counted")
        assert pages.counted(None) == Counted(len(pages.of(Side(), pages.held().value)), 1, NOW) == Counted(2, 1, NOW)
        assert (pages.counted("tax"), pages.counted("")) == (Counted(1, 0, NOW), Counted(0, 0, NOW))


def test_what_was_read_just_before_kafka_went_is_shown_with_its_time() -> None:
    """It is young, but nobody knows what has come since."""
    kafka = FakeKafka()
    pages = book(kafka)
    assert pages.held().away == ""
    kafka.away = True
    assert "away" in pages.held().away
    kafka.away = False
    assert pages.held().away == ""


def test_alerts_that_kafka_owes_are_not_taken_for_none(many: FakeKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Kafka that goes while they are read gives no shorter list."""
    monkeypatch.setattr(FakeConsumer, "poll", lambda *_: {})
    with pytest.raises(KafkaUnavailableError):
        book(many).alerts.list(everything=False, agency=None, limit=10)


def test_the_count_follows_over_one_client_and_stands_with_its_time_while_kafka_is_away() -> None:
    """Reading anew makes no client, neither does whoever asks for the count."""
    kafka, clock = FakeKafka(), HandClock()
    kafka.admin().ensure_topics([TOPICS.alerts_spec()])
    producer, one = kafka.producer(), alert(AlertKind.LINE_HELD, "tax")

    def counted(number: int) -> bool:
        clock.seconds += 3
        found = pages.counted(None)
        return found is not None and found.number == number

    with followed(kafka, clock) as pages:
        eventually(lambda: counted(0), 10, "counted")
        consumers = next(kafka._ids)
        for number in (1, 0, 1):
            shown = replace(one, state="open" if number else "closed")
            producer.send(TOPICS.alerts, key=one.key.encode(), value=shown.to_bytes(), partition=0)
            eventually(lambda: counted(number), 10, "counted anew")  # noqa: B023
        assert next(kafka._ids) == consumers + 1
        kafka.away = True
        left = clock.now()
        clock.seconds += 60
        old = pages.counted(None)
        assert old is not None
        assert (old.number, old.at <= left) == (1, True)
        kafka.away = False

        def young() -> bool:
            clock.seconds += 3
            found = pages.counted(None)
            return found is not None and found.at > left + timedelta(seconds=60)

        eventually(young, 20, "read again")


def test_the_navigation_says_how_many_are_open() -> None:
    """Red where one is critical; nothing where none is open, or none was counted yet."""
    template = _environment(Statics(FOLDER / "static"), HandClock()).get_template("alerts/_count.html")
    shown = template.render(language="en", now=NOW, alerts_open=Counted(2, 1, NOW))
    assert ("badge-bad" in shown, ">2<" in shown, "open" in shown) == (True, True, True)
    assert "badge-warn" in template.render(language="zh", now=NOW, alerts_open=Counted(2, 0, NOW))
    assert [template.render(language="zh", now=NOW, alerts_open=one).strip() for one in (None, Counted(0, 0, NOW))] == [
        "",
        "",
    ]


def test_an_old_count_says_of_when_it_is() -> None:
    """Also that nothing was open: something may be by now."""
    template = _environment(Statics(FOLDER / "static"), HandClock()).get_template("alerts/_count.html")
    later = NOW + timedelta(seconds=11)
    for number in (0, 2):
        shown = template.render(language="zh", now=later, alerts_open=Counted(number, 0, NOW))
        assert "截至 <time" in shown
        assert "截至" not in template.render(language="zh", now=NOW, alerts_open=Counted(number, 0, NOW))

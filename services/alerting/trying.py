"""A test message by each way that the routes name, and what came of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.alerting.messages import Notice
from services.alerting.routes import Routes
from services.alerting.ways import Hook, Mail, Way
from services.delivery.network import Network
from services.runtime.alerts import AlertKind
from services.runtime.settings import AlertingSettings, DeliverySettings

DETAIL = "这是一次测试，没有出任何问题 (a test: nothing is wrong)"


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one way of one route; ``trouble`` is None when the message went out."""

    route: str
    way: str
    trouble: str | None


def ways_of(
    routes: Routes, settings: AlertingSettings, networks: Sequence[Network], defaults: DeliverySettings
) -> Iterator[tuple[str, Way]]:
    """Yield every way of every route, with the route's name."""
    for route in routes.routes:
        for address in route.mail:
            yield route.name, Mail(settings, address)
        if route.webhook is not None:
            yield route.name, Hook(route.webhook, networks, defaults)


def test_notice(now: datetime) -> Notice:
    """Return the test message."""
    return Notice(
        id=f"alert-test-{int(now.timestamp() * 1000)}",
        reason="raised",
        kind=AlertKind.WAY_FAILING,
        subject="测试 (test)",
        severity="warning",
        number=1,
        opened_at=now,
        closed_at=None,
        size=1,
        details=(DETAIL,),
        episode=now.isoformat(),
    )


def tried(ways: Iterator[tuple[str, Way]], now: datetime) -> Iterator[Tried]:
    """Send the test message by each of these ways, and yield what came of it."""
    notice = test_notice(now)
    for route, way in ways:
        yield Tried(route, way.name, way.send(notice))

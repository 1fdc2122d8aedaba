"""Who is told of a group, by which ways: the routes' mails and webhooks, and the feed of the agency concerned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from services.alerting.feed import CLEARED, RAISED, Feed
from services.alerting.groups import Group, Manner, is_owed_the_end
from services.alerting.routes import NO_ROUTES, Route, Routes, read_routes
from services.alerting.ways import Hook, Mail, Way
from services.delivery.network import Network
from services.runtime.alerts import MEANINGS, AlertKind
from services.runtime.errors import HongyanError
from services.runtime.settings import AlertingSettings, DeliverySettings
from services.subscriptions.control import ControlView

log = structlog.get_logger()


class Telling:
    """Finds the ways. The file of routes is read again when it has changed; a bad one leaves the last good in force."""

    def __init__(
        self,
        settings: AlertingSettings,
        networks: Sequence[Network],
        defaults: DeliverySettings,
        view: ControlView,
        feed: Callable[[str], Feed],
    ) -> None:
        self.trouble: str | None = None
        self._settings = settings
        self._networks = networks
        self._defaults = defaults
        self._view = view
        self._feed = feed
        self._routes = NO_ROUTES
        self._read: float | None = None
        self._ways: dict[str, Sequence[Way]] = {}
        self._feeds: dict[str, Feed] = {}
        self._takers: tuple[int, set[str]] = (-1, set())

    def ways(self, group: Group) -> list[tuple[Way, Manner]]:
        """Return the ways of a group, each once, with the manner of telling."""
        found: dict[str, tuple[Way, Manner]] = {}
        for route in self._current().routes:
            manner: Manner = "repeating" if route.wants(group) else "ending"
            for way in self._of(route):
                if manner == "repeating" or (way.name not in found and is_owed_the_end(group, way.name)):
                    found[way.name] = (way, manner)
        told = MEANINGS[group.kind].agency
        if told != "never" and self._takes_alerts(group.subject):
            feed = self._feeds.get(group.subject) or self._feeds.setdefault(group.subject, self._feed(group.subject))
            found[feed.name] = (feed, "once" if told == "at once" else "afterwards")
        # Nobody is told by a way that it does not work.
        return [held for name, held in found.items() if (group.kind, group.subject) != (AlertKind.WAY_FAILING, name)]

    def _takes_alerts(self, subject: str) -> bool:
        """Tell whether this is an agency with a grant for alerts: only then are they published for it."""
        version = self._view.version
        if self._takers[0] != version:
            grants = list(self._view.subscriptions.values())
            types = {RAISED, CLEARED}
            takers = {one.agency for one in grants if one.state == "active" and not types.isdisjoint(one.types)}
            self._takers = version, takers & self._view.agencies.keys()
        return subject in self._takers[1]

    def _of(self, route: Route) -> Sequence[Way]:
        if route.name not in self._ways:
            mails = [Mail(self._settings, address) for address in route.mail]
            hooks = [Hook(route.webhook, self._networks, self._defaults)] if route.webhook else []
            self._ways[route.name] = [*mails, *hooks]
        return self._ways[route.name]

    def _current(self) -> Routes:
        file = self._settings.routes
        changed_at = _changed_at(file)
        if file is not None and (self._read is None or changed_at != self._read):
            self._read = changed_at
            try:
                self._routes, self.trouble = read_routes(file), None
                self._ways.clear()
            except HongyanError as error:
                self.trouble = str(error)
                log.error("routes_refused", file=str(file), error=str(error))
        return self._routes


def _changed_at(file: Path | None) -> float:
    try:
        return file.stat().st_mtime if file is not None else 0.0
    except OSError:
        return 0.0

"""Which pages there are, for whom, in the order of the navigation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from services.identity.people import Role
from services.portal.web.viewer import Viewer
from services.portal.web.wording import Text


def _everybody(_viewer: Viewer) -> bool:
    return True


def _has(*roles: Role) -> Callable[[Viewer], bool]:
    return lambda viewer: viewer.has(*roles)


def _concerned(viewer: Viewer) -> bool:
    """Tell who has a side of their own, or administers."""
    return viewer.administers or viewer.agency is not None or viewer.department is not None


def _receives(viewer: Viewer) -> bool:
    """Tell who puts parked events back: an agency's people, and who operates."""
    return viewer.agency is not None or viewer.has(Role.SYSTEM)


def _publishes(viewer: Viewer) -> bool:
    """Tell who corrects dead letters: a department's people, and who operates."""
    return viewer.department is not None or viewer.has(Role.SYSTEM)


@dataclass(frozen=True, slots=True)
class Entry:
    """A page of the navigation."""

    path: str
    label: Text
    shown: Callable[[Viewer], bool]

    def holds(self, path: str) -> bool:
        """Tell whether a path lies in this page's part of the site."""
        return path == self.path or (self.path != "/" and path.startswith(self.path + "/"))


NAV: Sequence[Entry] = (
    Entry("/", Text("总览"), _everybody),
    Entry("/events", Text("事件"), _concerned),
    Entry("/agencies", Text("接收单位"), _concerned),
    Entry("/subscriptions", Text("订阅授权"), _concerned),
    Entry("/parked", Text("停放"), _receives),
    Entry("/dead-letters", Text("死信"), _publishes),
    Entry("/alerts", Text("告警"), _concerned),
    Entry("/catalogue", Text("目录"), _everybody),
    Entry("/month", Text("月报"), _has(Role.STATISTICIAN, Role.SYSTEM, Role.AUDIT)),
    Entry("/people", Text("人员"), _has(Role.SECURITY)),
    Entry("/audit", Text("审计"), _has(Role.AUDIT)),
)


def entries(viewer: Viewer, existing: Collection[str]) -> list[Entry]:
    """Return what a viewer may go to, of the pages that exist."""
    return [entry for entry in NAV if entry.path in existing and entry.shown(viewer)]

"""Who receives: agencies of the control view with their opened secrets, and why one's line is held by decision."""

from __future__ import annotations

from collections.abc import Collection

import structlog

from consumers.pusher.line import Receiver
from services.runtime.errors import ForbiddenError
from services.subscriptions.control import Agency
from services.subscriptions.follower import ControlFollower
from services.subscriptions.sealing import Sealer

log = structlog.get_logger()


class Receivers:
    """Reads the follower's view; a secret is opened once a version."""

    def __init__(self, follower: ControlFollower, sealer: Sealer) -> None:
        self._view = follower.view
        self._sealer = sealer
        self._opened: dict[str, str] = {}

    def version(self) -> int:
        """Return the configuration's version."""
        return self._view.version

    def agencies(self) -> Collection[str]:
        """Return all agencies, suspended ones too: their feeds are read by nobody else."""
        return list(self._view.agencies)

    def get(self, agency: str) -> Receiver | None:
        """Return where an agency's events go now, None for an unknown one."""
        found = self._view.agencies.get(agency)
        if found is None:
            return None
        try:
            secret = self._secret(found)
        except ForbiddenError as error:
            return Receiver(agency, found.sink, (), str(error))
        return Receiver(agency, found.sink, (secret,), self._held(found))

    def _held(self, agency: Agency) -> str | None:
        if agency.state != "active":
            return "接收单位已暂停 (the agency is suspended)"
        states = [s.state for s in list(self._view.subscriptions.values()) if s.agency == agency.id]
        if states and "active" not in states:
            return "没有生效的订阅 (no active subscription)"
        return None

    def _secret(self, agency: Agency) -> str:
        if agency.secret not in self._opened:
            self._opened[agency.secret] = self._sealer.open(agency.secret)
        return self._opened[agency.secret]

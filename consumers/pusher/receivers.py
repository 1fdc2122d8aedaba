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
        """Return the agencies whose feeds are pushed, suspended ones too: their feeds are read by nobody else."""
        return [agency for agency in list(self._view.agencies) if self._view.channel(agency) == "webhook"]

    def may_have_moved(self, agency: str) -> bool:
        """Tell whether another channel may have moved the agency's cursor."""
        return agency in self._view.access

    def get(self, agency: str) -> Receiver | None:
        """Return where an agency's events go now, None for an unknown one."""
        found = self._view.agencies.get(agency)
        if found is None:
            return None
        try:
            secret = self._secret(found)
        except ForbiddenError as error:
            return Receiver(agency, found.sink, (), str(error))
        return Receiver(agency, found.sink, (secret,), self._view.held(agency))

    def _secret(self, agency: Agency) -> str:
        if agency.secret not in self._opened:
            self._opened[agency.secret] = self._sealer.open(agency.secret)
        return self._opened[agency.secret]

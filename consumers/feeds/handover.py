"""Sees to cursors of feeds that are not pushed: sets them at first, and keeps Kafka from forgetting them."""

from __future__ import annotations

import structlog

from services.delivery.cursors import Cursors
from services.runtime.errors import ConflictError, UnavailableError
from services.subscriptions.control import ControlView

log = structlog.get_logger()


class Handover:
    """Looks at the agencies whose channel is Kafka; each change of access is settled once."""

    def __init__(self, view: ControlView, cursors: Cursors) -> None:
        self._view = view
        self._cursors = cursors
        self._settled: dict[str, int] = {}

    def settle(self) -> None:
        """Let each such agency's group begin where the pusher ended; what can't be done now is done next time."""
        for agency, access in list(self._view.access.items()):
            if access.channel != "kafka":
                self._settled.pop(agency, None)
            elif self._settled.get(agency) != access.version:
                self._settle(agency, access.version)

    def _settle(self, agency: str, version: int) -> None:
        try:
            self._cursors.begin_own(agency)
        except ConflictError as error:
            log.warning("own_cursor_kept", agency=agency, error=str(error))
        except UnavailableError as error:
            log.debug("handover_awaited", agency=agency, error=str(error))
            return
        self._settled[agency] = version


def renew(cursors: Cursors, view: ControlView) -> None:
    """Commit the cursors of agencies that are not pushed to again; what fails now is done the next time."""
    for agency, access in list(view.access.items()):
        if access.channel == "webhook":
            continue  # the pusher sees to these
        try:
            cursors.renew(agency)
        except ConflictError as error:
            log.debug("cursor_in_use", agency=agency, error=str(error))
        except UnavailableError as error:
            log.warning("cursor_not_renewed", agency=agency, error=str(error))

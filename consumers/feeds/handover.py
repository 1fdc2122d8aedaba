"""Sets the cursors of agencies that read Kafka themselves, as soon as their feeds are no longer pushed."""

from __future__ import annotations

import structlog

from consumers.runner.cursors import Cursors
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

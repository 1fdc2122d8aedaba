"""Keeps Kafka from forgetting the cursors of feeds that are not pushed."""

from __future__ import annotations

import structlog

from services.delivery.cursors import Cursors
from services.runtime.errors import ConflictError, UnavailableError
from services.subscriptions.control import ControlView

log = structlog.get_logger()


def renew(cursors: Cursors, view: ControlView) -> None:
    """Commit the cursors of agencies that are not pushed to again; what fails now is done the next time."""
    for agency, access in list(view.access.items()):
        if access.channel == "webhook":
            continue  # the pusher sees to these
        try:
            cursors.renew(agency, direct=access.channel == "kafka")
        except ConflictError as error:
            log.debug("cursor_in_use", agency=agency, error=str(error))
        except UnavailableError as error:
            log.warning("cursor_not_renewed", agency=agency, error=str(error))

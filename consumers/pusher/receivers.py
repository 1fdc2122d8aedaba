"""Who receives: agencies of the control view with their opened keys, and why one's line is held by decision."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import structlog

from schemas.topics import PROBE_AGENCY
from services.delivery.profile import profile_of
from services.delivery.receiver import Receiver, receiver_of
from services.runtime.errors import HongyanError
from services.runtime.settings import DeliverySettings
from services.subscriptions.control import Agency, ParkOrder
from services.subscriptions.follower import ControlFollower
from services.subscriptions.sealing import Sealer
from services.subscriptions.stopping import Stops

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _By:
    """What a receiver was made by."""

    agency: Agency
    held: str | None
    stops: Mapping[str, str]
    parks: Mapping[int, ParkOrder]


class Receivers:
    """Reads the follower's view; what is sealed is opened once a version.

    The probe's receiver is at ``probe_sink``, whatever its record says: no allow-list is asked for that address, so it
    is a setting's and nobody else's to name.
    """

    def __init__(self, follower: ControlFollower, sealer: Sealer, defaults: DeliverySettings, probe_sink: str) -> None:
        self._probe_sink = probe_sink
        self._view = follower.view
        self._sealer = sealer
        self._defaults = defaults
        self._stops = Stops(follower.view)
        self._opened: dict[str, tuple[_By, Receiver]] = {}

    def version(self) -> int:
        """Return the configuration's version."""
        return self._view.version

    def agencies(self) -> Collection[str]:
        """Return the agencies whose feeds are pushed, suspended ones too: their feeds are read by nobody else."""
        return [agency for agency in list(self._view.agencies) if self._view.channel(agency) == "webhook"]

    def others(self) -> Collection[str]:
        """Return the agencies that take their feeds by another channel."""
        return [agency for agency in list(self._view.agencies) if self._view.channel(agency) != "webhook"]

    def may_have_moved(self, agency: str) -> bool:
        """Tell whether another channel may have moved the agency's cursor."""
        return agency in self._view.access

    def get(self, agency: str) -> Receiver | None:
        """Return where an agency's events go now, None for an unknown one."""
        found = self._view.agencies.get(agency)
        if found is None:
            return None
        if agency == PROBE_AGENCY:
            found = replace(found, sink=self._probe_sink)
        by = _By(found, self._held(found), self._stops.of(agency), self._view.parks.get(agency, {}))
        known = self._opened.get(agency)
        if known is None or known[0] != by:
            known = self._opened[agency] = by, replace(self._open(found, by.held), stops=by.stops, parks=by.parks)
        return known[1]

    def _open(self, agency: Agency, held: str | None) -> Receiver:
        try:
            return receiver_of(agency, self._defaults, self._sealer, held)
        except HongyanError as error:
            log.error("receiver_unusable", agency=agency.id, error=str(error))
            usual = profile_of({}, self._defaults, self._sealer.open)
            return Receiver(agency.id, agency.sink, (), usual, str(error), unusable=True)

    def _held(self, agency: Agency) -> str | None:
        if agency.state == "active" and not agency.verified:
            return f"接收端尚未验证：hongyan agency verify {agency.id} (the webhook is not verified yet)"
        return self._view.held(agency.id)

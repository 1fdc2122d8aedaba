"""Where an agency's events go now: its address, the keys that are live, and how it wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from services.delivery.profile import Profile, profile_of
from services.runtime.settings import DeliverySettings
from services.subscriptions.control import Agency, ParkOrder
from services.subscriptions.sealing import Sealer

PROBE_PATH = "/v1/probe"
"""Where the monitor takes in its own probe."""


@dataclass(frozen=True, slots=True)
class LiveKey:
    """An opened signing key and when it ends by itself."""

    secret: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Receiver:
    """An agency's receiver; ``held`` says why its events wait: a decision, no verification yet, settings unusable.

    ``stops`` are the grants that were stopped, whose events do not go out, each with what is said of it; ``parks`` are
    the cursors of events that somebody wants parked.
    """

    agency: str
    sink: str
    keys: Sequence[LiveKey]
    profile: Profile
    held: str | None = None
    unusable: bool = False
    stops: Mapping[str, str] = field(default_factory=dict)
    parks: Mapping[int, ParkOrder] = field(default_factory=dict)

    def secrets(self, now: datetime) -> list[str]:
        """Return the keys that sign at this moment."""
        return [key.secret for key in self.keys if key.expires_at is None or key.expires_at > now]


def receiver_of(agency: Agency, defaults: DeliverySettings, sealer: Sealer, held: str | None = None) -> Receiver:
    """Return an agency's receiver; raises ForbiddenError when something was sealed with another master key."""
    keys = [LiveKey(sealer.open(key.sealed), key.expires_at) for key in agency.keys]
    return Receiver(agency.id, agency.sink, tuple(keys), profile_of(agency.delivery, defaults, sealer.open), held)

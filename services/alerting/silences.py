"""Silences: of what people want to hear nothing, why, and until when; recorded with whoever asked for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from schemas.topics import DEADLETTER_STAGES
from services.runtime.alerts import OF_AGENCIES, AlertKind

LONGEST = timedelta(days=31)
"""A silence without a near end is a way to forget."""
OF_PARTIES = OF_AGENCIES | {AlertKind.KEY_ENDING, AlertKind.LAG_BURNING, None}
"""Kinds, or none, whose subject is an agency, a department, or one of these names; the others name what they please."""
NAMES = frozenset({"hongyan", "kafka", "postgresql", "monitor", *DEADLETTER_STAGES})


@dataclass(frozen=True, slots=True)
class Silence:
    """``kind`` and ``subject`` say what of; None for all. ``ended_by`` ended it before its time. Times are RFC 3339."""

    id: str
    kind: AlertKind | None
    subject: str | None
    until: str
    reason: str
    by: str
    at: str
    ended_by: str | None = None
    ended_at: str | None = None

    def holds(self, kind: AlertKind, subject: str, now: datetime) -> bool:
        """Tell whether people hear nothing of this now."""
        return self.kind in {None, kind} and self.subject in {None, subject} and self.is_live(now)

    def is_live(self, now: datetime) -> bool:
        """Tell whether it has not ended yet."""
        return self.ended_at is None and now < datetime.fromisoformat(self.until)

    def ended(self, by: str, now: datetime) -> Silence:
        """Return it as it is once somebody has ended it."""
        return replace(self, ended_by=by, ended_at=now.isoformat())

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Silence:
        """Read it; raises TypeError, KeyError or ValueError."""
        kind = AlertKind(entry["kind"]) if entry["kind"] else None
        found = cls(**{**entry, "kind": kind})
        datetime.fromisoformat(found.until)
        return found


def silencing(silences: Iterable[Silence], kind: AlertKind, subject: str, now: datetime) -> Silence | None:
    """Return a silence that holds for this, None when people are told."""
    return next((one for one in silences if one.holds(kind, subject, now)), None)


def is_about_somebody(kind: AlertKind | None, subject: str, parties: Collection[str]) -> bool:
    """Tell whether there is somebody of this name, so that a silence about it is no slip of the pen."""
    return kind not in OF_PARTIES or subject in NAMES or subject in parties

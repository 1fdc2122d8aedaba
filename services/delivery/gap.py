"""Events of a feed that its log let go of before an agency had them: whoever finds that tells somebody."""

from __future__ import annotations

from dataclasses import dataclass

from services.runtime.alerts import Alert, AlertKind


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that the log let go of before they were delivered: from this offset up to, not including, that one."""

    start: int
    end: int

    def told(self) -> str:
        """Return what people are told."""
        return (
            f"游标 {self.start}，日志已从 {self.end} 起：其间的事件未送达就已过保留期，从 {self.end} 续推"
            f" (the cursor was at {self.start}, the log begins at {self.end}: what lay between is lost to this agency)"
        )

    def alert(self, agency: str, at: str) -> Alert:
        """Return what is told of it; told again, it is the same alert."""
        return Alert(AlertKind.FEED_GAP, agency, at, self.told(), labels={"from": str(self.start), "to": str(self.end)})

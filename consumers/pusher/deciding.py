"""What people decide of a feed whose cursor is not on its log: where to go on, and that a gap was seen to."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass, replace

from consumers.pusher.placing import NONE, Bounds, answer_to, astray_note
from schemas.topics import Topics
from services.delivery.cursors import undecided
from services.runtime.alerts import Alert, AlertKind, current
from services.runtime.clock import Clock
from services.runtime.errors import FieldProblem, InvalidError, NotFoundError
from services.runtime.kafka.port import Admin, Committed, Kafka, Partition
from services.runtime.kafka.scanning import scan

WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Feeds:
    """Asks and writes Kafka alone: the pusher of a feed takes a decision up by itself."""

    kafka: Kafka
    topics: Topics
    clock: Clock

    def go_on(self, agency: str, at: str) -> int:
        """Let an agency's line that is astray go on at ``first``, ``end`` or an offset, and return the offset.

        Raises NotFoundError where nothing waits for a decision, InvalidError for an offset that is not on the log,
        ConflictError while the agency's own clients are members of its group.
        """
        feed = Partition(self.topics.feed(agency), 0)
        with closing(self.kafka.admin()) as admin:
            pushed, own = self._both(admin, agency)
            # Whoever fills the agency's tables notes it beside the agency's own.
            note = astray_note(pushed) or astray_note(own)
            if note is None:
                raise NotFoundError(f"{agency} 的队列没有在等这一决定：hongyan lag (its feed waits for no decision)")
            offset = _offset(at, self._bounds(admin, feed))
            decided = {feed: Committed(offset, answer_to(note.held_since, pushed))}
            admin.set_group_offsets(self.topics.agency_group(agency), decided)
        return offset

    def seen(self, agency: str, reason: str) -> list[Alert]:
        """Close an agency's alerts of gaps, with the reason, and return them; that of a line still astray stays."""
        with closing(self.kafka.admin()) as admin:
            astray = undecided(*self._both(admin, agency))
        found = [
            one
            for one in self._open_alerts()
            if (one.kind, one.subject) == (AlertKind.FEED_GAP, agency) and (one.labels or not astray)
        ]
        with closing(self.kafka.producer(client_id="feed-seen")) as producer:
            for one in found:
                end = replace(one, state="closed", at=self.clock.now().isoformat(), detail=reason[:2000])
                producer.send(self.topics.alerts, key=end.key.encode(), value=end.to_bytes()).result(WAIT_S)
        return found

    def _both(self, admin: Admin, agency: str) -> tuple[Committed, Committed]:
        """Return the pusher's cursor and the agency's own, with their notes."""
        feed = Partition(self.topics.feed(agency), 0)
        groups = self.topics.group("pusher"), self.topics.agency_group(agency)
        pushed, own = (admin.group_offsets(group, [feed]).get(feed, NONE) for group in groups)
        return pushed, own

    def _bounds(self, admin: Admin, feed: Partition) -> Bounds:
        with closing(self.kafka.consumer(None, client_id="feed-bounds")) as reader:
            return Bounds(reader.beginning_offsets([feed])[feed], admin.log_ends([feed])[feed])

    def _open_alerts(self) -> list[Alert]:
        found = []
        for record in scan(self.kafka, [Partition(self.topics.alerts, 0)], client_id="feed-alerts"):
            with suppress(ValueError):  # what is no alert can't be open
                found.append(Alert.from_bytes(record.value))
        return [one for one in current(found) if one.state == "open"]


def _offset(at: str, bounds: Bounds) -> int:
    """Read where to go on."""
    named = {"first": bounds.first, "end": bounds.end}
    if at in named:
        return named[at]
    if not at.isdigit() or not bounds.first <= int(at) <= bounds.end:
        said = f"first、end 或 {bounds.first} 至 {bounds.end} 之间的游标 (first, end, or an offset between these)"
        raise InvalidError([FieldProblem("/at", said)])
    return int(at)

"""The alerter's round: take in what came, judge how things stand, and tell people. It goes on whatever is away."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import orjson
import structlog

from consumers.alerter.dispatch import Dispatch, Message, failing
from consumers.alerter.logs import Logs, Writing
from consumers.alerter.metrics import AlerterMetrics
from consumers.alerter.telling import Telling
from consumers.alerter.world import World
from schemas.topics import Topics
from services.alerting.book import Book, Judged
from services.alerting.burn import Ledger
from services.alerting.groups import Group, Told, due, failed, is_over, noted, rebased, sent, take, telling
from services.alerting.kept import ALERT, BURN, COUNTS, GROUP, POSITION, group_bytes
from services.alerting.messages import notice_of
from services.alerting.policy import FAILING_AFTER, Policy
from services.alerting.silences import silencing
from services.runtime.alerts import Alert, AlertKind
from services.runtime.clock import Clock

KEEP_COUNTS_S = 60.0

log = structlog.get_logger()


@dataclass(slots=True)
class State:
    """What the alerter knows; what of it must outlive the process is written as it changes."""

    groups: dict[str, Group]
    ledgers: dict[str, Ledger]
    position: int = 0


class Alerter:
    """Works in one thread; looks, Kafka and sending have their own and are never waited for."""

    def __init__(
        self,
        logs: Logs,
        topics: Topics,
        world: World,
        telling: Telling,
        policy: Policy,
        clock: Clock,
        metrics: AlerterMetrics,
        clear_s: float,
        sure: Callable[[], bool] = lambda: True,
    ) -> None:
        """``sure`` tells whether nobody else may be telling."""
        self.state = State({}, {})
        self.working = False
        self._logs = logs
        self._topics = topics
        self._world = world
        self._telling = telling
        self._policy = policy
        self._clock = clock
        self._metrics = metrics
        self._sure = sure
        self._book = Book(clear_s, policy.wait_s)
        self._dispatch = Dispatch()
        self._taken_up = False
        self._counts_at = 0.0
        self._changed_counts: set[str] = set()

    def open_groups(self) -> list[str]:
        """Return the names of the groups that are open."""
        return [name for name, group in list(self.state.groups.items()) if group.closed_at is None]

    def run(self, stop: threading.Event, period_s: float) -> None:
        """Work until ``stop``."""
        while not stop.is_set():
            self.round(self._clock.now())
            self.working = True
            stop.wait(period_s)
        self._dispatch.close()
        self._end_messages(self._clock.now())

    def round(self, now: datetime) -> None:
        """Do one round."""
        self._take_up()
        self._end_messages(now)
        self._take_alerts(now)
        if self._taken_up:
            self._world.look(self.state.ledgers, self._changed_counts, now)
        judged = self._world.judge(self._book.open, self.state.ledgers, now, whole=self._taken_up)
        self._judge_ways(judged, now)
        for alert in self._book.judge(judged, now):
            log.info("alert_changed", key=alert.key, state=alert.state, detail=alert.detail)
            self._apply(alert, None, now)
            self._logs.write(Writing(self._topics.alerts, alert.key, alert.to_bytes(), ours=True))
        if self._sure():
            self._tell(now)
        self._keep_counts()
        self._metrics.show(self.state.groups.values(), self._logs.unwritten())

    def _take_up(self) -> None:
        """Go on where an earlier process was, once everything it left is read."""
        if self._taken_up or not self._logs.ready.is_set():
            return
        kept = self._logs.kept
        self.state = State(kept.assembled() | self.state.groups, kept.ledgers | self.state.ledgers, kept.position)
        for group in self.state.groups.values():
            if group.closed_at is None:
                self._book.open |= group.alerts
        self._taken_up = True
        log.info("alerter_takenup", groups=len(self.state.groups), position=kept.position)

    def _take_alerts(self, now: datetime) -> None:
        """Take in what other processes have raised and closed."""
        if not self._taken_up:
            return
        position = self.state.position
        while self._logs.arrived:
            one = self._logs.arrived.popleft()
            self.state.position = max(self.state.position, one.offset + 1)
            if one.ours:
                group = self.state.groups.get(one.alert.group)
                if group is not None:
                    self._put(noted(group, one.offset))
            else:
                self._book.take(one.alert)
                self._apply(one.alert, one.offset, now)
        if self.state.position != position:
            self._keep(POSITION, orjson.dumps(self.state.position))

    def _apply(self, alert: Alert, offset: int | None, now: datetime) -> None:
        before = self.state.groups.get(alert.group)
        after = take(before, alert, offset, now, self._policy.settle_s)
        self._keep(f"{ALERT}{alert.key}", alert.to_bytes() if alert.state == "open" else None)
        if after is not None and after is not before:
            self._put(after)

    def _put(self, group: Group) -> None:
        self.state.groups[group.name] = group
        self._keep(f"{GROUP}{group.name}", group_bytes(group))

    def _keep(self, key: str, value: bytes | None, partition: int = 0) -> None:
        self._logs.write(Writing(self._topics.control_alerting, key, value, partition))

    def _judge_ways(self, judged: Judged, now: datetime) -> None:
        """A way that fails again and again is something that the others must tell."""
        held = {w.name for group in self.state.groups.values() for w, _ in self._telling.ways(group)}
        found = failing((group.told for group in self.state.groups.values()), FAILING_AFTER)
        judged.add(
            {AlertKind.WAY_FAILING},
            [
                Alert(AlertKind.WAY_FAILING, way, now.isoformat(), told.trouble)
                for way, told in found.items()
                if way in held
            ],
        )

    def _tell(self, now: datetime) -> None:
        silences = dict(self._logs.kept.silences).values()
        # First it is written what is told, then it is told: who goes on after a kill says it again under the same id.
        unwritten = self._logs.unwritten_keys()
        messages = []
        for name, held in list(self.state.groups.items()):
            group = rebased(held, now)
            if group is not held:
                self._put(group)
            silenced = silencing(silences, group.kind, group.subject, now) is not None
            ways = self._telling.ways(group)
            for way, manner in ways:
                told = group.told.get(way.name, Told())
                if self._dispatch.is_under_way(name, way.name) or f"{GROUP}{name}" in unwritten:
                    continue
                reason = due(group, told, self._policy, now, manner, silenced=silenced)
                if reason is not None:
                    notice = notice_of(group, way.name, reason)
                    messages.append(Message(name, way, reason, notice, telling(group, way.name, reason)))
            if is_over(group, (way.name for way, _ in ways), self._policy, now):
                del self.state.groups[name]
                self._keep(f"{GROUP}{name}", None)
        self._dispatch.send(messages)

    def _end_messages(self, now: datetime) -> None:
        for one in self._dispatch.ended():
            way = one.message.way.name
            self._metrics.sent.labels(way.partition(":")[0], "failed" if one.trouble else "sent").inc()
            group = self.state.groups.get(one.message.group)
            if group is None:
                continue
            if one.trouble is None:
                self._put(sent(group, way, one.message.told, now))
            else:
                self._put(failed(group, way, one.trouble, now))

    def _keep_counts(self) -> None:
        now = self._clock.monotonic()
        if now < self._counts_at or not self._taken_up:
            return
        self._counts_at = now + KEEP_COUNTS_S
        for subject in self._changed_counts:
            ledger = self.state.ledgers.get(subject)
            self._keep(f"{BURN}{subject}", orjson.dumps(ledger.to_json()) if ledger else None, COUNTS)
        self._changed_counts.clear()

"""How things stand, as far as it can be seen: gathers the looks, and has the rules judge what was seen."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from consumers.alerter.logs import Logs
from consumers.alerter.looking import Look, Trouble
from services.alerting import rules
from services.alerting.book import REMOVED, Judged
from services.alerting.burn import Ledger
from services.alerting.ends import Seen, ending, ends_of, shows_certificate
from services.alerting.rules import Away, FollowUp, Objective, Volume
from services.delivery.lag import Snapshot
from services.delivery.receiver import receiver_of
from services.runtime.alerts import Alert, AlertKind
from services.runtime.clock import Clock
from services.runtime.errors import HongyanError
from services.runtime.settings import AlertingSettings, DeliverySettings
from services.statistics.gaps import Gap
from services.subscriptions.control import Agency
from services.subscriptions.follower import ControlFollower
from services.subscriptions.sealing import Sealer

STALE_S = 15.0
"""A snapshot of the monitor that is older says nothing of now."""
OLD = "它给出的是旧的测量 (what it gives was measured too long ago)"
CAUGHT_UP_S = 0.0
DATABASE, MONITOR = "postgresql", "monitor"


@dataclass(frozen=True, slots=True)
class Looks:
    """What is looked at from threads of their own."""

    snapshot: Look[Snapshot]
    database: Look[int]
    follow_ups: Look[list[FollowUp]]
    certificates: Look[list[Seen]]
    gaps: Look[list[Gap]]

    def all(self) -> Sequence[Look[Snapshot] | Look[int] | Look[list[FollowUp]] | Look[list[Seen]] | Look[list[Gap]]]:
        """Return each of them."""
        return self.snapshot, self.database, self.follow_ups, self.certificates, self.gaps


class World:
    """Judges only what it sees now: a source that is away closes nothing that was told by it."""

    def __init__(
        self,
        logs: Logs,
        follower: ControlFollower,
        looks: Looks,
        sealer: Sealer,
        settings: AlertingSettings,
        defaults: DeliverySettings,
        data: Path,
        clock: Clock,
    ) -> None:
        self._logs = logs
        self._follower = follower
        self._looks = looks
        self._sealer = sealer
        self._settings = settings
        self._defaults = defaults
        self._data = data
        self._clock = clock
        self._goal = Objective(settings.slo_share, settings.slo_least, settings.behind_s)
        self._configured: tuple[int, dict[str, str], list[Agency]] = (-1, {}, [])
        self._counted: str = ""
        self._without_database: datetime | None = None
        self._without_kafka: datetime | None = None

    def look(self, ledgers: dict[str, Ledger], changed: set[str], now: datetime) -> None:
        """Count the newest snapshot's deliveries, once, and forget the agencies that were removed."""
        snapshot = self._looks.snapshot.found
        if snapshot is not None and snapshot.at != self._counted and self._logs.ready.is_set():
            self._counted = snapshot.at
            changed.update(rules.count(snapshot, ledgers, now))
        if self._follower.caught_up(CAUGHT_UP_S):
            gone = ledgers.keys() - {rules.EVERYBODY, *list(self._follower.view.agencies)}
            for agency in gone:
                del ledgers[agency]
            changed.update(gone)

    def judge(
        self, open_alerts: Mapping[str, Alert], ledgers: Mapping[str, Ledger], now: datetime, *, whole: bool
    ) -> Judged:
        """Return what is wrong; of what Kafka tells only when ``whole`` of it is known."""
        judged, settings = Judged(), self._settings
        judged.add({AlertKind.SERVER_AWAY}, rules.away(self._away(now), now))
        judged.add({AlertKind.LOOK_FAILING}, rules.failing(self._failing(now), now))
        seen, unseen = self._volumes()
        filling = rules.filling(seen, settings.disk_free_percent, settings.disk_urgent_percent, now)
        judged.add({AlertKind.DISK_FILLING}, rules.unseen(open_alerts.values(), AlertKind.DISK_FILLING, unseen))
        judged.add({AlertKind.DISK_FILLING}, filling)
        if whole:
            self._judge_snapshot(judged, open_alerts, ledgers, now)
            self._judge_logs(judged, now)
            self._judge_configuration(judged, open_alerts, now)
            follow_ups = self._looks.follow_ups.found
            if follow_ups is not None:
                judged.add({AlertKind.FOLLOW_UP_DUE}, rules.overdue(follow_ups, settings.follow_up_days, now))
            gaps = self._looks.gaps.found
            if gaps is not None:
                judged.add({AlertKind.FACTS_LOST}, rules.lost(gaps, now))
            self._end_with_agencies(judged, open_alerts)
        return judged

    def _judge_snapshot(
        self, judged: Judged, open_alerts: Mapping[str, Alert], ledgers: Mapping[str, Ledger], now: datetime
    ) -> None:
        snapshot = self._looks.snapshot.found
        if snapshot is None or snapshot.away_since is not None or _age_s(snapshot, now) > STALE_S:
            return
        lagging = {AlertKind.LAG_BURNING, AlertKind.AGENCY_BEHIND}
        judged.add(lagging, rules.lagging(snapshot, ledgers, self._goal, now))
        judged.add({AlertKind.LINE_HELD, AlertKind.AGENCY_GONE}, rules.held(snapshot, list(open_alerts.values()), now))
        judged.add({AlertKind.GROUP_TROUBLED}, rules.grouped(snapshot.groups, now))
        if snapshot.open_transactions is not None:
            judged.add({AlertKind.TRANSACTION_OPEN}, rules.unreadable(snapshot.open_transactions, now))
        judged.add({AlertKind.PROBE_FAILED}, rules.probed(snapshot.probe, now))

    def _judge_logs(self, judged: Judged, now: datetime) -> None:
        if self._kafka_silent_s() > self._settings.away_s:
            return
        judged.add({AlertKind.EVENT_PARKED, AlertKind.EVENT_UNDECODABLE}, rules.parked(self._logs.parked()))
        judged.add({AlertKind.DEAD_LETTERS}, rules.dead(self._logs.letters(), now))

    def _judge_configuration(self, judged: Judged, open_alerts: Mapping[str, Alert], now: datetime) -> None:
        if not self._follower.caught_up(CAUGHT_UP_S):
            return
        troubles, agencies = self._opened()
        judged.add({AlertKind.RECEIVER_UNUSABLE}, rules.unusable(agencies, troubles, now))
        failing = rules.policies_failing(open_alerts.values(), self._follower.view)
        judged.add({AlertKind.POLICY_FAILED}, failing)
        settings, view = self._settings, self._follower.view
        seen = self._looks.certificates.found or []
        unseen = {one.id for one in list(view.agencies.values()) if shows_certificate(one)} - {o.agency for o in seen}
        kept = rules.unseen(open_alerts.values(), AlertKind.CERTIFICATE_ENDING, unseen)
        judged.add({AlertKind.CERTIFICATE_ENDING}, kept)
        ends = ends_of(view, seen, self._sealer.open, now)
        kinds = {AlertKind.KEY_ENDING, AlertKind.GRANT_ENDING, AlertKind.CERTIFICATE_ENDING}
        judged.add(kinds, ending(ends, now, settings.ending_days, settings.ending_urgent_days))

    def _end_with_agencies(self, judged: Judged, open_alerts: Mapping[str, Alert]) -> None:
        """What is open about an agency that was removed has nobody who could see to it."""
        if self._follower.caught_up(CAUGHT_UP_S):
            known = [*open_alerts.values(), *judged.alerts.values()]
            judged.end(rules.without(self._follower.view, known), REMOVED)

    def _opened(self) -> tuple[dict[str, str], list[Agency]]:
        """Return what keeps agencies from being delivered to, looked at once a version of the configuration."""
        version = self._follower.view.version
        if self._configured[0] != version:
            agencies = list(self._follower.view.agencies.values())
            troubles = {}
            for agency in agencies:
                try:
                    receiver_of(agency, self._defaults, self._sealer)
                except HongyanError as error:
                    troubles[agency.id] = str(error)
            self._configured = version, troubles, agencies
        return self._configured[1], self._configured[2]

    def _volumes(self) -> tuple[list[Volume], set[str]]:
        """Return what can be filled up, and the names of what can't be looked at now."""
        found, unseen = [], set()
        if self._data.exists():
            usage = shutil.disk_usage(self._data)
            found.append(Volume(str(self._data), usage.total - usage.free, usage.total))
        else:
            unseen.add(str(self._data))
        size, limit = self._looks.database.found, self._settings.database_bytes
        if size is not None and limit is not None:
            found.append(Volume(DATABASE, size, limit))
        elif limit is not None:
            unseen.add(DATABASE)
        return found, unseen

    def _away(self, now: datetime) -> list[Away]:
        """Return the servers that do not answer."""
        found = []
        silent_s = self._kafka_silent_s()
        if silent_s > self._settings.away_s / 2:
            self._without_kafka = now
        if silent_s > self._settings.away_s:
            why = "连不上，或不应答 (no connection, or no answer)"
            found.append(Away("kafka", now - timedelta(seconds=silent_s), why))
        for server, trouble in self._servers().items():
            if trouble is not None and not trouble.answered and self._stands(trouble, now):
                found.append(Away(server, trouble.since, trouble.why))
        if self._looks.database.trouble is not None:
            self._without_database = now
        return found

    def _failing(self, now: datetime) -> list[Away]:
        """Return the looks that find nothing, though the servers that they need answer."""
        looks = self._looks
        servers, found = self._servers(), []
        for name, trouble in ((DATABASE, servers[DATABASE]), (looks.certificates.name, looks.certificates.trouble)):
            if trouble is not None and (trouble.answered or name != DATABASE):
                found.append((name, trouble, trouble.since))
        # These need Kafka or the database: while it is away, and until they had time to see it again, it alone is told.
        blind, database = self._blind(now, servers[MONITOR]), self._without_database
        needing = [(MONITOR, blind, self._without_kafka)]
        needing += [(look.name, look.trouble, database) for look in (looks.follow_ups, looks.gaps)]
        for name, trouble, without in needing:
            if trouble is not None:
                found.append((name, trouble, max(trouble.since, without or trouble.since)))
        least = timedelta(seconds=self._settings.away_s)
        return [Away(name, trouble.since, trouble.why) for name, trouble, since in found if now - since >= least]

    def _servers(self) -> dict[str, Trouble | None]:
        return {MONITOR: self._looks.snapshot.trouble, DATABASE: self._looks.database.trouble}

    def _stands(self, trouble: Trouble, now: datetime) -> bool:
        return (now - trouble.since).total_seconds() >= self._settings.away_s

    def _blind(self, now: datetime, trouble: Trouble | None) -> Trouble | None:
        """Return since when a monitor that answers has measured nothing, and why."""
        snapshot = self._looks.snapshot.found
        if snapshot is None:
            return trouble if trouble is not None and trouble.answered else None
        if snapshot.away_since is not None:
            return Trouble(datetime.fromisoformat(snapshot.away_since), snapshot.away_why or "", answered=True)
        old = _age_s(snapshot, now) > STALE_S
        return Trouble(datetime.fromisoformat(snapshot.at), OLD, answered=True) if old else None

    def _kafka_silent_s(self) -> float:
        return self._clock.monotonic() - self._logs.contact_at


def _age_s(snapshot: Snapshot, now: datetime) -> float:
    return abs((now - datetime.fromisoformat(snapshot.at)).total_seconds())

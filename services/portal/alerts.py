"""Alerts over the administration API: what is open now, then what has ended, and silences with their reasons."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import orjson
import structlog
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from schemas.topics import Topics
from services.alerting.groups import Told
from services.alerting.kept import SILENCE, STATE, Kept
from services.alerting.silences import LONGEST, Silence, is_about_somebody, silencing
from services.runtime.alerts import Alert, AlertKind, current
from services.runtime.clock import Clock
from services.runtime.errors import FieldProblem, InvalidError, NotFoundError, UnavailableError
from services.runtime.kafka.port import Kafka, Partition, Record
from services.runtime.kafka.scanning import scan
from services.subscriptions.lifecycle import ADMINISTRATOR

WAIT_S = 10.0
NEWEST = 20_000
NOBODY = (
    "没有叫 {} 的单位或部门，也没有过它的告警；查 hongyan agency list、hongyan alerts --all "
    "(there is no such agency or department, and no alert was about it)"
)

log = structlog.get_logger()


class SilenceBody(BaseModel):
    """What to hear nothing of (a kind, a subject, or both), for how long, and why."""

    model_config = ConfigDict(extra="forbid")

    kind: AlertKind | None = None
    subject: Annotated[str, StringConstraints(min_length=1)] | None = None
    hours: Annotated[float, Field(gt=0, le=LONGEST.total_seconds() / 3600)]
    reason: Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
    by: str = ADMINISTRATOR


@dataclass(frozen=True, slots=True)
class AlertsNow:
    """The alerts in their newest state: all that are open, then those that ended last; each newest first.

    ``more_ended`` tells whether more have ended than are here. All silences stand in ``silences``, newest first.
    ``told`` says whom each way has told of what, by an alert's group and then by the way, of what is open now.
    """

    alerts: Sequence[Alert]
    silences: Sequence[Silence]
    told: Mapping[str, Mapping[str, Told]]
    more_ended: bool = False


class Alerts:
    """Reads the newest alerts from their topic, and what the alerter has kept of older ones; keeps silences."""

    def __init__(self, kafka: Kafka, topics: Topics, clock: Clock) -> None:
        self._kafka = kafka
        self._spec = topics.alerts_spec()
        self._kept_spec = topics.alerting_spec()
        self._clock = clock

    def list(self, *, everything: bool, agency: str | None, limit: int) -> list[Alert]:
        """Return alerts in their newest state; the open ones stand first, each newest first.

        Closed ones come only when ``everything`` is asked for.
        """
        return [*self._list(self.kept(), everything=everything, agency=agency)][:limit]

    def now(self, ended: int) -> AlertsNow:
        """Return everything that a page shows of them in one reading: all that are open, and so many ended ones."""
        kept = self.kept()
        alerts = self._list(kept, everything=True, agency=None)
        shown = ended + sum(one.state == "open" for one in alerts)
        silences = sorted(kept.silences.values(), key=lambda one: one.at, reverse=True)
        told = {name: group.told for name, group in kept.assembled().items()}
        return AlertsNow(alerts[:shown], silences, told, len(alerts) > shown)

    def rows(self, *, everything: bool, agency: str | None, limit: int, skip: int = 0) -> Sequence[dict[str, Any]]:
        """Return the same after the first ``skip`` as JSON values, each with the silence that holds for it, or None."""
        kept, now = self.kept(), self._clock.now()
        silences = list(kept.silences.values())
        rows = []
        for alert in self._list(kept, everything=everything, agency=agency)[skip : skip + limit]:
            silence = silencing(silences, alert.kind, alert.subject, now)
            rows.append(alert.to_json() | {"silence": silence.to_json() if silence else None})
        return rows

    def silences(self, *, everything: bool = False) -> Sequence[Silence]:
        """Return the silences that hold, newest first; those that have ended too when ``everything`` is asked for."""
        now = self._clock.now()
        held = sorted(self.kept().silences.values(), key=lambda one: one.at, reverse=True)
        return [one for one in held if everything or one.is_live(now)]

    def check_subject(self, body: SilenceBody, parties: Callable[[], Collection[str]]) -> None:
        """Raise InvalidError for a silence about nobody."""
        if body.subject is not None and not self._is_somebody(body.kind, body.subject, parties):
            raise InvalidError([FieldProblem("/subject", NOBODY.format(body.subject))])

    def check_agency(self, agency: str | None, parties: Callable[[], Collection[str]]) -> None:
        """Raise NotFoundError where alerts about nobody are asked for: that there are none would calm falsely."""
        if agency is not None and not self._is_somebody(None, agency, parties):
            raise NotFoundError(NOBODY.format(agency))

    def _is_somebody(self, kind: AlertKind | None, subject: str, parties: Callable[[], Collection[str]]) -> bool:
        """Tell whether there is or was somebody of this name: of whom an alert tells, there was.

        While the database is away nobody can tell, and nobody is kept from having his quiet.
        """
        try:
            known = parties()
        except UnavailableError:
            return True
        return is_about_somebody(kind, subject, known) or bool(self.list(everything=True, agency=subject, limit=1))

    def silence(self, body: SilenceBody) -> Silence:
        """Keep a silence; raises InvalidError or UnavailableError."""
        if body.kind is None and body.subject is None:
            detail = "给出种类或对象，不能静默一切 (give a kind or a subject; not everything can be silenced)"
            raise InvalidError([FieldProblem("/kind", detail)])
        now = self._clock.now()
        until = now + timedelta(hours=body.hours)
        name = f"silence-{secrets.token_hex(4)}"
        found = Silence(name, body.kind, body.subject, until.isoformat(), body.reason, body.by, now.isoformat())
        self._keep(found)
        return found

    def end_silence(self, name: str, by: str) -> Silence:
        """End a silence before its time; raises NotFoundError."""
        known = self.kept().silences.get(name)
        if known is None:
            raise NotFoundError(f"没有静默 {name} (no such silence): hongyan alerts silences")
        if not known.is_live(self._clock.now()):
            return known
        ended = known.ended(by, self._clock.now())
        self._keep(ended)
        return ended

    def kept(self) -> Kept:
        """Return what the alerter keeps: open alerts, who was told of them, silences; raises UnavailableError."""
        self._ensure()
        kept = Kept()
        for record in scan(self._kafka, [Partition(self._kept_spec.name, STATE)], client_id="alerts-kept"):
            kept.take((record.key or b"").decode(errors="replace"), record.value)
        return kept

    def _list(self, kept: Kept, *, everything: bool, agency: str | None) -> Sequence[Alert]:
        found = [
            alert
            for alert in standing(self._read(), kept)
            if (everything or alert.state == "open") and agency in {None, alert.subject}
        ]
        # Sorting keeps the newest first among each.
        return sorted(found, key=lambda one: one.state != "open")

    def _keep(self, silence: Silence) -> None:
        self._ensure()
        producer = self._kafka.producer(client_id="silences", acknowledge_timeout_s=WAIT_S)
        try:
            key, value = f"{SILENCE}{silence.id}".encode(), orjson.dumps(silence.to_json())
            producer.send(self._kept_spec.name, key=key, value=value, partition=STATE).result(WAIT_S)
        finally:
            producer.close()

    def _ensure(self) -> None:
        admin = self._kafka.admin()
        try:
            admin.ensure_topics([self._spec, self._kept_spec])
        finally:
            admin.close()

    def _read(self) -> Sequence[Alert]:
        """Return the newest, oldest first; raises UnavailableError where not all of them could be read."""
        records = scan(self._kafka, [Partition(self._spec.name, 0)], newest=NEWEST, client_id="alerts")
        return [alert for record in records if (alert := read_alert(record)) is not None]


def read_alert(record: Record) -> Alert | None:
    """Return the alert of a record; what can't be read is logged and left out: it may come from a later version."""
    try:
        return Alert.from_bytes(record.value)
    except ValueError as error:
        log.error("alert_unreadable", offset=record.offset, error=str(error))
        return None


def standing(alerts: Iterable[Alert], kept: Kept) -> list[Alert]:
    """Return each alert as it stands, newest first: those of the log, oldest first there, then older ones kept."""
    newest = current(alerts)
    known = {one.key for one in newest}
    older = sorted((a for a in kept.alerts.values() if a.key not in known), key=lambda one: one.at, reverse=True)
    return [*newest, *older]


def alert_routes(router: APIRouter, alerts: Alerts, parties: Callable[[], Collection[str]]) -> None:
    """Put the routes on a router."""

    @router.get("/alerts")
    def newest(
        all: bool = False,  # noqa: A002  (the query's name)
        agency: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        skip: Annotated[int, Query(ge=0)] = 0,
    ) -> Sequence[dict[str, Any]]:
        alerts.check_agency(agency, parties)
        return alerts.rows(everything=all, agency=agency, limit=limit, skip=skip)

    @router.get("/alerts/silences")
    def silences(all: bool = False) -> list[dict[str, Any]]:  # noqa: A002  (the query's name)
        return [one.to_json() for one in alerts.silences(everything=all)]

    @router.post("/alerts/silences", status_code=201)
    def silence(body: SilenceBody) -> dict[str, Any]:
        alerts.check_subject(body, parties)
        return alerts.silence(body).to_json()

    @router.post("/alerts/silences/{name}/end")
    def end(name: str, by: str = ADMINISTRATOR) -> dict[str, Any]:
        return alerts.end_silence(name, by).to_json()

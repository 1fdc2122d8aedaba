"""Alerts over the administration API: what is open now, newest first."""

from __future__ import annotations

from collections import deque
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Query

from schemas.topics import Topics
from services.runtime.alerts import Alert, current
from services.runtime.kafka.port import Kafka, Partition

NEWEST = 20_000
IDLE_POLLS = 30

log = structlog.get_logger()


class Alerts:
    """Reads the newest alerts from their topic."""

    def __init__(self, kafka: Kafka, topics: Topics) -> None:
        self._kafka = kafka
        self._spec = topics.alerts_spec()

    def list(self, *, everything: bool, agency: str | None, limit: int) -> list[Alert]:
        """Return alerts in their newest state, newest first; closed ones only when ``everything`` is asked for."""
        found = [
            alert
            for alert in current(self._read())
            if (everything or alert.state == "open") and agency in {None, alert.subject}
        ]
        return found[:limit]

    def _read(self) -> deque[Alert]:
        admin = self._kafka.admin()
        try:
            admin.ensure_topics([self._spec])
        finally:
            admin.close()
        partition = Partition(self._spec.name, 0)
        consumer = self._kafka.consumer(None, client_id="alerts")
        alerts: deque[Alert] = deque(maxlen=NEWEST)
        try:
            consumer.assign([partition])
            end = consumer.end_offsets([partition])[partition]
            consumer.seek(partition, max(consumer.beginning_offsets([partition])[partition], end - NEWEST))
            idle = 0
            while idle < IDLE_POLLS and consumer.position(partition) < end:
                records = consumer.poll(0.2, 1000).get(partition, ())
                idle = 0 if records else idle + 1
                for record in records:
                    try:
                        alerts.append(Alert.from_bytes(record.value))
                    except ValueError as error:
                        log.error("alert_unreadable", offset=record.offset, error=str(error))
        finally:
            consumer.close()
        return alerts


def alert_routes(router: APIRouter, alerts: Alerts) -> None:
    """Put the route on a router."""

    @router.get("/alerts")
    def newest(
        all: bool = False,  # noqa: A002  (the query's name)
        agency: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[dict[str, Any]]:
        return [alert.to_json() for alert in alerts.list(everything=all, agency=agency, limit=limit)]

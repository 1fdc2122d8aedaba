"""Tells, on the alerts' topic, whose field policy an event can't be written under: they alone do not get it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from consumers.router.writing import Routing
from schemas.topics import Topics
from services.alerting.kept import STATE, Kept
from services.runtime.alerts import Alert, AlertKind
from services.runtime.kafka.port import Kafka, Partition, Record, TransactionalProducer
from services.runtime.kafka.scanning import scan

AGAIN_MS = 60_000


def told_before(kafka: Kafka, topics: Topics) -> dict[tuple[str, str], int]:
    """Return the agencies and policies whose alerts a router of yesterday has left open, as far as the alerter knows.

    The times are long ago, so that what still fails is told again. Raises UnavailableError.
    """
    admin = kafka.admin()
    try:
        if topics.control_alerting not in admin.list_topics():
            return {}
    finally:
        admin.close()
    kept = Kept()
    for record in scan(kafka, [Partition(topics.control_alerting, STATE)], client_id="policy-alarms"):
        kept.take((record.key or b"").decode(errors="replace"), record.value)
    found = [one for one in kept.alerts.values() if one.kind == AlertKind.POLICY_FAILED]
    return {(one.subject, one.labels.get("policy", "")): 0 for one in found}


class PolicyAlarms:
    """Opens an alert for each agency and policy, says so again now and then, and closes it once it can be written."""

    def __init__(self, producer: TransactionalProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self.open: dict[tuple[str, str], int] = {}
        """What is open, and when it was told of last."""

    def tell(self, record: Record, routing: Routing, failed: Mapping[str, str]) -> None:
        """Take in what came of an event, in the open transaction; one that is aborted is told again later."""
        for agency, policy in routing.fields.items():
            told = self.open.get((agency, policy))
            if policy not in failed:
                if told is not None:
                    del self.open[agency, policy]
                    self._send(record, agency, policy, "已可写成 (it can be written again)", closed=True)
            elif told is None or record.timestamp - told > AGAIN_MS:
                self.open[agency, policy] = record.timestamp
                grants = ", ".join(routing.matched.get(agency, ())) or "后续 (follow-up)"
                self._send(record, agency, policy, f"{grants}: {failed[policy]}", closed=False)

    def _send(self, record: Record, agency: str, policy: str, detail: str, *, closed: bool) -> None:
        at = datetime.fromtimestamp(record.timestamp / 1000, UTC).isoformat()
        found = AlertKind.POLICY_FAILED, agency, at, detail[:2000]
        alert = Alert(*found, "closed" if closed else "open", {"policy": policy})
        self._producer.send(self._topic, key=alert.key.encode(), value=alert.to_bytes(), partition=0)

"""Carries configuration changes from the outbox to the control topics, in order, each before it is deleted."""

from __future__ import annotations

import threading
import time

import orjson
import psycopg
import structlog
from psycopg_pool import ConnectionPool

from schemas.topics import Topics
from services.runtime import control_outbox
from services.runtime.database import transaction
from services.runtime.errors import UnavailableError
from services.runtime.kafka.port import Kafka, Producer
from services.runtime.lifecycle import outlast

BATCH = 200
RECHECK_S = 1.0
ACKNOWLEDGE_S = 5.0
STALE_S = 10.0
"""Without having looked for so long it hangs, whatever it waits for."""

log = structlog.get_logger()


class ControlRelay:
    """Publishes the outbox. Two relays don't double: an advisory lock lets one work at a time."""

    def __init__(self, pool: ConnectionPool, dsn: str, kafka: Kafka, topics: Topics) -> None:
        self._pool = pool
        self._dsn = dsn
        self._kafka = kafka
        self._looked_at: float | None = None
        self._names = {"subscriptions": topics.control_subscriptions, "identities": topics.control_identities}

    def run(self, stop: threading.Event) -> None:
        """Relay until ``stop``; whatever is away is waited for."""
        outages = (UnavailableError, psycopg.OperationalError)
        outlast(
            "control_relay",
            lambda: self._session(stop),
            stop,
            outages=outages,
            on_outage=self._interrupted,
            retry_s=RECHECK_S,
        )

    def _interrupted(self) -> None:
        self._looked_at = None

    @property
    def working(self) -> bool:
        """Tell whether it has carried everything that there was, a moment ago."""
        looked_at = self._looked_at
        return looked_at is not None and time.monotonic() - looked_at < STALE_S

    def _session(self, stop: threading.Event) -> None:
        producer = self._kafka.producer(client_id="control-relay", acknowledge_timeout_s=ACKNOWLEDGE_S)
        try:
            with psycopg.connect(self._dsn, autocommit=True, connect_timeout=3) as listener:
                listener.execute(f"LISTEN {control_outbox.CHANNEL}")
                while not stop.is_set():
                    while self.relay_once(producer):
                        pass
                    self._looked_at = time.monotonic()
                    # A notification says when; the limit makes sure where one was missed.
                    for _ in listener.notifies(timeout=RECHECK_S, stop_after=1):
                        pass
        finally:
            producer.close()

    def relay_once(self, producer: Producer) -> int:
        """Publish the oldest changes and return how many there were; raises UnavailableError."""
        with transaction(self._pool) as connection:
            rows = control_outbox.next_rows(connection, BATCH)
            sent = [
                producer.send(
                    self._names[topic], key=key.encode(), value=orjson.dumps(value) if value is not None else None
                )
                for _, topic, key, value in rows
            ]
            for outcome in sent:
                outcome.result(ACKNOWLEDGE_S)
            control_outbox.delete_rows(connection, [row[0] for row in rows])
        for _, _, key, _ in rows:
            log.info("control_change_published", key=key)
        return len(rows)

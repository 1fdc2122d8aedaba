"""Carries out what processes without PostgreSQL ask for: suspend an agency whose receiver answered 410."""

from __future__ import annotations

import threading

import orjson
import structlog

from schemas.topics import Topics
from services.runtime.errors import NotFoundError
from services.runtime.kafka.port import Committed, Consumer, Kafka, Partition, Record
from services.runtime.lifecycle import outlast
from services.subscriptions.repository import AgencyRepository, Change, Decision

POLL_S = 0.5

log = structlog.get_logger()


class RequestConsumer:
    """Applies requests at least once; each may be applied twice with the same result."""

    def __init__(self, kafka: Kafka, topics: Topics, repository: AgencyRepository) -> None:
        self._kafka = kafka
        self._topic = topics.control_requests
        self._group = topics.group("control")
        self._repository = repository

    def run(self, stop: threading.Event) -> None:
        """Apply until ``stop``; whatever is away is waited for, and the request with it."""
        outlast("requests", lambda: self._session(stop), stop)

    def _session(self, stop: threading.Event) -> None:
        consumer = self._kafka.consumer(self._group, client_id="control")
        try:
            self._consume(consumer, stop)
        finally:
            consumer.close()

    def _consume(self, consumer: Consumer, stop: threading.Event) -> None:
        consumer.subscribe([self._topic], lambda _: None, lambda _: None)
        while not stop.is_set():
            for partition, records in consumer.poll(POLL_S, 50).items():
                for record in records:
                    self.apply(record)
                self._commit(consumer, partition, records[-1].offset + 1)

    @staticmethod
    def _commit(consumer: Consumer, partition: Partition, offset: int) -> None:
        consumer.commit({partition: Committed(offset)})

    def apply(self, record: Record) -> None:
        """Carry out one request; an unknown one is logged and left."""
        try:
            request = orjson.loads(record.value or b"{}")
            agency, reason = str(request["agency"]), str(request["reason"])
            known = request["kind"] == "suspend-agency"
        except (ValueError, KeyError, TypeError) as error:
            log.error("request_refused", offset=record.offset, error=str(error))
            return
        if not known:
            log.error("request_refused", offset=record.offset, kind=request["kind"])
            return
        try:
            self._repository.change(agency, "suspended", Change(state="suspended"), Decision("pusher", reason))
        except NotFoundError as error:
            log.error("request_refused", offset=record.offset, error=str(error))
        else:
            log.warning("agency_suspended", agency=agency, reason=reason)

"""The kafka-python adapter of the Kafka port (see :mod:`services.runtime.kafka.port` for the contract)."""

from __future__ import annotations

import logging
from typing import Any

from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.coordinator.assignors.range import RangePartitionAssignor

from schemas.topics import STORED_MAX_BYTES
from services.runtime.errors import NOT_HERE, KafkaUnavailableError
from services.runtime.kafka.admin import KafkaPythonAdmin
from services.runtime.kafka.connecting import DIRECT, connecting
from services.runtime.kafka.consumer import CALL_TIMEOUT_MS, KafkaPythonConsumer
from services.runtime.kafka.port import Consumer, Kafka
from services.runtime.kafka.producer import (
    TRANSACTION_TIMEOUT_MS,
    KafkaPythonProducer,
    KafkaPythonTransactionalProducer,
)
from services.runtime.kafka.wrapping import wrapped
from services.runtime.settings import KafkaSettings

SESSION_TIMEOUT_MS = 10_000
# A member learns from its heartbeats that partitions are dealt anew; the others stand still until it has.
HEARTBEAT_MS = 500
METADATA_AGE_MS = 2_000
# Bounds what one poll may hold in memory, whatever the backlog.
FETCH_MAX_BYTES = 4 * 1024 * 1024
PARTITION_FETCH_BYTES = 512 * 1024
BATCH_BYTES = 128 * 1024
DEFAULT_BATCH_BYTES = 16 * 1024
BULK_LINGER_MS = 30
BULK_FETCH_BYTES = 1024 * 1024
BULK_WAIT_MS = 250
# The topic's own limit comes first, whatever the topic.
MAX_REQUEST_BYTES = STORED_MAX_BYTES + 64 * 1024

# The library reports every retry at ERROR; what matters is raised, wrapped and logged by the caller.
logging.getLogger("kafka").setLevel(logging.CRITICAL)


class KafkaPython:
    """Makes kafka-python clients with the settings that exactness needs."""

    def __init__(self, settings: KafkaSettings) -> None:
        if not settings.bootstrap_servers:
            raise KafkaUnavailableError(f"没有指明 Kafka。{NOT_HERE} (kafka.bootstrap_servers is not set)")
        self._replication_factor = settings.replication_factor
        self._admin: dict[str, Any] = {
            "bootstrap_servers": settings.bootstrap_servers.split(","),
            "reconnect_backoff_ms": 50,
            "reconnect_backoff_max_ms": 1000,
            "bootstrap_timeout_ms": 5000,
            "proxy_url": DIRECT,
            **_security(settings),
        }
        self._base = self._admin | {"metrics_enabled": False}

    def consumer(
        self,
        group: str | None,
        *,
        client_id: str = "hongyan",
        instance: str | None = None,
        from_end: bool = False,
        bulk: bool = False,
        exact: bool = False,
    ) -> Consumer:
        """Make a consumer; ``instance`` makes membership static: a restarted process gets its partitions back."""
        with connecting() as inner:
            return KafkaPythonConsumer(
                KafkaConsumer(
                    kafka_client=inner,
                    group_id=group,
                    client_id=client_id,
                    group_instance_id=instance if group else None,
                    enable_auto_commit=False,
                    auto_offset_reset="none" if exact else "latest" if from_end else "earliest",
                    isolation_level="read_committed",
                    # Range gives partition p of every event topic to one member: the router's state relies on it.
                    partition_assignment_strategy=(RangePartitionAssignor,),
                    session_timeout_ms=SESSION_TIMEOUT_MS,
                    heartbeat_interval_ms=HEARTBEAT_MS,
                    fetch_min_bytes=BULK_FETCH_BYTES if bulk else 1,
                    fetch_max_wait_ms=BULK_WAIT_MS if bulk else 500,
                    fetch_max_bytes=FETCH_MAX_BYTES,
                    max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
                    retry_backoff_ms=20,
                    # A topic that is a moment old may be missing from the metadata that partitions are given out by.
                    metadata_max_age_ms=METADATA_AGE_MS,
                    **self._base,
                ),
                from_end=from_end,
            )

    def producer(
        self, *, client_id: str = "hongyan", acknowledge_timeout_s: float = 30.0, bulk: bool = False
    ) -> KafkaPythonProducer:
        """Make an idempotent producer that gives a record up after the time-out (seconds)."""
        timeout_ms = int(acknowledge_timeout_s * 1000)
        with connecting() as inner:
            return KafkaPythonProducer(
                KafkaProducer(
                    kafka_client=inner,
                    client_id=client_id,
                    delivery_timeout_ms=timeout_ms,
                    request_timeout_ms=max(1, timeout_ms - BULK_LINGER_MS - 1),
                    max_block_ms=timeout_ms,
                    linger_ms=BULK_LINGER_MS if bulk else 0,
                    batch_size=BATCH_BYTES if bulk else DEFAULT_BATCH_BYTES,
                    retry_backoff_ms=20,
                    max_request_size=MAX_REQUEST_BYTES,
                    **self._base,
                )
            )

    def transactional_producer(self, transactional_id: str) -> KafkaPythonTransactionalProducer:
        """Make a transactional producer and end what its predecessor left open."""
        with connecting() as inner:
            client = KafkaProducer(
                kafka_client=inner,
                client_id=transactional_id,
                transactional_id=transactional_id,
                transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
                max_block_ms=CALL_TIMEOUT_MS,
                linger_ms=0,
                retry_backoff_ms=5,
                batch_size=BATCH_BYTES,
                max_request_size=MAX_REQUEST_BYTES,
                **self._base,
            )
        producer = KafkaPythonTransactionalProducer(client)
        try:
            with wrapped("connect"):
                client.init_transactions()
        except BaseException:
            producer.close()
            raise
        return producer

    def admin(self, *, timeout_s: float = 30.0) -> KafkaPythonAdmin:
        """Make an admin client that waits so long for each answer."""
        with connecting() as inner:
            return KafkaPythonAdmin(
                KafkaAdminClient(kafka_client=inner, **self._admin, request_timeout_ms=int(timeout_s * 1000)),
                self._replication_factor,
            )


def connect(settings: KafkaSettings) -> Kafka:
    """Return the factory of clients for the cluster that the settings name; nothing is connected yet."""
    return KafkaPython(settings)


def _security(settings: KafkaSettings) -> dict[str, Any]:
    """Return how to log in, where the cluster asks for it."""
    if settings.username is None or settings.password is None:
        return {"security_protocol": settings.security_protocol, "ssl_cafile": settings.ca_file}
    return {
        "security_protocol": settings.security_protocol,
        "ssl_cafile": settings.ca_file,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.username,
        "sasl_plain_password": settings.password.get_secret_value(),
    }

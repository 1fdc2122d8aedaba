"""A Kafka that nobody waits for while it is known to be away, and the question whether it answers."""

from __future__ import annotations

from collections.abc import Callable

from services.runtime.errors import UnavailableError
from services.runtime.kafka.port import Admin, Consumer, Kafka, Producer, TransactionalProducer


class GuardedKafka:
    """Makes the clients of another factory; ``check`` raises UnavailableError while Kafka is away."""

    def __init__(self, kafka: Kafka, check: Callable[[], None]) -> None:
        self._kafka = kafka
        self._check = check

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
        """Make a consumer."""
        self._check()
        return self._kafka.consumer(
            group, client_id=client_id, instance=instance, from_end=from_end, bulk=bulk, exact=exact
        )

    def producer(
        self, *, client_id: str = "hongyan", acknowledge_timeout_s: float = 30.0, bulk: bool = False
    ) -> Producer:
        """Make an idempotent producer."""
        self._check()
        return self._kafka.producer(client_id=client_id, acknowledge_timeout_s=acknowledge_timeout_s, bulk=bulk)

    def transactional_producer(self, transactional_id: str) -> TransactionalProducer:
        """Make a transactional producer."""
        self._check()
        return self._kafka.transactional_producer(transactional_id)

    def admin(self, *, timeout_s: float = 30.0) -> Admin:
        """Make an admin client."""
        self._check()
        return self._kafka.admin(timeout_s=timeout_s)


class KafkaAnswering:
    """Tells whether Kafka answers now, over a client of its own."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._admin: Admin | None = None

    def __call__(self) -> bool:
        """Ask it; it may take as long as the server hangs. To be called from one thread."""
        try:
            if self._admin is None:
                self._admin = self._kafka.admin()
            self._admin.cluster_id()
        except UnavailableError:
            self.close()
            return False
        return True

    def close(self) -> None:
        """Close the client."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None

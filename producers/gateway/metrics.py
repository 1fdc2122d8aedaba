"""What the gateway counts."""

from __future__ import annotations

from collections.abc import Sequence

from producers.gateway.acceptance import Accepted, Refused
from producers.publishing import Prepared
from services.runtime import metrics
from services.runtime.measuring import CollectorRegistry


class GatewayMetrics:
    """Counters of one gateway process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._accepted = metrics.GATEWAY_EVENTS.on(registry)
        self._refused = metrics.GATEWAY_REFUSED.on(registry)
        self.seconds = metrics.GATEWAY_SECONDS.on(registry)

    def ended(self, outcomes: Sequence[Accepted | Refused | Prepared]) -> None:
        """Count the events of a request; one that was only checked counts as neither."""
        for one in outcomes:
            if isinstance(one, Accepted):
                self._accepted.labels(one.prepared.attributes["type"]).inc()
            elif isinstance(one, Refused):
                self._refused.labels(str(one.status)).inc()

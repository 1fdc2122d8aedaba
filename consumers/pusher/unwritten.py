"""Which topics can't be written to by the alerts that stand: who raised one may have been killed before its end."""

from __future__ import annotations

import threading
from contextlib import suppress

from consumers.pusher.outbox import Outbox
from schemas.topics import Topics
from services.runtime.alerts import Alert, AlertKind, current
from services.runtime.kafka.port import Kafka, Partition
from services.runtime.kafka.scanning import scan
from services.runtime.lifecycle import outlast

NEWEST = 20_000


def start_recalling(kafka: Kafka, topics: Topics, outbox: Outbox, stop: threading.Event) -> None:
    """Let the outbox know of them, in the background: no delivery waits for the alerts' topic."""

    def recall() -> None:
        outlast("pusher_alerts", lambda: outbox.recall(told_before(kafka, topics)), stop)

    threading.Thread(target=recall, name="pusher-alerts", daemon=True).start()


def told_before(kafka: Kafka, topics: Topics) -> set[str]:
    """Return the topics that somebody was told of and of no end; raises UnavailableError."""
    found = []
    for record in scan(kafka, [Partition(topics.alerts, 0)], newest=NEWEST, client_id="pusher-alerts"):
        with suppress(ValueError):  # what is no alert can't stand
            found.append(Alert.from_bytes(record.value))
    standing = [one for one in current(found) if one.kind is AlertKind.TOPIC_UNWRITABLE and one.state == "open"]
    return {one.labels.get("topic", one.subject) for one in standing}

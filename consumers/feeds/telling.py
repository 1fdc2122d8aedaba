"""Alerts of the feeds' own, seldom enough for a producer each."""

from __future__ import annotations

from contextlib import closing

from schemas.topics import Topics
from services.runtime.alerts import Alert
from services.runtime.kafka.port import Kafka

ALERT_S = 10.0


def tell(kafka: Kafka, topics: Topics, alert: Alert) -> None:
    """Put an alert on its topic and wait until it is there; raises UnavailableError."""
    with closing(kafka.producer(client_id="feeds-alerts")) as producer:
        producer.send(topics.alerts, key=alert.key.encode(), value=alert.to_bytes()).result(ALERT_S)

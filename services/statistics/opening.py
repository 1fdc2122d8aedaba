"""Opens figures as the settings say: the shipped definitions and the statisticians' own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from schemas.contracts import Contracts, load_contracts
from schemas.topics import Topics
from services.runtime.database import Connections, dsn_of
from services.runtime.settings import Settings
from services.statistics.loading import SHIPPED, Metrics, load_metrics
from services.statistics.reading import FigureReader, figures
from services.statistics.shapes import shapes


def metrics_of(settings: Settings) -> Metrics:
    """Return the definitions of an installation; raises MetricsError."""
    own = settings.statistics.metrics
    return load_metrics(shapes(load_contracts()), [SHIPPED, *([own] if own is not None else [])])


def counted_topics(topics: Topics, contracts: Contracts) -> list[str]:
    """Return the topics whose events are facts: every domain's, and the receipts."""
    return [*(topics.events(domain) for domain in contracts.domains()), topics.receipts]


@contextmanager
def open_figures(settings: Settings, connections: Connections | None = None) -> Iterator[FigureReader]:
    """Give a reader of an installation's figures; raises MetricsError or DatabaseUnavailableError."""
    metrics = metrics_of(settings)
    consumer = Topics(settings.kafka.topic_prefix).group("statistics")
    known = shapes(load_contracts())
    with figures(dsn_of(settings.database), consumer, metrics, known, connections=connections) as reader:
        yield reader

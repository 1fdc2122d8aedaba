"""What the log has against closing a month: records that are not counted yet, and dead letters of that month."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas.contracts import load_contracts
from schemas.times import parse_time
from schemas.topics import Topics
from services.quarantine.letters import DeadLetters, Search
from services.runtime.clock import SystemClock
from services.runtime.database import Connections, dsn_of
from services.runtime.kafka.port import Kafka, Partition
from services.runtime.kafka.scanning import scan
from services.runtime.positions import PartitionKey
from services.runtime.settings import Settings
from services.statistics.closing import Closing
from services.statistics.facts import month_number
from services.statistics.figure import Month
from services.statistics.loading import Metrics
from services.statistics.opening import counted_topics, metrics_of
from services.statistics.shapes import shapes

STAGES = ("router", "statistics")
"""The stages whose dead letters are events that no figure counts."""
MOST_LETTERS = 10_000
MOST_ENDINGS = 100
"""So many offsets may be the ends of transactions alone; of more some are records for certain."""


class LogGuard:
    """Asks Kafka. Dead letters are those still open: a corrected one was put on the log again."""

    def __init__(self, kafka: Kafka, topics: Topics, inputs: Sequence[str]) -> None:
        self._kafka = kafka
        self._topics = topics
        self._inputs = inputs

    def __call__(self, month: Month, positions: Mapping[PartitionKey, int]) -> list[str]:
        """Return a line for each thing that speaks against closing."""
        return [*self._lag(positions), *self._letters(month)]

    def _lag(self, positions: Mapping[PartitionKey, int]) -> list[str]:
        found = []
        for partition, end in sorted(self.ends().items()):
            position = positions.get((partition.topic, partition.partition), 0)
            behind = end - position
            if behind > 0 and self._is_record(partition, position, behind):
                name = f"{partition.topic}/{partition.partition}"
                found.append(f"{name} 还有 {behind} 条记录未统计 (not counted yet)")
        return found

    def _is_record(self, partition: Partition, position: int, behind: int) -> bool:
        """Tell whether a record is left there: the ends of transactions take offsets too, and nobody counts them."""
        if behind > MOST_ENDINGS:
            return True
        left = scan(self._kafka, [partition], start=position, client_id="statistics-guard", most=1)
        return next(iter(left), None) is not None

    def ends(self) -> dict[Partition, int]:
        """Return the end of every partition that is counted."""
        consumer = self._kafka.consumer(None, client_id="statistics-guard")
        try:
            partitions = partitions_of(self._topics, self._inputs)
            consumer.assign(partitions)
            return consumer.end_offsets(partitions)
        finally:
            consumer.close()

    def _letters(self, month: Month) -> list[str]:
        letters = DeadLetters(self._kafka, self._topics)
        found = []
        for stage in STAGES:
            for letter in letters.search(Search(stage=stage, state="open", limit=MOST_LETTERS)):
                if _month(letter["attributes"].get("time"), letter["at"]) == month.number:
                    found.append(f"死信 {letter['number']}：{letter['reason']} (a dead letter of that month)")
        return found


def closing_of(
    settings: Settings, kafka: Kafka, metrics: Metrics | None = None, connections: Connections | None = None
) -> Closing:
    """Return what takes the decisions about an installation's months; raises MetricsError."""
    topics, contracts = Topics(settings.kafka.topic_prefix), load_contracts()
    return Closing(
        dsn_of(settings.database),
        topics.group("statistics"),
        metrics or metrics_of(settings),
        shapes(contracts),
        LogGuard(kafka, topics, counted_topics(topics, contracts)),
        SystemClock(),
        connections,
    )


def partitions_of(topics: Topics, inputs: Sequence[str]) -> list[Partition]:
    """Return the partitions of topics by their specifications."""
    specs = [spec for spec in topics.base_specs(_domains(topics, inputs)) if spec.name in inputs]
    return [Partition(spec.name, number) for spec in specs for number in range(spec.partitions)]


def _domains(topics: Topics, inputs: Sequence[str]) -> list[str]:
    start, end = topics.events("|").split("|")
    return [one.removeprefix(start).removesuffix(end) for one in inputs if one.startswith(start) and one.endswith(end)]


def _month(happened: str | None, arrived: str) -> int:
    """Return a letter's month: of the event's time, or where it has none that can be read, of its arrival."""
    try:
        return month_number(parse_time(happened or arrived)[0])
    except ValueError:
        return month_number(parse_time(arrived)[0])

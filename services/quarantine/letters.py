"""Dead letters (死信): what a stage could never work on, with its reason and origin, and their corrections."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from schemas.envelope import header_attributes
from schemas.topics import DEADLETTER_STAGES, Topics
from services.quarantine.aside import LEFT_OUT
from services.runtime.errors import NotFoundError
from services.runtime.kafka.port import Kafka, Partition, Record
from services.runtime.kafka.scanning import scan


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter. ``number`` (``router/17``: stage and offset) is what people call it by.

    ``left_out``: the whole record was too large to be put aside; ``origin`` tells where it stands.
    """

    stage: str
    offset: int
    at: str
    reason: str
    verdict: str
    origin: str
    attributes: Mapping[str, str]
    value: bytes | None
    left_out: bool = False

    @property
    def number(self) -> str:
        """Return its name."""
        return f"{self.stage}/{self.offset}"

    @property
    def accepted_before(self) -> bool:
        """Tell whether its identity stands on the log already: in a conflict, and after routing."""
        return self.stage != "router" or self.verdict == "conflict"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, without its data."""
        return {
            "number": self.number,
            "stage": self.stage,
            "offset": self.offset,
            "at": self.at,
            "reason": self.reason,
            "verdict": self.verdict,
            "origin": self.origin,
            "attributes": dict(self.attributes),
        }


@dataclass(frozen=True, slots=True)
class Search:
    """What dead letters to find: the newest ``limit`` that fit all that is given, among each stage's ``newest``."""

    stage: str | None = None
    type: str | None = None
    source: str | None = None
    text: str | None = None
    state: Literal["open", "corrected"] | None = None
    limit: int = 100
    newest: int | None = None

    def fits(self, letter: Letter, *, corrected: bool) -> bool:
        """Tell whether a letter is among those."""
        attributes = letter.attributes
        return (
            self.type in {None, attributes.get("type")}
            and self.source in {None, attributes.get("source")}
            and (self.state is None or (self.state == "corrected") is corrected)
            and (self.text is None or any(self.text in t for t in (letter.reason, *attributes.values())))
        )


class DeadLetters:
    """Reads the dead letters of all stages, and what was made of them. Nothing is ever deleted."""

    def __init__(self, kafka: Kafka, topics: Topics) -> None:
        self._kafka = kafka
        self._topics = topics

    def search(self, search: Search) -> list[dict[str, Any]]:
        """Return what is found, oldest first, each with its correction; raises NotFoundError for no such stage."""
        corrections = self.corrections()
        found: deque[dict[str, Any]] = deque(maxlen=search.limit)
        for stage in DEADLETTER_STAGES if search.stage is None else [search.stage]:
            for letter in self._letters(stage, newest=search.newest):
                correction = corrections.get(letter.number)
                if search.fits(letter, corrected=correction is not None):
                    found.append(letter.to_json() | {"correction": correction})
        return list(found)

    def letter(self, stage: str, offset: int) -> Letter:
        """Return one letter; raises NotFoundError."""
        found = next((letter for letter in self._letters(stage, offset) if letter.offset == offset), None)
        if found is None:
            raise NotFoundError(f"没有死信 {stage}/{offset} (no such dead letter)")
        return found

    def since(self, stage: str, at_ms: int) -> Iterator[Letter]:
        """Yield a stage's letters of records that are not older than a time; raises UnavailableError."""
        found = scan(
            self._kafka, [Partition(self._topics.deadletter(stage), 0)], since_ms=at_ms, client_id="deadletters"
        )
        return (_letter(stage, record) for record in found)

    def corrections(self) -> dict[str, dict[str, Any]]:
        """Return every correction by the number of its letter."""
        records = self._read(self._topics.control_corrections)
        return {(record.key or b"").decode(): orjson.loads(record.value or b"{}") for record in records}

    def _letters(self, stage: str, start: int | None = None, newest: int | None = None) -> Iterator[Letter]:
        if stage not in DEADLETTER_STAGES:
            raise NotFoundError(f"没有环节 {stage} (no such stage): {', '.join(DEADLETTER_STAGES)}")
        return (_letter(stage, record) for record in self._read(self._topics.deadletter(stage), start, newest))

    def _read(self, topic: str, start: int | None = None, newest: int | None = None) -> Iterator[Record]:
        """Yield the records from ``start`` (else the first kept) to what is the end now; raises UnavailableError."""
        return scan(self._kafka, [Partition(topic, 0)], start=start, newest=newest, client_id="deadletters")


def _letter(stage: str, record: Record) -> Letter:
    headers = {name: value.decode(errors="replace") for name, value in record.headers if value is not None}
    origin = (headers.get(f"hongyan-original-{part}", "?") for part in ("topic", "partition", "offset"))
    return Letter(
        stage=stage,
        offset=record.offset,
        at=datetime.fromtimestamp(record.timestamp / 1000, UTC).isoformat(timespec="milliseconds"),
        reason=headers.get("hongyan-reason") or headers.get("hongyan-refusal", ""),
        verdict=headers.get("hongyan-verdict", "deadletter"),
        origin="/".join(origin),
        attributes=header_attributes((name, text.encode()) for name, text in headers.items()),
        value=record.value,
        left_out=LEFT_OUT in headers,
    )

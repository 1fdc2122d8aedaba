"""The poller's loop: lock, fence the predecessor, learn what is true from the journal, then look again and again.

A page of rows is one Kafka transaction that holds the events, the states of the rows and how far the poller has come
(:mod:`producers.poller.journal`). The table is only read. A look begins ``overlap`` before the newest cursor seen, and
what is known of each row keeps it from being told of twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import structlog

from producers.department.duty import Duty
from producers.poller.deciding import Decided, Decider, Known, key_text
from producers.poller.journal import Changes, Journal, Json
from producers.poller.mapping import TableMapping
from producers.poller.memory import Memory
from producers.poller.metrics import PollerMetrics
from producers.poller.table import KEYS_AT_ONCE, DepartmentTable, Row, Span, TableMismatchError, TableSession
from producers.poller.values import earlier, not_after, pack, unpack, usable
from services.runtime.clock import Clock
from services.runtime.kafka.port import TransactionalProducer

ACKNOWLEDGED_S = 30.0
GONE_AT_ONCE = 500
MENDING = "多半是映射或数据成批地错了 (so many rejects are a fault of the mapping or of a whole load)"

log = structlog.get_logger()


class Poller:
    """Polls one table until told to stop. Of several with one name one works, and the others stand by."""

    def __init__(
        self,
        table: DepartmentTable,
        mapping: TableMapping,
        decider: Decider,
        journal: Journal,
        duty: Duty,
        store: Path,
        clock: Clock,
        metrics: PollerMetrics,
    ) -> None:
        self._table = table
        self._mapping = mapping
        self._decider = decider
        self._journal = journal
        self.duty = duty
        self._store = store
        self._clock = clock
        self._metrics = metrics

    def run(self, stop: threading.Event) -> None:
        """Poll until ``stop``; whatever is away is waited for."""
        self.duty.run(lambda: self._session(stop), stop)

    def _session(self, stop: threading.Event) -> None:
        with (
            self._table.session() as rows,
            self.duty.taken(rows.lock, self._journal.spec, self._mapping.poll_s, stop) as producer,
        ):
            if producer is None:
                return
            with Memory(self._store) as memory:
                memory.catch_up(self._journal)
                look = Look(
                    rows,
                    producer,
                    memory,
                    self._mapping,
                    self._decider,
                    self._journal,
                    self.duty,
                    self._clock,
                    self._metrics,
                )
                self._look_until(stop, look, memory)

    def _look_until(self, stop: threading.Event, look: Look, memory: Memory) -> None:
        self.duty.enter("working")
        retry_at = 0.0
        while not stop.is_set():
            if time.monotonic() >= retry_at:
                look.retry()
                retry_at = time.monotonic() + self._mapping.retry_s
            if look.overfull():
                self.duty.enter(
                    "waiting", f"被拒的行已达 max_rejects {self._mapping.max_rejects}，不再往下读：{MENDING}"
                )
            else:
                self._look(stop, look)
            self._metrics.rejects.set(memory.count_rejects())
            self._metrics.looked.set_to_current_time()
            stop.wait(self._mapping.poll_s)

    def _look(self, stop: threading.Event, look: Look) -> None:
        if self.duty.condition()[0] != "working":
            self.duty.enter("working")
        if look.comparison_due():
            look.compare(stop)
        else:
            look.follow(stop)


class Look:
    """Looks at the table in one session; raises UnavailableError: then the session is over."""

    def __init__(
        self,
        rows: TableSession,
        producer: TransactionalProducer,
        memory: Memory,
        mapping: TableMapping,
        decider: Decider,
        journal: Journal,
        duty: Duty,
        clock: Clock,
        metrics: PollerMetrics,
    ) -> None:
        self._rows = rows
        self._producer = producer
        self._memory = memory
        self._mapping = mapping
        self._decider = decider
        self._journal = journal
        self._duty = duty
        self._clock = clock
        self._metrics = metrics

    def follow(self, stop: threading.Event) -> None:
        """Work on the rows from ``overlap`` before the newest one known, to the end."""
        newest, cursor = self._newest(), self._mapping.cursor
        since = None if newest is None else earlier(newest, cursor.overlap, cursor.format)
        self._walk(Span(since), None, stop)

    def compare(self, stop: threading.Event) -> None:
        """Work on all rows, whatever their cursor, then on those that are there no more."""
        began = self._clock.now()
        number = self._memory.begin_pass()
        if not self._walk(Span(), number, stop):
            return
        self._tell_gone(number)
        self._commit(Decided(changes=Changes(progress={**self._memory.progress, "compared": began.isoformat()})))

    def comparison_due(self) -> bool:
        """Tell whether it is time for a comparison."""
        if self._mapping.compare_s is None:
            return False
        last = self._memory.progress.get("compared")
        since_s = (self._clock.now() - datetime.fromisoformat(last)).total_seconds() if last else None
        return since_s is None or since_s >= self._mapping.compare_s

    def retry(self) -> None:
        """Look at the rejected rows again, and at those that no watermark finds."""
        waiting = iter(self._memory.rejects().items())
        while some := dict(islice(waiting, KEYS_AT_ONCE)):
            keys = {key: tuple(map(unpack, record["key"])) for key, record in some.items() if record["key"]}
            found = self._rows.with_keys(list(keys.values())) if keys else []
            self._settle(found)
            gone = keys.keys() - set(map(key_text, found))
            if gone:
                self._commit(Decided(changes=Changes(rejects=dict.fromkeys(gone))))
        last: Row | None = None
        while page := self._rows.without_cursor(self._mapping.batch, last):
            self._settle(page)
            if len(page) < self._mapping.batch or self.overfull():
                break
            last = page[-1]

    def overfull(self) -> bool:
        """Tell whether so many rows are rejected that going on would only add more."""
        return self._memory.count_rejects() >= self._mapping.max_rejects

    def _walk(self, span: Span, number: int | None, stop: threading.Event) -> bool:
        """Work on the rows of a span, page by page, and tell whether the end was reached."""
        while not stop.is_set():
            page = self._rows.page(span, self._mapping.batch)
            self._settle(page, self._progress(page))
            if number is not None:
                self._memory.see(number, map(key_text, page))
            if self.overfull():
                return False
            if len(page) < self._mapping.batch:
                return True
            span = Span(span.since, page[-1])
        return False

    def _progress(self, page: Sequence[Row]) -> Json | None:
        """Return how far the poller has come with a page, None when that is no further than before."""
        cursor = self._mapping.cursor
        last = next((row.cursor for row in reversed(page) if usable(row.cursor, cursor.format)), None)
        if last is None:
            return None
        newest = not_after(last, self._clock.now(), self._mapping.zone, cursor.format)
        before = self._newest()
        if before is not None and type(before) is not type(newest):
            raise TableMismatchError(f"游标列 {cursor.column} 换了类型，请把映射的 name 换新 (its type has changed)")
        if before is not None and newest <= before:
            return None
        return {**self._memory.progress, "column": cursor.column, "cursor": pack(newest)}

    def _newest(self) -> Any:  # noqa: ANN401  (a cursor)
        """Return the newest value known of the cursor that the mapping names now; None when there is none."""
        known = self._memory.progress
        return unpack(known.get("cursor")) if known.get("column") == self._mapping.cursor.column else None

    def _settle(self, page: Sequence[Row], progress: Json | None = None) -> None:
        decided = self._decider.page(page, self._known(list(map(key_text, page))), self._clock.now())
        decided.changes.progress = progress
        self._commit(decided)

    def _tell_gone(self, number: int) -> None:
        deleted = self._mapping.deleted
        if deleted is None:
            return
        count = self._memory.count_unseen(number)
        withheld = count if count > deleted.limit else 0
        self._metrics.withheld.set(withheld)
        if withheld:
            detail = f"对比少了 {count} 行，超过 deleted.limit {deleted.limit}，未发布；确认无误后调高它"
            log.warning("deletions_withheld", rows=count, limit=deleted.limit)
            self._duty.enter("working", f"{detail} (more rows are gone than the limit allows)")
            return
        self._duty.enter("working")
        gone = self._memory.unseen(number, deleted.limit)
        for start in range(0, len(gone), GONE_AT_ONCE):
            some = dict(islice(gone.items(), start, start + GONE_AT_ONCE))
            self._commit(self._decider.gone(some, self._known(some), self._clock.now()))

    def _known(self, keys: Sequence[str] | Mapping[str, Json]) -> Known:
        return Known(self._memory.states(keys), self._memory.rejects_of(keys))

    def _commit(self, decided: Decided) -> None:
        """Put the events and the changes on the log together, then remember them."""
        changes = decided.changes
        if changes or decided.events:
            last = {}

            def fill() -> None:
                for event in decided.events:
                    self._producer.send(event.topic, key=event.key, value=event.value, headers=event.headers)
                last.update(self._journal.write(self._producer, changes))

            self._duty.commit(self._producer, fill)
            for event in decided.events:
                self._decider.published(event)
            offsets = {number: sent.result(ACKNOWLEDGED_S).offset + 1 for number, sent in last.items()}
            self._memory.apply(changes, offsets)
            self._tell_rejects(changes)
        self._metrics.page_ended(decided.outcomes)

    @staticmethod
    def _tell_rejects(changes: Changes) -> None:
        for key, record in changes.rejects.items():
            if record is not None:
                log.warning("row_rejected", key=key, fields=[p["field"] for p in record["problems"]])

"""Takes files out of a drop folder: each is imported whole, then moved, and whatever fails in between is done again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from producers.client import Publisher
from producers.files.conflicts import WAIT_S, Conflicts, Placed
from producers.files.folder import DONE, REJECTED, DropFolder, Stamp, Waiting, being_written
from producers.files.importing import Importer, Rejects, Tally, type_in_name
from schemas.contracts import EventContract
from services.runtime import metrics
from services.runtime.clock import Clock
from services.runtime.errors import FieldProblem, InvalidError, UnavailableError
from services.runtime.lifecycle import outlast
from services.runtime.measuring import CollectorRegistry

log = structlog.get_logger()
State = Literal["starting", "working", "standby", "waiting"]
UNTYPED = "文件名不以事件类型开头，也没有设 HONGYAN_DROP__TYPE (no type in the file's name, and none is set)"


FindConflicts = Callable[[Placed, int, float, threading.Event], Conflicts | None]
"""Finds the conflicts of what was placed since a time (ms), waiting so many seconds for the router, or until stopped;
None while that is not known. Raises UnavailableError."""


class StoppedError(UnavailableError):
    """停止：文件留在 in/，下次整个重来 (stopping; the file stays and is taken again)"""


class DropMetrics:
    """Counters of one drop folder."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._files = metrics.DROP_FILES.on(registry)
        self._rows = metrics.DROP_ROWS.on(registry)
        self.waiting = metrics.DROP_WAITING.on(registry)

    def file_ended(self, outcome: str, tally: Tally, conflicting: int) -> None:
        """Count one file and its rows; the conflicting ones are among those accepted."""
        self._files.labels(outcome).inc()
        self._rows.labels("conflicting").inc(conflicting)
        self._rows.labels("accepted").inc(tally.accepted)
        self._rows.labels("rejected").inc(tally.rejected)


@dataclass(frozen=True, slots=True)
class DropRules:
    """Which type a file is of whose name does not say it, and how long a file must lie still (seconds)."""

    default_type: str | None
    settle_s: float
    poll_s: float


class Settling:
    """How long each file has looked the same. State; the clock is an argument."""

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._since: dict[Path, tuple[Stamp, float]] = {}

    def settled(self, waiting: list[Waiting], now_s: float) -> list[Waiting]:
        """Return the files that have not changed for the time that is asked, in the order given."""
        before = self._since
        self._since = {}
        for one in waiting:
            stamp, since = before.get(one.path, (None, now_s))
            self._since[one.path] = (one.stamp, since if stamp == one.stamp else now_s)
        return [one for one in waiting if now_s - self._since[one.path][1] >= self._settle_s]


class Drop:
    """Works on one folder until told to stop; a second process on it stands by."""

    def __init__(
        self,
        folder: DropFolder,
        contracts: Mapping[str, EventContract],
        publisher: Callable[[], Publisher],
        conflicts: FindConflicts,
        rules: DropRules,
        metrics: DropMetrics,
        clock: Clock,
    ) -> None:
        self._folder = folder
        self._contracts = contracts
        self._publisher = publisher
        self._conflicts = conflicts
        self._rules = rules
        self._metrics = metrics
        self._clock = clock
        self._router_behind = False
        self._state: State = "starting"
        self._detail: dict[str, object] = {}

    def condition(self) -> tuple[State, Mapping[str, object]]:
        """Return what it does now, with the file and row that it is at, or its trouble."""
        return self._state, self._detail

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop``; whatever is away is waited for."""
        outlast("drop", lambda: self._attempt(stop), stop)

    def _attempt(self, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                with self._folder.lock() as ours:
                    if ours:
                        self._work(stop)
                    else:
                        self._enter("standby")
                        stop.wait(self._rules.poll_s)
        except UnavailableError as error:
            self._enter("waiting", trouble=str(error))
            raise

    def _work(self, stop: threading.Event) -> None:
        settling = Settling(self._rules.settle_s)
        with self._publisher() as publisher:
            self._enter("working")
            while not stop.is_set():
                waiting = self._folder.waiting()
                self._metrics.waiting.set(len(waiting))
                for one in settling.settled(waiting, self._clock.monotonic()):
                    if stop.is_set():
                        return
                    self._take(publisher, one, stop)
                stop.wait(self._rules.poll_s)

    def _take(self, publisher: Publisher, waiting: Waiting, stop: threading.Event) -> None:
        """Import one file and move it; one that is written to meanwhile stays, and is taken again when it has settled.

        Raises UnavailableError: then the file is where it was.
        """
        if being_written(waiting.path):
            return
        contract = self._contract_of(waiting.path.name)
        if isinstance(contract, FieldProblem):
            with Rejects(self._folder.draft(waiting.path.name)) as rejects:
                rejects.write(0, (), [contract])
            if self._folder.unchanged(waiting):
                self._end(waiting, Tally(), 0, str(InvalidError([contract])))
            return
        importer, began_ms = Importer(publisher, contract), int(self._clock.now().timestamp() * 1000)
        tally, reason = self._import(importer, waiting, stop)
        conflicting = self._conflicting(importer, waiting, began_ms, stop)
        if self._folder.unchanged(waiting):
            self._end(waiting, tally, conflicting, reason)

    def _import(self, importer: Importer, waiting: Waiting, stop: threading.Event) -> tuple[Tally, str]:
        """Import a file, and return what it came to and why it was refused, empty when it could be read."""
        progress, path = Tally(), waiting.path

        def show(tally: Tally) -> None:
            nonlocal progress
            progress = tally
            self._detail = {"file": path.name, "rows": tally.rows}
            if stop.is_set():
                raise StoppedError

        try:
            importer.run(path, self._folder.draft(path.name), show)
        except InvalidError as error:
            return progress, str(error)
        finally:
            self._detail = {}
        return progress, ""

    def _conflicting(self, importer: Importer, waiting: Waiting, began_ms: int, stop: threading.Event) -> int:
        """Put the rows that stand on the log with other content beside the rejected ones, and return how many.

        A router that is away or behind is waited for once; while it stays so, files are not held up by it.
        """
        if not importer.placed:
            return 0
        found = self._conflicts(importer.placed, began_ms, 0.0 if self._router_behind else WAIT_S, stop)
        if stop.is_set():
            raise StoppedError
        self._router_behind = found is None
        if found is None:
            log.warning("conflicts_unknown", file=waiting.path.name)
            return 0
        if found.count:
            importer.reject_conflicts(waiting.path, self._folder.draft(waiting.path.name), found.hold)
        return found.count

    def _contract_of(self, name: str) -> EventContract | FieldProblem:
        named = type_in_name(name, self._contracts) or self._rules.default_type
        found = self._contracts.get(named or "")
        if found is not None:
            return found
        return FieldProblem("/file", UNTYPED if named is None else f"没有这个事件类型 (unknown type): {named}")

    def _end(self, waiting: Waiting, tally: Tally, conflicting: int, reason: str) -> None:
        name, outcome = waiting.path.name, REJECTED if tally.rejected or conflicting or reason else DONE
        self._folder.move(waiting, self._folder.place(outcome, name, self._clock.now()))
        self._metrics.file_ended(outcome, tally, conflicting)
        tell = log.info if outcome == DONE else log.warning
        counts = {"accepted": tally.accepted, "rejected": tally.rejected, "conflicting": conflicting}
        tell("file_taken", file=name, to=outcome, reason=reason, **counts)

    def _enter(self, state: State, **detail: object) -> None:
        if state != self._state:
            log.info("drop_changed", state=state)
        self._state, self._detail = state, detail

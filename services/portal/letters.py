"""Dead letters for people: a department's own for its people, all of them for who operates; corrected with a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from schemas.contracts import Contracts, EventContract
from services.identity.repository import DepartmentRepository
from services.portal.progress import Progress
from services.portal.seen import SeenField, personal_fields, seen_fields
from services.quarantine.desk import Correction, Desk
from services.quarantine.letters import Search
from services.runtime.errors import FieldProblem, ForbiddenError, HongyanError, InvalidError, UnavailableError
from services.subscriptions.control import Department
from services.subscriptions.rights import foreign_divisions, missing_rights

NEWEST = 5000
"""Of each stage so many of the newest are looked through."""
SHOWN = 200
MOST_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class SeenLetter:
    """A dead letter as somebody sees it; ``personal`` are the personal fields that they were shown."""

    letter: Mapping[str, Any]
    fields: Sequence[SeenField]
    contract: EventContract | None
    personal: Sequence[str]


class LetterDesk:
    """What pages do with dead letters. ``side`` is the department whose people ask, None for who operates."""

    def __init__(self, desk: Desk, departments: DepartmentRepository, contracts: Contracts) -> None:
        self._desk = desk
        self._departments = departments
        self._contracts = contracts

    def listing(self, side: str | None, search: Search) -> list[dict[str, Any]]:
        """Return the newest dead letters that fit, the newest first; raises NotFoundError or UnavailableError."""
        search = replace(search, limit=SHOWN + 1, newest=NEWEST)
        if side is not None:
            search = replace(search, source=self._department(side).source)
        return sorted(self._desk.letters.search(search), key=lambda one: str(one["at"]), reverse=True)

    def look(self, side: str | None, stage: str, offset: int) -> SeenLetter:
        """Return one; its publisher's people see all of it, others nothing personal."""
        letter = self._desk.show(stage, offset)
        whole = self._check(side, letter)
        contract = self._contracts.types.get(letter["attributes"].get("type", ""))
        data = letter["data"]
        fields = seen_fields(data, contract, whole=whole)
        return SeenLetter(letter, fields, contract, personal_fields(data, contract) if whole else ())

    def resubmit(self, side: str | None, stage: str, offset: int, correction: Correction) -> dict[str, Any]:
        """Put a corrected event on the log; raises as :meth:`services.quarantine.desk.Desk.resubmit` does.

        A department may publish by this what it may publish otherwise, and as nobody else.
        """
        letter = self._desk.letters.letter(stage, offset)
        self._check(side, letter.to_json())
        rights: Callable[..., Sequence[FieldProblem]] = lambda *_: ()  # noqa: E731
        if side is not None:
            department = self._department(side)
            rights = lambda contract, attributes, data: self._problems(department, contract, attributes, data)  # noqa: E731
        return self._desk.resubmit(stage, offset, correction, rights)

    def resubmit_all(
        self, side: str | None, numbers: Sequence[str], by: str, reason: str, progress: Progress
    ) -> list[dict[str, Any]]:
        """Put several on the log again as they are, and tell of each what became of it.

        Raises InvalidError (none, or too many) and what speaks against all of them: something is away.
        """
        if not 0 < len(numbers) <= MOST_AT_ONCE:
            detail = f"选 1 至 {MOST_AT_ONCE} 封 (choose from one to this many)"
            raise InvalidError([FieldProblem("/numbers", detail)])
        progress.sized(len(numbers))
        found = []
        for number in numbers:
            stage, _, offset = number.rpartition("/")
            try:
                record = self.resubmit(side, stage, int(offset), Correction(by, reason))
                found.append({"number": number, "event": record["event"], "why": None})
            except UnavailableError:
                raise
            except HongyanError as error:
                found.append({"number": number, "event": None, "why": str(error)})
            progress.step()
        return found

    def _check(self, side: str | None, letter: Mapping[str, Any]) -> bool:
        """Tell whether somebody may see a letter whole; raises ForbiddenError where they may not see it at all."""
        if side is None:
            return False
        if letter["attributes"].get("source") != self._department(side).source:
            raise ForbiddenError(f"死信 {letter['number']} 不归 {side} 看 (not theirs to see)")
        return True

    def _problems(
        self, department: Department, contract: EventContract, attributes: Mapping[str, str], data: Mapping[str, Any]
    ) -> list[FieldProblem]:
        return [
            *missing_rights(department, attributes, self._contracts.types),
            *foreign_divisions(department, contract, attributes, data),
        ]

    def _department(self, side: str) -> Department:
        row = next((one for one in self._departments.list() if one.id == side), None)
        if row is None:
            raise ForbiddenError(f"没有部门 {side} (no such department)")
        return Department(id=row.id, name=row.name, source=row.source, types=row.types, divisions=row.divisions)

"""Validation of an event's data against its contract: every bad field at once, odd but acceptable ones marked."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schemas.codec import to_jsonable
from schemas.contracts import ContractError, Contracts, EventContract, nested_record
from schemas.formats import normalise_certificate_no
from schemas.models import model_for

_MESSAGES = {
    "missing": "缺少必填字段 (missing)",
    "extra_forbidden": "没有这个字段 (unknown field)",
    "string_type": "应为文字 (text is needed)",
    "string_too_short": "不能为空 (empty)",
    "string_too_long": "至多 {max_length} 字 (at most {max_length} characters)",
    "too_short": "至少 {min_length} 项 (at least {min_length} items)",
    "too_long": "至多 {max_length} 项 (at most {max_length} items)",
    "list_type": "应为列表 (a list is needed)",
    "model_type": "应为对象 (an object is needed)",
    "bool_type": "应为 true 或 false (true or false is needed)",
    "bool_parsing": "应为 true 或 false (true or false is needed)",
    "int_type": "应为整数 (a whole number is needed)",
    "int_parsing": "应为整数 (a whole number is needed)",
    "int_from_float": "应为整数 (a whole number is needed)",
    "float_type": "应为数字 (a number is needed)",
    "float_parsing": "应为数字 (a number is needed)",
    "finite_number": "应为有限的数 (a finite number is needed)",
    "decimal_type": "应为数字 (a number is needed)",
    "decimal_parsing": "应为数字 (a number is needed)",
    "date_type": "应为日期，例 2025-12-31 (a date is needed)",
    "date_parsing": "应为日期，例 2025-12-31 (a date is needed)",
    "date_from_datetime_parsing": "应为日期，例 2025-12-31 (a date is needed)",
    "date_from_datetime_inexact": "应为日期，不带时刻 (a date without a time is needed)",
    "datetime_type": "应为时间，例 2025-12-31T09:30:00+08:00 (a time is needed)",
    "datetime_parsing": "应为时间，例 2025-12-31T09:30:00+08:00 (a time is needed)",
    "greater_than_equal": "不得小于 {ge} (at least {ge})",
    "greater_than": "应大于 {gt} (greater than {gt})",
    "less_than_equal": "不得大于 {le} (at most {le})",
    "less_than": "应小于 {lt} (less than {lt})",
}
"""What is said of each kind of pydantic's errors; the others are said in its own words."""
MARKS = ("check-character", "unusual-form", "offset-assumed")
"""Every quality mark that a value may get (domain rules 2.5, 3.1, 3.2)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One bad field: a JSON pointer into the data, and what is wrong with it."""

    pointer: str
    detail: str


class InvalidData(Exception):  # noqa: N818  (it carries problems, it is not one)
    """The data breaks its contract; ``problems`` names every bad field.

    ``sound`` is what is left, as the codec takes it, so that whatever hangs on it can be judged in the same answer.
    """

    retriable = False

    def __init__(self, problems: Sequence[Problem], sound: Mapping[str, Any]) -> None:
        super().__init__("; ".join(f"{p.pointer}: {p.detail}" for p in problems))
        self.problems = tuple(problems)
        self.sound = sound


@dataclass(frozen=True, slots=True)
class ValidationRules:
    """What is a matter of policy: refuse or mark what is odd; how far ahead of ``now`` a time may be.

    ``warnings`` says ``flag`` or ``reject`` by mark (``check-character``), by event type, or by ``TYPE:mark``.
    """

    reject_bad_uscc: bool = False
    future_skew: timedelta = timedelta(minutes=5)
    warnings: Mapping[str, str] = field(default_factory=dict)

    def refused_marks(self, contract: EventContract) -> frozenset[str]:
        """Return the marks with which an event of this type is refused: the most exact rule holds.

        ``TYPE:mark``, then the type, then the mark, then what the type's catalogue entry says; else it is flagged.
        """
        usual: dict[str, str] = {str(mark): rule for mark, rule in contract.catalogue.warnings.items()}
        if self.reject_bad_uscc:
            usual["check-character"] = "reject"
        rules = self.warnings

        def rule(mark: str) -> str:
            of_type = rules.get(f"{contract.type}:{mark}") or rules.get(contract.type)
            return of_type or rules.get(mark) or usual.get(mark, "flag")

        return frozenset(mark for mark in MARKS if rule(mark) == "reject")


@dataclass(frozen=True, slots=True)
class ValidData:
    """Data ready for the codec, derived fields and quality marks included."""

    data: dict[str, Any]
    quality: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Check:
    program: Any
    pointer: str
    message: str
    words: frozenset[str]


def _compiled(check: Mapping[str, str]) -> _Check:
    import cel  # brings a terminal library with it, and many types have no check

    words = frozenset(re.findall(r"\w+", check["cel"]))
    return _Check(cel.compile(check["cel"]), f"/{check['field']}", check["message"], words)


def _plain(value: object) -> object:
    """Return nested records as the codec takes them."""
    if isinstance(value, BaseModel):
        return {name: _plain(inner) for name, inner in value.__dict__.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


class Validator:
    """Validates the data of one event type; made once and used for every event."""

    def __init__(self, contract: EventContract, rules: ValidationRules) -> None:
        self._contract = contract
        self._rules = rules
        self._model = model_for(contract)
        self._refused = rules.refused_marks(contract)
        self._checks = [_compiled(check) for check in contract.schema.get("checks", ())]
        self._times = [f["name"] for f in contract.fields() if f.get("format") == "time"]
        self._nested = any(nested_record(f["type"]) is not None for f in contract.fields())
        self._derived = [(f["name"], f["derived"]) for f in contract.fields() if "derived" in f]

    def validate(self, data: Mapping[str, Any], now: datetime, marks: Sequence[str] = ()) -> ValidData:
        """Return the data as the codec takes it; raises InvalidData. ``marks`` are quality marks already known."""
        context = {"marks": list(marks), "refused_marks": self._refused}
        try:
            model = self._model.model_validate(data, context=context)
        except ValidationError as error:
            raise self._invalid(data, error.errors(include_url=False), now) from error
        valid = self._valid(model)
        problems = [*self._failed_checks(valid), *self._future_times(valid, now)]
        completed = self._complete(valid, context["marks"])  # type: ignore[arg-type]
        if problems:
            raise InvalidData(problems, completed.data)
        return completed

    def _valid(self, model: BaseModel) -> dict[str, Any]:
        if self._nested:
            return {name: _plain(value) for name, value in model.__dict__.items()}
        return dict(model.__dict__)

    def _invalid(self, data: Mapping[str, Any], errors: Sequence[ErrorDetails], now: datetime) -> InvalidData:
        """Judge the fields that are sound as well: the others are the sample's meanwhile, which is sound."""
        problems = [_problem(error) for error in errors]
        bad = {str(error["loc"][0]) for error in errors if error["loc"]}
        mended = {name: value for name, value in data.items() if name not in bad}
        mended |= {name: value for name, value in self._contract.sample.items() if name in bad}
        try:
            model = self._model.model_validate(mended, context={"marks": [], "refused_marks": self._refused})
        except ValidationError:
            return InvalidData(problems, {})
        valid = self._valid(model)
        problems += self._failed_checks(valid, bad)
        problems += [one for one in self._future_times(valid, now) if one.pointer[1:] not in bad]
        sound = self._complete(valid, []).data
        unsound = bad | {name for name, source in self._derived if source in bad}
        return InvalidData(problems, {name: value for name, value in sound.items() if name not in unsound})

    def _complete(self, valid: dict[str, Any], marks: list[str]) -> ValidData:
        for name, source in self._derived:
            valid[name] = marks if source == "quality" else normalise_certificate_no(valid[source])
        return ValidData(valid, marks)

    def _failed_checks(self, valid: Mapping[str, Any], unsound: Collection[str] = ()) -> list[Problem]:
        """Return what the checks say that are about sound fields only."""
        if not self._checks:
            return []
        plain = to_jsonable(valid)
        asked = [check for check in self._checks if check.words.isdisjoint(unsound)]
        return [Problem(check.pointer, check.message) for check in asked if not _holds(check.program, plain)]

    def _future_times(self, valid: Mapping[str, Any], now: datetime) -> list[Problem]:
        latest = now + self._rules.future_skew
        return [
            Problem(f"/{name}", f"时间在未来：{valid[name].isoformat()} (in the future)")
            for name in self._times
            if valid[name] is not None and valid[name] > latest
        ]


def contract_problems(contracts: Contracts) -> list[str]:
    """Return which types no event could be validated by: checks that don't compile, or a sample that breaks the rules.

    The samples stand in the documents and are what a developer copies.
    """
    problems, now = [], datetime.now(UTC)
    for name, contract in sorted(contracts.types.items()):
        try:
            Validator(contract, ValidationRules()).validate(contract.sample, now)
        except InvalidData as error:
            problems.append(f"{name}: sample.json: {error}")
        except (ContractError, ValueError) as error:
            problems.append(f"{name}: schema.avsc: {error}")
    return problems


def ensure_sound(contracts: Contracts) -> Contracts:
    """Return the contracts, once each of them has taken its own sample; raises ContractError that names the others."""
    problems = contract_problems(contracts)
    if problems:
        raise ContractError("; ".join(problems))
    return contracts


def _problem(error: ErrorDetails) -> Problem:
    pointer = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in error["loc"])
    return Problem(pointer, _said(error))


def _said(error: ErrorDetails) -> str:
    kind = error["type"]
    if kind in _MESSAGES:
        return _MESSAGES[kind].format(**error.get("ctx", {}))
    if kind == "literal_error":
        return f"应为其中之一 (one of): {error['ctx']['expected']}"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    return str(error["msg"])


def _holds(program: Any, plain: Mapping[str, Any]) -> bool:  # noqa: ANN401  (the library is untyped)
    """Tell whether a check holds; one that can't be reckoned, since a number is too large, does not."""
    try:
        return program.execute(plain) is True
    except (ArithmeticError, TypeError, ValueError):
        return False

"""What a metric is: a value that a statistician writes as YAML (docs/statistics.md), of a version that never changes.

A metric says which events, which of them (population), what is counted, by which time and period, how it may be broken
down, in which unit, rounded how, whose it is and where it is said so (domain rule 10.2).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from services.statistics.rounding import RULES, RoundingRule

Id = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{2,59}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
Month = Annotated[str, StringConstraints(pattern=r"^[12][0-9]{3}-(0[1-9]|1[0-2])$")]

Kind = Literal["events", "cases", "sum", "distinct", "mean", "speedup", "percentile", "ratio", "change", "share"]
Period = Literal["month", "year_to_date", "as_of"]
HAPPENED, RECORDED = "happened", "recordedtime"

_PARAMETERS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "sum": (frozenset({"sum"}), frozenset({"divide_by", "once_per"})),
    "distinct": (frozenset({"distinct"}), frozenset()),
    "mean": (frozenset({"mean"}), frozenset({"divide_by"})),
    "speedup": (frozenset({"speedup", "legal", "actual"}), frozenset()),
    "percentile": (frozenset({"percentile", "of"}), frozenset()),
    "ratio": (frozenset({"ratio"}), frozenset()),
    "change": (frozenset({"change", "against"}), frozenset()),
    "share": (frozenset({"share", "along"}), frozenset()),
}
"""The forms of ``count`` that have parameters: those needed and those allowed."""


class Counting(BaseModel):
    """What is counted.

    ``events``: each event. ``cases``: each case once, at its first valid event (as of: each that stands). ``sum``: a
    field over them, ``divide_by`` a whole number (fen to yuan), ``once_per`` another field's value, at its last event.
    ``distinct``: the different values of a field. ``mean``: of a field. ``speedup``: (legal limit - actual) / legal
    limit, ``pooled`` (sums first) or ``mean`` (of each case's own). ``percentile``: the smallest value that so many per
    cent do not exceed (nearest rank). Of other metrics: ``ratio``, ``change`` against an earlier month, and ``share``
    of each value along a dimension.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    field: str | None = None
    divide_by: Annotated[int, Field(ge=1)] = 1
    once_per: str | None = None
    legal: str | None = None
    actual: str | None = None
    weighting: Literal["pooled", "mean"] | None = None
    percentile: Annotated[int, Field(ge=1, le=100)] | None = None
    metrics: tuple[Id, ...] = ()
    against: Literal["previous_month", "same_month_last_year"] | None = None
    along: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _read(cls, written: object) -> object:
        """Read what YAML says: a word, or an object whose first key is the kind."""
        if isinstance(written, str):
            return {"kind": written}
        if not isinstance(written, Mapping) or "kind" in written:
            return written
        kind = next((name for name in _PARAMETERS if name in written), None)
        if kind is None:
            known = ", ".join(("events", "cases", *_PARAMETERS))
            raise ValueError(f"不知道要数什么，应为 (counts nothing known; it is one of) {known}")
        needed, allowed = _PARAMETERS[kind]
        if missing := sorted(needed - written.keys()):
            raise ValueError(f"{kind} 缺少 (lacks) {', '.join(missing)}")
        if unknown := sorted(written.keys() - needed - allowed):
            raise ValueError(f"{kind} 不认识 (does not know) {', '.join(map(str, unknown))}")
        return _parameters(kind, written)

    @property
    def derived(self) -> bool:
        """Tell whether it is computed from other metrics."""
        return bool(self.metrics)


def _parameters(kind: str, written: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": kind}
    rest = {name: value for name, value in written.items() if name != kind}
    match kind:
        case "speedup":
            found["weighting"] = written[kind]
        case "percentile":
            found |= {"percentile": written[kind], "field": rest.pop("of")}
        case "ratio":
            pair = written[kind]
            if not isinstance(pair, list) or len(pair) != 2:
                raise ValueError("ratio 应为两个指标 (is two metrics): [分子 numerator, 分母 denominator]")
            found["metrics"] = tuple(pair)
        case "change" | "share":
            found["metrics"] = (written[kind],)
        case _:
            found["field"] = written[kind]
    return found | rest


class Metric(BaseModel):
    """One definition. ``valid_from`` is the first month it holds for, where the metric was defined otherwise before.

    ``population`` is CEL over ``data``, ``type``, ``source``. ``ended_by`` (as of only) are the types whose event ends
    what the others began. ``time`` is ``happened`` (each type's own time field) or ``recordedtime``. ``deadline_from``
    names where the clock of ``data.deadline`` starts: ``published``, the Shanghai day on which the platform accepted
    the event, which is day 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Id
    version: Annotated[int, Field(ge=1)] = 1
    valid_from: Month | None = None
    label_zh: Text
    label_en: Text
    types: tuple[str, ...] = ()
    ended_by: tuple[str, ...] = ()
    population: str = "true"
    count: Counting
    time: Literal["happened", "recordedtime"] = "happened"
    deadline_from: Literal["published"] = "published"
    period: Period
    dimensions: tuple[str, ...] = ()
    unit: Text
    rounding: str = "exact"
    owner: Text
    source: Text
    note: str = ""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.count.derived == bool(self.types):
            raise ValueError(
                "types: 由其他指标计算的不写事件类型，其余必须写 (named unless it is computed from metrics)"
            )
        if self.ended_by and self.period != "as_of":
            raise ValueError("ended_by: 只用于 period: as_of (is for period as_of)")
        if self.rounding not in RULES:
            raise ValueError(f"rounding: 应为 (is one of) {', '.join(RULES)}")
        if self.count.kind == "share" and self.count.along not in self.dimensions:
            raise ValueError("count/along: 应在 dimensions 中 (is one of the dimensions)")
        return self

    @property
    def rule(self) -> RoundingRule:
        """Return how it is shown."""
        return RULES[self.rounding]

    @property
    def digest(self) -> str:
        """Return what this very definition is known by: a change of any part of it gives another."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:32]

    def canonical(self) -> str:
        """Return the definition as canonical JSON, from which :meth:`restore` makes it again."""
        said = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(said, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @classmethod
    def restore(cls, canonical: str) -> Metric:
        """Return the definition that was kept as canonical JSON."""
        return cls.model_validate_json(canonical)


def is_month(text: str) -> bool:
    """Tell whether text is a month like ``2025-12``."""
    return re.fullmatch(r"[12][0-9]{3}-(0[1-9]|1[0-2])", text) is not None

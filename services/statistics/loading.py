"""Loads definitions from YAML and checks them: what can't be computed says why now, not with a zero at month end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from services.runtime.errors import HongyanError, NotFoundError
from services.statistics.definition import Metric, Text
from services.statistics.population import Population, PopulationError, population
from services.statistics.shapes import PSEUDO_DIMENSIONS, Shape, matching

SHIPPED = Path(__file__).parent / "metrics"
_NEED_FIELDS = ("sum", "distinct", "mean", "percentile")
_NUMERIC = ("sum", "mean", "percentile")


class MetricsError(HongyanError):
    """Definitions are not in order."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class _File(BaseModel):
    """One file: what its metrics share unless they say otherwise, and the metrics."""

    model_config = ConfigDict(extra="forbid")

    title_zh: Text
    title_en: Text | None = None
    owner: Text
    source: Text
    metrics: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Group:
    """The metrics of one file, in its order."""

    name: str
    title_zh: str
    title_en: str
    ids: tuple[str, ...]


class Metrics:
    """All definitions that are loaded: of each metric its versions, and which one holds for a month."""

    def __init__(self, versions: Mapping[str, Sequence[Metric]], groups: Sequence[Group]) -> None:
        self._versions = versions
        self.groups = tuple(groups)

    def ids(self) -> list[str]:
        """Return all metric ids, in the order of the files."""
        return list(self._versions)

    def of(self, metric_id: str, month: str) -> Metric:
        """Return the definition that holds for a month: the newest that is valid from then or before."""
        versions = self._versions.get(metric_id)
        if versions is None:
            raise NotFoundError(f"没有指标 {metric_id} (no such metric)")
        valid = [one for one in versions if one.valid_from is None or one.valid_from <= month]
        if not valid:
            raise NotFoundError(f"指标 {metric_id} 在 {month} 尚未定义 (is not defined for that month)")
        return valid[-1]

    def holding(self, month: str) -> list[Metric]:
        """Return the definitions that hold for a month; a metric that is not defined yet is left out."""
        return [
            self.of(metric_id, month)
            for metric_id, versions in self._versions.items()
            if any(one.valid_from is None or one.valid_from <= month for one in versions)
        ]

    def all(self) -> Iterator[Metric]:
        """Give every version of every metric."""
        for versions in self._versions.values():
            yield from versions


def load_metrics(shapes: Mapping[str, Shape], folders: Iterable[Path] = (SHIPPED,)) -> Metrics:
    """Load every ``*.yaml`` of the folders; raises MetricsError with a line for each thing that is wrong."""
    problems: list[str] = []
    found: list[tuple[str, Metric]] = []
    groups: list[Group] = []
    for path in (path for folder in folders for path in sorted(folder.glob("*.yaml"))):
        file = _read(path, problems)
        if file is not None:
            metrics = list(_metrics(path.name, file, problems))
            found += [(path.name, metric) for metric in metrics]
            groups.append(
                Group(
                    path.stem,
                    file.title_zh,
                    file.title_en or file.title_zh,
                    tuple(dict.fromkeys(m.id for m in metrics)),
                )
            )
    versions = _by_id(found, problems)
    for name, metric in found:
        problems += [f"{name}: {metric.id}: {detail}" for detail in check(metric, shapes, versions)]
    if problems:
        raise MetricsError(problems)
    return Metrics(versions, groups)


def _read(path: Path, problems: list[str]) -> _File | None:
    try:
        return _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problems.append(f"{path.name}: 不能读取 (can't be read): {error}")
    except ValidationError as error:
        problems += [f"{path.name}: {detail}" for detail in _details(error)]
    return None


def _metrics(name: str, file: _File, problems: list[str]) -> Iterator[Metric]:
    shared = {"owner": file.owner, "source": file.source}
    for number, written in enumerate(file.metrics, start=1):
        try:
            yield Metric.model_validate(shared | written)
        except ValidationError as error:
            called = written.get("id", f"第 {number} 个指标 (metric {number})")
            problems += [f"{name}: {called}: {detail}" for detail in _details(error)]


def _details(error: ValidationError) -> list[str]:
    return [
        f"{'/'.join(map(str, one['loc'])) or '/'}: {one['msg'].removeprefix('Value error, ')}"
        for one in error.errors(include_url=False)
    ]


def _by_id(found: Sequence[tuple[str, Metric]], problems: list[str]) -> dict[str, list[Metric]]:
    versions: dict[str, list[Metric]] = {}
    for name, metric in found:
        before = versions.setdefault(metric.id, [])
        if any(one.version == metric.version for one in before):
            problems.append(f"{name}: {metric.id}: 第 {metric.version} 版定义了两次 (this version is defined twice)")
        before.append(metric)
    for metric_id, known in versions.items():
        known.sort(key=lambda one: one.version)
        starts = [one.valid_from or "" for one in known]
        if sorted(set(starts)) != starts:
            detail = "后一版的 valid_from 应晚于前一版 (each version is valid from a later month)"
            problems.append(f"{metric_id}: {detail}")
    return versions


def check(metric: Metric, shapes: Mapping[str, Shape], known: Mapping[str, Sequence[Metric]]) -> list[str]:
    """Return why a metric can't be computed; nothing when it can."""
    if metric.count.derived:
        return _check_derived(metric, known)
    problems = []
    for kind in (*metric.types, *metric.ended_by):
        if not any(found in shapes for found in matching([kind], shapes)):
            problems.append(f"types: 没有事件类型 (no such event type) {kind}")
    if problems:
        return problems
    for kind in matching(metric.types, shapes):
        problems += _check_fields(metric, shapes[kind])
    return problems or _check_population(metric, shapes)


def _check_derived(metric: Metric, known: Mapping[str, Sequence[Metric]]) -> list[str]:
    problems = []
    for other in metric.count.metrics:
        if other not in known:
            problems.append(f"count: 没有指标 (no such metric) {other}")
        elif any(one.count.derived for one in known[other]):
            problems.append(f"count: {other} 本身由其他指标计算，不能再引用 (is computed from metrics itself)")
        else:
            lacking = set(metric.dimensions) - set(known[other][-1].dimensions)
            problems += [f"dimensions: {other} 没有维度 (lacks) {name}" for name in sorted(lacking)]
            if known[other][-1].period != metric.period:
                problems.append(f"period: {other} 是 (has) {known[other][-1].period}，应相同 (they are to agree)")
    return problems


def _check_fields(metric: Metric, shape: Shape) -> Iterator[str]:
    counting = metric.count
    for dimension in metric.dimensions:
        if dimension not in (*shape.fields(), *PSEUDO_DIMENSIONS):
            yield f"dimensions: {dimension} 不是 {shape.type} 的字段 (no such field); {_list(shape.fields())}"
    named: list[tuple[str, str | None]] = [(counting.kind, counting.field)] if counting.kind in _NEED_FIELDS else []
    named += [("legal", counting.legal), ("actual", counting.actual)] if counting.kind == "speedup" else []
    named += [("once_per", counting.once_per)] if counting.once_per else []
    for where, name in named:
        if name not in shape.fields():
            yield f"count/{where}: {shape.type} 没有字段 {name} (no such field); {_list(shape.fields())}"
        elif where in (*_NUMERIC, "legal", "actual") and name not in shape.numbers:
            yield f"count/{where}: {name} 不是数 (is no number); {_list(shape.numbers)}"


def _check_population(metric: Metric, shapes: Mapping[str, Shape]) -> list[str]:
    try:
        found = population(metric.population)
    except PopulationError as error:
        return [f"population: {error}"]
    problems: list[str] = []
    for kind in matching(metric.types, shapes):
        shape = shapes[kind]
        for name in sorted(found.fields() - shape.fields()):
            problems.append(f"population: {kind} 没有字段 {name} (no such field); {_list(shape.fields())}")
        for name, text in found.compared():
            if text not in shape.symbols.get(name, (text,)):
                problems.append(f"population: {name} 不会是 (is never) {text!r}; {_list(shape.symbols[name])}")
        problems += _tried(found, shape) if not problems else []
    return problems


def _tried(found: Population, shape: Shape) -> list[str]:
    """Evaluate on the type's sample, and on samples without each field that an event may lack."""
    for missing in (None, *sorted(found.fields() & shape.nullable)):
        try:
            found.holds(shape.type, "urn:sc:sample", {**shape.sample, **({missing: None} if missing else {})})
        except PopulationError as error:
            hint = f"，{missing} 可能为空，先写 data.{missing} != null && … (may be null: test that first)"
            return [f"population: {error}{hint if missing else ''}"]
    return []


def _list(names: Iterable[str]) -> str:
    return f"有 (there are): {', '.join(sorted(names)) or '—'}"

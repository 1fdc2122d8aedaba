"""Closed figures for others: CSV, JSON and SDMX-CSV, with what every figure means beside it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from services.runtime.errors import ConflictError
from services.statistics.definition import Metric
from services.statistics.figure import Figure, Month, figure_of
from services.statistics.frozen import Decision
from services.statistics.reading import FigureReader

AGENCY = "HONGYAN"
DATAFLOW = "MONTHLY"
MEDIA_TYPES: Mapping[str, str] = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "sdmx": "application/vnd.sdmx.data+csv; version=2.0.0; charset=utf-8",
}
_BYTE_ORDER_MARK = "\ufeff"


class ExportFormat(StrEnum):
    """The forms of a download."""

    csv = "csv"
    json = "json"
    sdmx = "sdmx"


def export(reader: FigureReader, month: str, form: ExportFormat) -> str:
    """Return a closed month's figures; raises ConflictError while the month is open."""
    at = Month.parse(month)
    decision = reader.frozen.decision(at.number)
    if decision is None:
        raise ConflictError(f"{month} 尚未关账 (is not closed)")
    figures = list(_figures(reader, at, decision))
    match form:
        case ExportFormat.csv:
            return _BYTE_ORDER_MARK + _csv(figures, decision)
        case ExportFormat.sdmx:
            return _sdmx(figures)
        case _:
            return json.dumps(_document(figures, decision), ensure_ascii=False, indent=2)


def _figures(reader: FigureReader, month: Month, decision: Decision) -> Iterator[tuple[Metric, str, Figure]]:
    definitions = {metric.id: metric for metric in reader.frozen.definitions(month.number)}
    kept = reader.frozen.figures(month.number, decision.revision)
    for (metric_id, dimension, name), value in sorted(kept.items()):
        metric = definitions[metric_id]
        where = {dimension: name} if dimension else {}
        label = reader.label(dimension, name, str(month)) if dimension else ""
        yield metric, label, figure_of(metric, month, value.exact, value.count, where, "closed")


def _csv(figures: list[tuple[Metric, str, Figure]], decision: Decision) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(
        [
            "月份 month",
            "指标 metric",
            "名称 label",
            "周期 period",
            "维度 dimension",
            "取值 value",
            "取值名称 value label",
            "精确值 exact",
            "单位 unit",
            "显示值 shown",
            "显示单位 shown unit",
            "计数 count",
            "定义版本 version",
            "公布次第 revision",
            "负责单位 owner",
            "来源 source",
        ]
    )
    for metric, label, one in figures:
        dimension, name = next(iter(one.dimensions.items()), ("", ""))
        said = [one.month, one.metric_id, one.label_zh, one.period, dimension, name, label, one.to_json()["exact"]]
        said += [one.unit, one.shown, one.shown_unit, one.count, one.version, decision.revision]
        writer.writerow([*said, metric.owner, metric.source])
    return out.getvalue()


def _sdmx(figures: list[tuple[Metric, str, Figure]]) -> str:
    """Return SDMX-CSV 2.0: one row an observation, keyed by frequency, metric, dimension, value and period."""
    out = io.StringIO()
    writer = csv.writer(out)
    keys = ["FREQ", "INDICATOR", "BREAKDOWN", "BREAKDOWN_VALUE", "TIME_PERIOD"]
    attributes = ["OBS_VALUE", "UNIT_MEASURE", "OBS_STATUS", "PERIOD_TYPE", "DECIMALS", "DEFINITION_VERSION"]
    writer.writerow(["STRUCTURE", "STRUCTURE_ID", "ACTION", *keys, *attributes])
    for metric, _, one in figures:
        dimension, name = next(iter(one.dimensions.items()), ("_T", "_T"))
        exact = one.to_json()["exact"]
        status = "A" if exact is not None else "M"
        key = ["M", one.metric_id, dimension, name, one.month]
        rest = [exact, one.unit, status, one.period, metric.rule.decimals, one.version]
        writer.writerow(["dataflow", f"{AGENCY}:{DATAFLOW}(1.0)", "I", *key, *rest])
    return out.getvalue()


def _document(figures: list[tuple[Metric, str, Figure]], decision: Decision) -> dict[str, Any]:
    definitions = {metric.id: metric for metric, _, _ in figures}
    return {
        "month": str(Month.of_number(decision.month)),
        "state": decision.state,
        "revision": decision.revision,
        "decided_by": decision.decided_by,
        "reason": decision.reason,
        "override": decision.override,
        "refusals": list(decision.refusals),
        "decided_at": decision.decided_at.isoformat(),
        "digest": decision.digest,
        "positions": dict(decision.positions),
        "definitions": [json.loads(metric.canonical()) for metric in definitions.values()],
        "figures": [one.to_json() | ({"label": label} if label else {}) for _, label, one in figures],
    }

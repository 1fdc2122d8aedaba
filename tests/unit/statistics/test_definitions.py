"""Definitions of metrics: what is shipped can be computed, and what can't be says why when it is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.contracts import load_contracts
from services.runtime.errors import NotFoundError
from services.statistics.definition import Metric
from services.statistics.loading import Metrics, MetricsError, load_metrics
from services.statistics.rounding import RULES
from services.statistics.shapes import DELIVERY, shapes

SHAPES = shapes(load_contracts())
VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "data" / "statistics_vectors.json").read_text(encoding="utf-8")
)["rounding"]
GOOD: Mapping[str, Any] = {
    "id": "refused_completed",
    "label_zh": "不予许可办件",
    "label_en": "Refused",
    "types": ["cn.gov.sc.window.case.completed"],
    "population": 'data.result == "refused"',
    "count": "cases",
    "period": "month",
    "dimensions": ["department_code"],
    "unit": "件",
}


def load(folder: Path, *metrics: Mapping[str, Any]) -> Metrics:
    """Load these metrics from a file."""
    head = {"title_zh": "自定", "owner": "统计处", "source": "试验"}
    text = yaml.safe_dump(head | {"metrics": [dict(one) for one in metrics]}, allow_unicode=True)
    (folder / "own.yaml").write_text(text, encoding="utf-8")
    return load_metrics(SHAPES, [folder])


def test_every_shipped_metric_can_be_computed() -> None:
    """The shipped files load, and every metric says whose it is and where it comes from."""
    metrics = load_metrics(SHAPES)
    assert all(metric.owner and metric.source for metric in metrics.all())


def test_a_good_metric_loads(tmp_path: Path) -> None:
    """What the file shares goes to each metric, and the definition survives being kept as text."""
    metric = load(tmp_path, GOOD).of("refused_completed", "2025-12")
    assert (metric.owner, metric.version) == ("统计处", 1)
    assert Metric.restore(metric.canonical()) == metric


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"types": ["cn.gov.sc.window.case.done"]}, "没有事件类型 (no such event type) cn.gov.sc.window.case.done"),
        ({"types": []}, "由其他指标计算的不写事件类型"),
        ({"population": 'data.reslt == "x"'}, "没有字段 reslt (no such field); 有 (there are): "),
        ({"population": 'data.result == "refusd"'}, "result 不会是 (is never) 'refusd'"),
        ({"population": 'data.result in ["granted", "no"]'}, "result 不会是 (is never) 'no'"),
        ({"population": "data.result =="}, "CEL 不能编译"),
        ({"population": 'today == "x"'}, "CEL 只能用 data、type、source (names the unknown today)"),
        ({"population": "data.result"}, "应得 true 或 false"),
        ({"population": "data.result > 3"}, "不能求值"),
        ({"count": "case"}, "count/kind"),
        ({"count": {"total": "x"}}, "不知道要数什么"),
        ({"count": {"sum": "task_code"}}, "task_code 不是数 (is no number)"),
        ({"count": {"sum": "amount"}}, "没有字段 amount (no such field)"),
        ({"count": {"speedup": "pooled", "legal": "legal_days"}}, "speedup 缺少 (lacks) actual"),
        ({"count": {"distinct": "task_code", "of": "x"}}, "distinct 不认识 (does not know) of"),
        ({"dimensions": ["task"]}, "task 不是 cn.gov.sc.window.case.completed 的字段"),
        ({"rounding": "百件"}, "rounding: 应为 (is one of) exact"),
        ({"period": "week"}, "period"),
        ({"ended_by": ["cn.gov.sc.window.case.withdrawn"]}, "只用于 period: as_of"),
        ({"uniit": "件"}, "uniit"),
        (
            {"count": {"ratio": ["a_one", "b_two"]}, "types": [], "population": "true"},
            "没有指标 (no such metric) a_one",
        ),
    ],
)
def test_what_cannot_be_computed_says_why(tmp_path: Path, change: Mapping[str, Any], message: str) -> None:
    """The message names the file, the metric and what is wrong."""
    with pytest.raises(MetricsError) as raised:
        load(tmp_path, {**GOOD, **change})
    assert message in str(raised.value)
    assert str(raised.value).startswith("own.yaml: refused_completed: ")


def test_a_field_that_may_be_null_is_tried_as_null(tmp_path: Path) -> None:
    """A population that fails where the field is empty is told at load, and how to write it instead."""
    bad = GOOD | {
        "types": ["cn.gov.sc.enterprise.project.case.completed"],
        "population": "data.actual_days > 3",
    }
    with pytest.raises(MetricsError, match=r"先写 data.actual_days != null"):
        load(tmp_path, bad)
    good = load(tmp_path, bad | {"population": "data.actual_days != null && data.actual_days > 3"})
    assert good.ids() == ["refused_completed"]


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    """Two bad metrics give two lines."""
    with pytest.raises(MetricsError) as raised:
        load(tmp_path, GOOD | {"rounding": "x"}, GOOD | {"id": "second_one", "types": ["nothing"]})
    assert len(raised.value.problems) == 2


def test_a_version_holds_from_its_month(tmp_path: Path) -> None:
    """A changed definition is another version; which one holds follows from the month."""
    changed = GOOD | {"version": 2, "valid_from": "2026-01", "population": 'data.result != "granted"'}
    metrics = load(tmp_path, GOOD, changed)
    assert metrics.of("refused_completed", "2025-12").version == 1
    assert metrics.of("refused_completed", "2026-01").version == 2
    assert metrics.of("refused_completed", "2025-12").digest != metrics.of("refused_completed", "2026-01").digest
    with pytest.raises(NotFoundError):
        metrics.of("unknown_one", "2026-01")


def test_versions_have_different_months_and_numbers(tmp_path: Path) -> None:
    """Two definitions of one version, or of one month, are refused."""
    with pytest.raises(MetricsError, match="定义了两次"):
        load(tmp_path, GOOD, GOOD)
    with pytest.raises(MetricsError, match="晚于前一版"):
        load(tmp_path, GOOD, GOOD | {"version": 2})


def test_a_ratio_needs_metrics_that_are_counted(tmp_path: Path) -> None:
    """A ratio names two counted metrics of the same period, with its dimensions."""
    ratio = {k: v for k, v in GOOD.items() if k not in {"types", "population"}} | {
        "id": "refused_share",
        "count": {"ratio": ["refused_completed", "all_completed"]},
        "rounding": "%",
    }
    everything = GOOD | {"id": "all_completed", "population": "true"}
    assert load(tmp_path, GOOD, everything, ratio).of("refused_share", "2025-12").count.metrics == (
        "refused_completed",
        "all_completed",
    )
    with pytest.raises(MetricsError, match="all_completed 没有维度"):
        load(tmp_path, GOOD, everything | {"dimensions": []}, ratio)


def test_personal_fields_are_not_kept() -> None:
    """No fact has a field that its schema calls personal or sensitive, nor the quality marks."""
    for name, contract in load_contracts().types.items():
        sensitivities = contract.sensitivities()
        kept = SHAPES[name].fields()
        assert not {n for n in kept if sensitivities[n] in {"personal", "sensitive"}}, name
        assert "quality" not in kept
    assert DELIVERY in SHAPES


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: f"{case['kind']}-{case['half_up']}")
def test_every_rounding_vector(case: dict[str, Any]) -> None:
    """Half up at each boundary of the domain vectors, through the rules that definitions name."""
    decimals = {0: "exact", 1: "一位小数", 2: "两位小数"}
    match case["kind"]:
        case "count_to_wan":
            if case["count"] == 65950:  # two decimals asked of a count that the 万 rule shows with one
                return
            found = RULES["万件"].show(case["count"], "件")
        case "yuan_to_yi_yuan":
            found = RULES["亿元"].show(Decimal(case["yuan"]), "元")
        case "yuan_to_wan_yuan":
            found = RULES["万元"].show(Decimal(case["yuan"]), "元")
        case "ratio_to_percent":
            found = RULES["%"].show(Decimal(case["ratio"]), "比率")
        case _:
            found = RULES[decimals[case["decimals"]]].show(Decimal(case["value"]), "")
    expected = case["half_up"]
    # 9,950 shows one unit of 万 once rounded, and stays below 10,000: two decimals.
    assert found.value == expected

"""``hongyan figure``: one figure, broken down, or explained down to its events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

from services.runtime.errors import HongyanError
from services.runtime.settings import settings_for_cli
from services.runtime.terminal import Table
from services.statistics.figure import Figure
from services.statistics.lineage import Behind, Explanation, explain
from services.statistics.opening import open_figures

BASES = {"log": "按日志统计", "closed": "关账数", "published": "仅有公布数"}
MonthArgument = Annotated[str, typer.Argument(metavar="MONTH", help="年月，例 2025-12 (month)")]


def figure(
    month: MonthArgument,
    metric: Annotated[str, typer.Argument(help="指标标识，见 hongyan statistics metrics (metric)")],
    by: Annotated[str | None, typer.Option(help="按维度分列 (break down by a dimension)")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="只取维度的某值，例 division=510100 (only this value)")
    ] = None,
    top: Annotated[int | None, typer.Option(help="只列前几名 (only the largest)", min=1)] = None,
    months: Annotated[
        int | None, typer.Option(help="往前列几个月 (a series of so many months)", min=1, max=120)
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="已关账的月份也按现在所知 (as now known)")] = False,
    explained: Annotated[bool, typer.Option("--explain", help="定义、精确值与其后的事件 (down to its events)")] = False,
    all_ids: Annotated[bool, typer.Option("--all-ids", help="列出全部事件 (name every event)")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="输出 JSON (print JSON)")] = False,
) -> None:
    """查询一个统计数字，并可追溯到事件 (one figure, and the events behind it)."""
    with told():
        with open_figures(settings_for_cli()) as reader:
            if explained or all_ids:
                held = _dimensions(where or [])
                print_explanation(explain(reader, metric, month, where=held, all_ids=all_ids), as_json)
                return
            if by is not None:
                found: Sequence[Figure] = reader.breakdown(
                    metric, month, by, top, where=_dimensions(where or []), now=now
                )
                labels = [reader.label(by, one.dimensions[by], month) for one in found]
            elif months is not None:
                found = reader.series(metric, month, months)
                labels = [one.month for one in found]
            else:
                found = [reader.figure(metric, month, _dimensions(where or []), now=now)]
                labels = [found[0].label_zh]
        print_figures(found, labels, as_json)


@contextmanager
def told() -> Iterator[None]:
    """Tell an error of ours to people, and end with status 1."""
    try:
        yield
    except HongyanError as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error


def print_figures(found: Sequence[Figure], labels: Sequence[str], as_json: bool) -> None:
    """Print figures, one a line."""
    if as_json:
        said = [one.to_json() | {"label": label} for one, label in zip(found, labels, strict=True)]
        typer.echo(json.dumps(said, ensure_ascii=False, indent=2))
        return
    table = Table()
    for column in ("", "精确值", "显示", "依据"):
        table.add_column(column, justify="left" if column in {"", "依据"} else "right")
    for one, label in zip(found, labels, strict=True):
        exact = "—" if one.exact is None else f"{one.exact} {one.unit}"
        table.add_row(label, exact, f"{one.shown} {one.shown_unit}", BASES[one.basis])
    Console().print(table)


def print_explanation(found: Explanation, as_json: bool) -> None:
    """Print how a figure came about."""
    if as_json:
        typer.echo(json.dumps(found.to_json(), ensure_ascii=False, indent=2))
        return
    for line in _lines(found):
        typer.echo(line)


def _lines(found: Explanation) -> Iterator[str]:
    one, now, said = found.figure, found.as_now_known, found.definition
    yield f"{one.month} {one.label_zh}（{one.metric_id}，第 {one.version} 版，定义摘要 {said['digest'][:12]}）"
    if one.dimensions:
        yield f"  只取 (only) {'，'.join(f'{name}={value}' for name, value in one.dimensions.items())}"
    yield f"  显示 {one.shown} {one.shown_unit}，精确值 {one.exact} {one.unit}"
    yield f"  修约规则 {one.rounding}；{BASES[one.basis]}"
    if now.exact != one.exact:
        yield f"  现在所知 (as now known)：{now.exact} {now.unit}；差额见 hongyan statistics adjustments {one.month}"
    yield f"  总体 {said.get('population', '全部')}；计法 {_counting(said['count'])}；周期 {one.period}"
    if "deadline_from" in said:
        yield f"  时限起算 (the clock starts) {said['deadline_from']}：平台收到之日为第 0 日，至第 N 个工作日终了"
    yield f"  负责 {said['owner']}；来源 {said['source']}"
    yield from (f"  {gap}" for gap in found.gaps)
    if found.gaps:
        yield f"  关账时的事件摘要 (digest of its events at the closing) {found.digest or '—'}"
    elif found.digest is not None:
        yield f"  其后 {now.count} 项，有质量标记 {found.marked} 项，事件摘要 {found.digest}"
    yield from (f"  {_event(event)}" for event in found.sample)
    for part in found.parts:
        yield from (f"  {line}" for line in _lines(part))


def _counting(said: Any) -> str:  # noqa: ANN401  (a definition's part, as JSON)
    return " ".join(str(value) for value in said.values())


def _event(event: Behind) -> str:
    marks = f" [{event.marks}]" if event.marks else ""
    return f"{event.occurred_at} {event.source} {event.event_id} 办件 {event.case_key} {event.log}{marks}"


def _dimensions(pairs: Sequence[str]) -> dict[str, str]:
    found = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    if len(found) != len(pairs):
        raise typer.BadParameter("--where 应为 维度=取值 (is dimension=value)")
    return found

"""The result of a check, told to whoever ran it: the table, what follows from it, and where it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Column

from consumers.receiver.checking import BASE, TIMED, WITH_HANDLER
from services.runtime.terminal import Table, plain

NAME_WIDTH = 18
"""Leaves room for what to mend at 80 columns."""
_VERDICTS = {True: ("通过", "green"), False: ("未通过", "red"), None: ("未判定", "yellow")}


def print_result(document: Mapping[str, Any]) -> None:
    """Print every check and the conclusion; nothing is cut, however narrow the terminal."""
    named = Column("检查", overflow="fold", max_width=NAME_WIDTH)
    folded = [Column(name, overflow="fold") for name in ("结果", "应答", "毫秒", "说明")]
    table = Table(named, *folded, title=f"接收端检查 {document['url']}（时限 {document['limit_s']:g} 秒）")
    for one in document["checks"]:
        milliseconds = f"{one['milliseconds']:.0f}" if one["statuses"] else "—"
        table.add_row(
            one["title"], plain(*_VERDICTS[one["passed"]]), answers(one["statuses"]), milliseconds, one["detail"]
        )
    Console().print(table)
    typer.echo(f"结论：{conclusion(document)}")
    typer.echo(f"摘要 SHA-256：{document['digest']}")


def answers(statuses: Sequence[int | None]) -> str:
    """Return the statuses in a few words: those alike that follow each other are counted."""
    runs = [(status, len(list(run))) for status, run in groupby(statuses)]
    return " ".join(f"{status or '—'}" + (f"×{count}" if count > 1 else "") for status, count in runs) or "—"


def conclusion(document: Mapping[str, Any]) -> str:
    """Return what follows: live, mend the failed ones, or what keeps a good event from being taken in."""
    checks = {one["name"]: one for one in document["checks"]}
    if document["passed"]:
        passed = "全部通过，可以上线 (passed: ready to go live)"
        whole = checks[TIMED]["detail"] == WITH_HANDLER
        return passed if whole else f"{passed}；应答时间量了什么，见表中说明 (what the time includes is said above)"
    base = checks[BASE]
    if not base["passed"]:
        return f"签名正确的事件没有被接收，其余未判定 (a good event is not taken in)。{base['detail']}"
    return "未通过，按说明修改后重查 (not passed: mend what is said above and check again)"


def print_keeping(agency: str | None, out: Path | None, *, err: bool) -> None:
    """Print where the result is kept and how to see it again; ``err`` where the output is for a program."""
    if out is not None:
        typer.echo(f"结果文件 (evidence file)：{out}", err=err)
    if agency is not None:
        typer.echo(
            f"结果已存入 {agency} 的档案，再看用 (kept for the agency; see it again with)："
            f"hongyan agency evidence {agency}，或门户里该单位的页面 (or its page in the portal)",
            err=err,
        )
    if agency is None and out is None and not err:
        typer.echo("结果没有保存：--out 写成文件，--agency 存入单位的档案 (not kept: see --out, --agency)")

"""``hongyan simulate``: a synthetic month as CSV files."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from producers.simulation.month import MonthMaker
from producers.simulation.scribe import SimulatedFile
from producers.simulation.sections import section_files

LATE = "late"
_MONTH = re.compile(r"[12][0-9]{3}-(0[1-9]|1[0-2])")
README = """\
合成数据，不是真实办件。Synthetic data; no real case, person or institution.

由 `hongyan simulate {month} --seed {seed} --scale {scale}` 生成；相同参数得到相同文件。
用 `hongyan import 文件 --type 事件类型` 导入，事件类型是文件名去掉 -synthetic.csv 的部分。
late 目录里是关账之后才报来的该月办件，先关账再导入。late holds what is told after the month was closed.
"""


def simulate(
    month: Annotated[str, typer.Argument(help="年月，例 2025-12 (month)")],
    out: Annotated[Path, typer.Option(help="写到哪个目录 (folder to write to)")],
    seed: Annotated[int, typer.Option(help="随机种子 (seed)")] = 1,
    scale: Annotated[float, typer.Option(help="规模，1 为全量 (1 is the full month)", min=0.0001, max=1)] = 1.0,
) -> None:
    """生成一个月的合成办件事件，CSV (a synthetic month of case-level events)."""
    year, _, number = month.partition("-")
    if _MONTH.fullmatch(month) is None:
        raise typer.BadParameter(f"应为 2025-12 这样的年月 (a month like 2025-12): {month}")
    for file in write_month(int(year), int(number), out, seed, scale):
        typer.echo(f"{file.name}: {sum(1 for _ in file.open(encoding='utf-8-sig')) - 1} 行")
    typer.echo(f"关账之后才报来的 (told after the closing): {out / LATE}")


def write_month(year: int, month: int, out: Path, seed: int, scale: float) -> list[Path]:
    """Write a month's files, each named by its event type and marked synthetic; return their paths.

    What is told after the month was closed lies in the folder ``late``, whose paths are not among them.
    """
    out.mkdir(parents=True, exist_ok=True)
    text = README.format(month=f"{year}-{month:02d}", seed=seed, scale=scale)
    (out / "README-synthetic.txt").write_text(text, encoding="utf-8")
    maker = MonthMaker(year, month, seed, scale)
    own = maker.files()
    (out / LATE).mkdir(exist_ok=True)
    write_files(out / LATE, maker.late_files(own))
    return write_files(out, [*own, *section_files(year, month, seed, scale)])


def write_files(out: Path, files: Iterable[SimulatedFile]) -> list[Path]:
    """Write each file that has rows, named by its type; return their paths."""
    return [_write(out, file) for file in files if file.rows]


def type_of(path: Path) -> str:
    """Return the event type that a simulated file's name tells."""
    return path.name.removesuffix("-synthetic.csv")


def _write(out: Path, file: SimulatedFile) -> Path:
    path = out / f"{file.type}-synthetic.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as target:
        writer = csv.DictWriter(target, list(file.rows[0]))
        writer.writeheader()
        writer.writerows(file.rows)
    return path

"""docs/statistics.md, run as it is written: from YAML to a figure in the report, and through a closing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.runtime.settings import Settings, as_environment
from tests.conditions import eventually
from tests.processes import Processes

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]
PAGE = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh run\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page_as_written_takes_a_metric_from_yaml_to_the_report(
    installation: Settings, processes: Processes, tmp_path: Path
) -> None:
    """No Python is written: the figure is in the issue, equal to the one asked for, and survives the closing."""
    processes.start("statistics", installation)
    environment = {**os.environ, **as_environment(installation)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"

    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    load, write, use, look, issue, close, after = BLOCKS
    run(load)
    eventually(lambda: "未统计" not in run("hongyan statistics refusals 2025-12"), 60, "the count")
    assert "全部可以计算" in run(write)
    environment["HONGYAN_STATISTICS__METRICS"] = "metrics"
    assert "全部可以计算" in run(use)
    shown = run(look)
    figures = re.findall(r"不予许可办件\s+│\s+(\d+) 件", shown)
    assert int(figures[0]) > 0
    assert "事件摘要" in shown
    printed = run(issue)
    assert f"本月不予许可 {figures[0]} 件" in printed
    closed = run(close)
    assert "没有妨碍关账的事项" in closed
    assert re.search(r"2025-12 closed：\d+ 个数字，摘要 [0-9a-f]{64}\n已发布 1 个事件", closed)
    assert "张三：十二月按期关账" in closed
    done = run(after)
    assert "关账后没有变化" in done
    assert "2025-12 摘要相符" in done
    assert f",refused_completed,_T,_T,2025-12,{figures[0]}," in (tmp_path / "december-sdmx.csv").read_text("utf-8")
    assert run("hongyan report 2025-12 --bulletin bulletin").count(f"本月不予许可 {figures[0]} 件") == 1

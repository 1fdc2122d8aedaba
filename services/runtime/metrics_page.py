"""docs/reference/metrics.md, made from the metrics: ``python -m services.runtime.metrics_page [--check]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from services.runtime.measuring import HistogramSpec, Spec
from services.runtime.metrics import ALL, EVERY, HTTP

PAGE = Path("docs/reference/metrics.md")
TITLES = {EVERY: "每个进程 · Every process", HTTP: "提供 HTTP 的进程 · Processes that serve HTTP"}
KINDS = {"counter": "计数器 counter", "gauge": "瞬时值 gauge", "histogram": "直方图 histogram"}
HEAD = """<!-- 由 make docs 生成，请勿手改 (generated; don't edit) -->

# 指标 · Metrics

每个进程在自己的端口上以 `/metrics` 给出指标（Prometheus 文本格式；every process serves its own on `/metrics`）。
抓取、告警规则与面板见 `deploy/prometheus`、`deploy/grafana`。直方图另有 `_bucket`、`_sum`、`_count` 三种序列。
时间的单位是秒，大小的单位是字节，`_total` 只增不减，随进程重启归零。
"""


def page() -> str:
    """Return the page: a section for what every process has, for those with HTTP, and for each process."""
    sections: dict[tuple[str, ...], list[Spec]] = {}
    for spec in ALL:
        sections.setdefault(spec.processes, []).append(spec)
    return "\n".join([HEAD, *(_section(processes, specs) for processes, specs in sections.items())])


def _section(processes: tuple[str, ...], specs: Sequence[Spec]) -> str:
    named = "、".join(f"`{name}`" for name in processes)
    title = {EVERY: "每个进程 · Every process", HTTP: "提供 HTTP 的进程 · Processes that serve HTTP"}.get(
        processes, named
    )
    rows = [_row(spec) for spec in specs]
    told = [named, ""] if title != named and processes != EVERY else []
    return "\n".join(
        [f"## {title}", "", *told, "| 指标 | 类型 | 标签 | 单位 | 含义 |", "|---|---|---|---|---|", *rows, ""]
    )


def _row(spec: Spec) -> str:
    labels = "、".join(f"`{label}`" for label in spec.labels) or "—"
    unit = {"": "—", "seconds": "秒", "bytes": "字节", "timestamp": "Unix 时间，秒"}[spec.unit]
    buckets = f"；档 {'、'.join(f'{edge:g}' for edge in spec.buckets)}" if isinstance(spec, HistogramSpec) else ""
    return f"| `{spec.name}` | {KINDS[spec.kind]} | {labels} | {unit}{buckets} | {spec.zh} ({spec.en}) |"


def main(arguments: Sequence[str]) -> int:
    """Write the page, or with ``--check`` tell whether it stands there already."""
    made = page()
    if "--check" not in arguments:
        PAGE.write_text(made, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != made:
        sys.stderr.write(f"{PAGE}: 与代码不符，请运行 make docs (stale)\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

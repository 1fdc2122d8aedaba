"""The catalogue as Markdown: an index and a page for each event type. Written by a command, never by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.contracts import Contracts
from services.catalogue.entry import entry_of

WRITTEN_BY = "<!-- 由 make docs 生成，请勿手改 (generated; don't edit) -->\n"
INDEX = "README.md"
OTHERS = frozenset({"metrics.md"})
"""Pages of the reference that are made elsewhere."""
EFFECTS = {"ends": "终止：此后不再补送", "restores": "恢复：此后可再补送"}
SHARING = {"unconditional": "无条件共享", "conditional": "有条件共享", "none": "不予共享"}


def pages(contracts: Contracts) -> dict[str, str]:
    """Return every page by its file name."""
    entries = [entry_of(contracts.types[name]) for name in sorted(contracts.types)]
    return {INDEX: _index(entries)} | {f"{entry['type']}.md": _page(entry) for entry in entries}


def write(contracts: Contracts, folder: Path) -> int:
    """Write the pages, take away those of types that are gone, and return how many there are."""
    found = pages(contracts)
    folder.mkdir(parents=True, exist_ok=True)
    for old in _there(folder) - found.keys():
        (folder / old).unlink()
    for name, text in found.items():
        (folder / name).write_text(text, encoding="utf-8")
    return len(found)


def stale(contracts: Contracts, folder: Path) -> list[str]:
    """Return the names of pages that are missing, too many, or not what the schemas say."""
    found = pages(contracts)
    there = {name: (folder / name).read_text(encoding="utf-8") for name in _there(folder)}
    return sorted(name for name in found.keys() | there.keys() if found.get(name) != there.get(name))


def _there(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.md")} - OTHERS


def _index(entries: list[dict[str, Any]]) -> str:
    lines = [WRITTEN_BY, "# 目录 · Catalogue of event types\n"]
    lines.append(f"{len(entries)} 个事件类型。时限为法定工作日；后续＝送达所有收到过原件的单位。\n")
    domain = None
    for entry in entries:
        if entry["domain"] != domain:
            domain = entry["domain"]
            lines.append(
                f"\n## {domain}\n\n| 类型 | 名称 | 责任单位 | 共享属性 | 时限 | 后续 |\n|---|---|---|---|---|---|"
            )
        name = entry["type"]
        deadline = entry["deadline_working_days"] or "—"
        follows = "是" if entry["follow_up"] else ""
        lines.append(
            f"| [{name.removeprefix(f'cn.gov.sc.{domain}.')}]({name}.md) | {entry['title_zh']} | {entry['owner']} "
            f"| {SHARING[entry['sharing']]} | {deadline} | {follows} |"
        )
    return "\n".join(lines) + "\n"


def _page(entry: Mapping[str, Any]) -> str:
    facts = [
        ("类型 type", f"`{entry['type']}`"),
        ("责任单位 owner", entry["owner"]),
        ("法律依据 legal basis", "；".join(entry["legal_basis"])),
        ("共享属性 sharing", SHARING[entry["sharing"]]),
        ("使用条件 conditions", "；".join(entry["conditions"]) or "—"),
        ("法定时限 deadline", f"{days} 个工作日" if (days := entry["deadline_working_days"]) else "—"),
        ("保存期 retention", f"{entry['retention_days']} 天"),
        ("自然订阅者 natural subscribers", "；".join(entry["natural_subscribers"]) or "—"),
        ("通报对象 told by notice", "；".join(entry["notice"]) or "—"),
        ("业务主键 business key", "/".join(f"`{name}`" for name in entry["business_key"])),
        ("时间字段 time", f"`{entry['time_field']}`"),
        ("送达收到过原件的单位 follow-up", "是" if entry["follow_up"] else "否"),
        ("只送事件指名的单位 named receivers", f"`{named}`" if (named := entry["named_receivers"]) else "否"),
    ]
    if entry["effect"] is not None:
        facts.append(("对原事项 effect", EFFECTS[entry["effect"]]))
    lines = [WRITTEN_BY, f"# {entry['title_zh']} · {entry['title_en']}\n", "| | |\n|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts]
    lines.append("\n## 字段 · Fields\n\n| 字段 | 类型 | 必填 | 敏感度 | 形式 | 说明 |\n|---|---|---|---|---|---|")
    for field in entry["fields"]:
        needed = "平台填写" if field["derived"] else "是" if field["required"] else ""
        form = (field["form"] or "").replace("|", "\\|")
        meaning = field["doc"].replace("|", "\\|")
        lines.append(
            f"| `{field['name']}` | {field['type']} | {needed} | {field['sensitivity']} | {form} | {meaning} |"
        )
    if entry["checks"]:
        lines.append("\n## 检查 · Checks\n")
        lines += [f"- `{check['cel']}`：{check['message']}" for check in entry["checks"]]
    sample = json.dumps(entry["sample"], ensure_ascii=False, indent=2)
    lines.append(f"\n## 样例 · Sample (synthetic)\n\n```json\n{sample}\n```")
    return "\n".join(lines) + "\n"

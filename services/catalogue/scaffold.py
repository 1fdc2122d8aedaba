"""A new event type: a folder that loads at once, to be filled in."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from schemas.contracts import LEAST_RETENTION_DAYS, TYPE_START
from services.runtime.errors import FieldProblem, InvalidError

_TYPE = re.compile(rf"^{re.escape(TYPE_START)}\.(?P<domain>[a-z][a-z0-9-]*)\.(?P<name>[a-z][a-z0-9_.-]*[a-z0-9])$")


def scaffold(event_type: str, root: Path) -> Path:
    """Make the folder of a new type and return it; raises InvalidError for a bad name or one that is taken."""
    match = _TYPE.match(event_type)
    if match is None:
        detail = f"应形如 {TYPE_START}.<域>.<事物>.<动作> (a type is {TYPE_START}.<domain>.<thing>.<past participle>)"
        raise InvalidError([FieldProblem("/type", detail)])
    folder = root / match["domain"] / match["name"]
    if folder.exists():
        raise InvalidError([FieldProblem("/type", f"已经有了 (exists already): {event_type}")])
    folder.mkdir(parents=True)
    _write_json(folder / "schema.avsc", _schema(event_type, match["domain"], match["name"]))
    text = yaml.safe_dump(_catalogue(), allow_unicode=True, sort_keys=False)
    (folder / "catalogue.yaml").write_text(text, encoding="utf-8")
    sample = {"record_no": "SYN-001", "division": "510000", "occurred_at": "2025-12-01T09:00:00+08:00"}
    _write_json(folder / "sample.json", sample)
    return folder


def _schema(event_type: str, domain: str, name: str) -> dict[str, object]:
    words = re.split(r"[._-]", name)
    quality = '数据质量标记，形如“字段:标记”，由平台填写 (quality marks, "<field>:<mark>", written by the platform)'
    return {
        "type": "record",
        "name": "".join(word.capitalize() for word in (words if len(words) > 1 else [domain, *words])),
        "namespace": f"{TYPE_START}.{domain}",
        "doc": "名称 (what has happened)",
        "hongyan.type": event_type,
        "fields": [
            {
                "name": "record_no",
                "type": "string",
                "doc": "业务编号，签发系统内唯一 (number, unique in its issuing system)",
                "sensitivity": "public",
                "max_length": 50,
            },
            {
                "name": "division",
                "type": "string",
                "doc": "行政区划 (division, GB/T 2260)",
                "sensitivity": "public",
                "format": "division",
            },
            {
                "name": "occurred_at",
                "type": {"type": "long", "logicalType": "timestamp-millis"},
                "doc": "发生时间 (when it happened)",
                "sensitivity": "public",
                "format": "time",
            },
            {
                "name": "quality",
                "type": {"type": "array", "items": "string"},
                "doc": quality,
                "sensitivity": "internal",
                "default": [],
                "derived": "quality",
            },
        ],
    }


def _catalogue() -> dict[str, object]:
    return {
        "title_zh": "名称",
        "title_en": "What has happened",
        "owner": "责任单位",
        "legal_basis": ["《法律名称》第×条"],
        "sharing": "conditional",
        "conditions": ["限法定监管职责内使用"],
        "deadline_working_days": None,
        "retention_days": LEAST_RETENTION_DAYS,
        "follow_up": False,
        "natural_subscribers": [],
        "business_key": ["record_no"],
        "time_field": "occurred_at",
    }


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

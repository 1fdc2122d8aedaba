"""What the catalogue says of one event type, as plain data: the same for HTTP, the terminal and the documents."""

from __future__ import annotations

from typing import Any

from schemas.contracts import EventContract, Schema, walk_fields


def entry_of(contract: EventContract) -> dict[str, Any]:
    """Return the whole entry: what the law asks, and every field with its sensitivity, form and meaning."""
    said = contract.catalogue.model_dump(mode="json")
    return {
        "type": contract.type,
        "domain": contract.domain,
        "subject": contract.subject,
        **said,
        "fields": [_field(path, field) for path, field in walk_fields(contract.schema)],
        "checks": [{"field": c["field"], "cel": c["cel"], "message": c["message"]} for c in contract.schema["checks"]]
        if "checks" in contract.schema
        else [],
        "sample": dict(contract.sample),
    }


def summary_of(contract: EventContract) -> dict[str, Any]:
    """Return what a list shows of a type."""
    said = contract.catalogue
    return {
        "type": contract.type,
        "title_zh": said.title_zh,
        "title_en": said.title_en,
        "owner": said.owner,
        "sharing": said.sharing,
        "deadline_working_days": said.deadline_working_days,
        "follow_up": said.follow_up,
        "effect": said.effect,
    }


def _field(path: str, field: Schema) -> dict[str, Any]:
    return {
        "name": path,
        "type": type_name(field["type"]),
        "required": "default" not in field and "derived" not in field,
        "derived": "derived" in field,
        "sensitivity": field["sensitivity"],
        "form": _form(field),
        "doc": field["doc"],
    }


def type_name(kind: Any) -> str:  # noqa: ANN401  (an Avro type is text, a list or an object)
    """Return an Avro type in words: ``date``, ``string[]``, ``record[]``; null branches are left out."""
    if isinstance(kind, list):
        return " | ".join(type_name(branch) for branch in kind if branch != "null")
    if isinstance(kind, str):
        return kind
    if kind["type"] == "array":
        return f"{type_name(kind['items'])}[]"
    return str({"timestamp-millis": "time"}.get(kind.get("logicalType"), kind.get("logicalType", kind["type"])))


def _form(field: Schema) -> str | None:
    if "symbols" in field:
        return " | ".join(field["symbols"])
    if "format" in field:
        return str(field["format"])
    bounds = [f"{word} {field[name]}" for name, word in _BOUNDS if name in field]
    return ", ".join(bounds) or None


_BOUNDS = (("minimum", "≥"), ("maximum", "≤"), ("max_length", "length ≤"), ("min_items", "items ≥"))

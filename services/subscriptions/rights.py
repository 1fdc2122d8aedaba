"""What a department may publish: its own source, the types it was given, and of those the divisions it was given."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from schemas.contracts import EventContract
from services.runtime.errors import FieldProblem
from services.subscriptions.control import Department


def missing_rights(department: Department, attributes: Mapping[str, Any], known: Collection[str]) -> list[FieldProblem]:
    """Return what of source and type the department may not publish.

    A type that nobody has is an invalid event, not a missing right: validation names it.
    """
    problems = []
    event_type = attributes.get("type")
    if isinstance(event_type, str) and event_type in known and event_type not in department.types:
        detail = f"{department.name} 无权发布 {event_type} (no right to publish it)"
        problems.append(FieldProblem("/type", detail))
    if attributes["source"] != department.source:
        detail = f"此密钥的 source 是 {department.source} (the key's source is another)"
        problems.append(FieldProblem("/source", detail))
    return problems


def foreign_divisions(
    department: Department, contract: EventContract, attributes: Mapping[str, Any], data: object
) -> list[FieldProblem]:
    """Return each division of an event that the department may not publish for, by the field that names it.

    Both the attribute and the data are looked at: an attribute of one's own must not carry data of another's.
    """
    prefixes = tuple(department.prefixes(contract.type))
    if not prefixes:
        return []
    named = {f"/data/{f['name']}": f["name"] for f in contract.fields() if f.get("format") == "division"}
    codes = {
        pointer: str(data[name]) for pointer, name in named.items() if isinstance(data, Mapping) and data.get(name)
    }
    if attributes.get("division") is not None:
        codes["/division"] = str(attributes["division"])
    detail = f"{department.name} 只可发布这些区划 (only these divisions): {', '.join(prefixes)}"
    if not codes:
        return [FieldProblem("/division", f"缺少区划 (missing); {detail}")]
    return [FieldProblem(pointer, detail) for pointer, code in codes.items() if not code.strip().startswith(prefixes)]

"""What pydantic finds wrong with what was sent, for people: in Chinese first, under a pointer to the field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from services.runtime.errors import FieldProblem

_WHOLE, _NUMBER, _TEXT = "应为整数 (a whole number)", "应为数 (a number)", "应为文字 (text)"
_SAID = {
    "missing": "缺少 (required)",
    "extra_forbidden": "没有这个字段 (no such field)",
    "int_parsing": _WHOLE,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "finite_number": _NUMBER,
    "bool_parsing": "应为 true 或 false (true or false)",
    "bool_type": "应为 true 或 false (true or false)",
    "string_type": _TEXT,
    "list_type": "应为数组 (an array)",
    "dict_type": "应为对象 (an object)",
    "model_type": "应为对象 (an object)",
    "model_attributes_type": "应为对象 (an object)",
    "literal_error": "应为 {expected} (one of these)",
    "union_tag_invalid": "{discriminator} 应为 {expected_tags} (one of these)",
    "union_tag_not_found": "缺少 {discriminator} (required)",
    "greater_than_equal": "至少为 {ge} (at least)",
    "greater_than": "应大于 {gt} (greater than)",
    "less_than_equal": "至多为 {le} (at most)",
    "less_than": "应小于 {lt} (less than)",
    "string_too_short": "至少 {min_length} 个字 (at least so long)",
    "string_too_long": "至多 {max_length} 个字 (at most so long)",
    "too_short": "至少 {min_length} 项 (at least so many)",
    "too_long": "至多 {max_length} 项 (at most so many)",
    "string_pattern_mismatch": "写法不符 {pattern} (not of this form)",
    "json_invalid": "不是 JSON (no JSON): {error}",
    "value_error": "{error}",
}


def said_of(mistake: Mapping[str, Any]) -> str:
    """Return what is wrong with one field; what nobody has put in words here is said as pydantic says it."""
    said = _SAID.get(mistake["type"])
    return said.format_map(mistake.get("ctx", {})) if said is not None else str(mistake["msg"])


def bad_fields(mistakes: Iterable[Mapping[str, Any]], at: str = "") -> list[FieldProblem]:
    """Return each bad field, its pointer below ``at``."""
    return [FieldProblem("/".join([at, *map(str, one["loc"])]) or "/", said_of(one)) for one in mistakes]

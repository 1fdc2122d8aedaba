"""Names for people: of event types, divisions, and what a filter of a grant asks for. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from schemas.contracts import load_contracts, walk_fields
from schemas.formats import divisions
from schemas.labels import label_of
from services.portal.web.wording import Language, Text, say
from services.reporting.naming import symbols_of

_BILINGUAL = re.compile(
    r"^(?P<zh>.*?[\u3400-\u9fff].*?)\s*[(（](?P<en>[^()（）\u3400-\u9fff]*)[)）](?P<rest>.*)$", re.DOTALL
)


def in_language(language: Language, text: str) -> str:
    """Return the half of a message 「中文 (English)」 that somebody reads; what is not made so stays whole."""
    found = _BILINGUAL.match(text)
    if found is None:
        return text
    rest = found["rest"]
    return f"{found['zh']}{rest}" if language == "zh" else f"{found['en']}{rest}"


def type_name(kind: str | None, language: Language = "zh") -> str:
    """Return an event type's title, its name where the catalogue has none."""
    contract = load_contracts().types.get(kind or "")
    if contract is None:
        return kind or "—"
    return contract.catalogue.title_zh if language == "zh" else contract.catalogue.title_en


_LABELS: Mapping[str, Text] = {
    "reviewer_level": Text("审查机关层级"),
    "reviewer_division": Text("审查机关行政区划"),
    "institution_uscc": Text("医疗机构统一社会信用代码"),
    "registration_no": Text("医疗机构执业许可证登记号"),
    "superseded_by_normalised": Text("新证规范化文号"),
}
"""Fields whose doc speaks in English of the field before it."""
_SYMBOLS: Mapping[str, Text] = {
    "province": Text("省级"),
    "city": Text("市级"),
    "county": Text("县级"),
    "other": Text("其他"),
}
"""Symbols that a doc does not name in Chinese."""
MEDIA = (
    Text("影视"),
    Text("广播"),
    Text("报纸"),
    Text("期刊"),
    Text("户外"),
    Text("印刷品"),
    Text("网络"),
)
"""Symbols that are Chinese words."""


def field_label(field: Mapping[str, Any], language: Language) -> str:
    """Return what a field of a schema is called: without the symbols that its doc lists."""
    if field["name"] in _LABELS:
        return say(language, _LABELS[field["name"]])
    half = in_language(language, field["doc"])
    return re.split("[：:]", half)[0].strip() if "symbols" in field else half


def label_in(language: Language, label: str) -> str:
    """Return in a language the Chinese label that a field's doc begins with."""
    return label if language == "zh" else _english_labels().get(label, label)


@cache
def _english_labels() -> Mapping[str, str]:
    fields = [field for one in load_contracts().types.values() for _, field in walk_fields(one.schema)]
    return {label_of(field["doc"]): field_label(field, "en") for field in fields}


def symbol_name(field: Mapping[str, Any], symbol: str, language: Language) -> str:
    """Return the name of one of a field's symbols; the value as it is where it is none of them."""
    if symbol not in field.get("symbols", ()):
        return symbol
    if language == "en":
        return symbol.replace("_", " ") if symbol.isascii() else say("en", symbol)
    return symbols_of(field["doc"]).get(symbol, "") or str(_SYMBOLS.get(symbol, symbol))


def division_name(code: str | None) -> str:
    """Return a division's code with its name, that of its city where it has none of its own."""
    if not code:
        return "—"
    known = divisions()
    name = known.get(code) or known.get(code[:4].ljust(6, "0"))
    return f"{code} {name}" if name else code


_DIALECTS: Mapping[str, Text] = {
    "exact": Text("过滤条件不成立：要求 {attribute} 等于 {wanted}，这一件是 {actual}。"),
    "prefix": Text("过滤条件不成立：要求 {attribute} 以 {wanted} 开头，这一件是 {actual}。"),
    "suffix": Text("过滤条件不成立：要求 {attribute} 以 {wanted} 结尾，这一件是 {actual}。"),
}
_NAMES: Mapping[str, Text] = {
    "division": Text("行政区划 division"),
    "type": Text("事件类型 type"),
    "source": Text("发布部门 source"),
}


def filter_words(verdict: Mapping[str, Any], story: Mapping[str, Any]) -> tuple[Text, Mapping[str, object]]:
    """Return in words which filter said no: of filters within filters the innermost that did not hold."""
    ((dialect, operand),) = verdict["filter"].items()
    if dialect == "all":
        inner = next((one for one in verdict.get("inner", ()) if not one["holds"]), None)
        if inner is not None:
            return filter_words(inner, story)
    if "failed" in verdict:
        said = Text("过滤条件不能求值，视为不匹配：{filter}")
        return said, {"filter": _text(dialect, operand)}
    if dialect in _DIALECTS and isinstance(operand, Mapping):
        for name, wanted in operand.items():
            actual = story.get(name)
            if actual is None or not _holds(dialect, str(actual), str(wanted)):
                shown = "—" if actual is None else division_name(str(actual)) if name == "division" else str(actual)
                values = {"attribute": _NAMES.get(name, name), "wanted": wanted, "actual": shown}
                return _DIALECTS[dialect], values
    return Text("过滤条件不成立：{filter}"), {"filter": _text(dialect, operand)}


def _holds(dialect: str, actual: str, wanted: str) -> bool:
    match dialect:
        case "prefix":
            return actual.startswith(wanted)
        case "suffix":
            return actual.endswith(wanted)
        case _:
            return actual == wanted


def _text(dialect: str, operand: object) -> str:
    if dialect == "cel" and isinstance(operand, str):
        return operand
    return f"{dialect} {json.dumps(operand, ensure_ascii=False)}"

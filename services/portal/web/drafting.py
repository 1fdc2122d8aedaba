"""The form of a grant: what was written in it as an application, and the other way; problems by their field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.contracts import SENSITIVITIES, Contracts, EventContract, walk_fields
from schemas.labels import label_of
from schemas.times import SHANGHAI
from services.portal.subscriptions import TIMES, GrantBody
from services.routing.fields import FieldPolicy, Outcome
from services.runtime.errors import FieldProblem, InvalidError

RULES = 4
"""So many simple conditions the form has room for; others are written as expressions."""
TEXTS = ("basis", "scene", "scope", "method")
DIALECTS = ("exact", "prefix", "suffix")
MISSING = "必填 (missing)"
_SEPARATORS = re.compile(r"[\s,，、;；]+")
_OUTCOMES = ("grant", "mask", "drop")


@dataclass(frozen=True, slots=True)
class FieldChoice:
    """A field of the types chosen: what becomes of it, and what may be chosen for it."""

    path: str
    label: str
    sensitivity: str
    outcome: Outcome
    chosen: str
    choices: Sequence[str]


def body_of(form: Mapping[str, str], agency: str) -> GrantBody:
    """Return what a form applies for; raises InvalidError that names each bad field."""
    problems: list[FieldProblem] = []
    filters = [document for _, document in _filters(form, problems)]
    texts = {name: form.get(name, "").strip() for name in TEXTS}
    problems += [FieldProblem(f"/{name}", MISSING) for name, text in texts.items() if not text]
    problems += [FieldProblem(f"/{name}", "至多 500 字 (too long)") for name, text in texts.items() if len(text) > 500]
    types = chosen_types(form)
    if not types:
        problems.append(FieldProblem("/types", "至少选一个事件类型 (choose at least one type)"))
    if problems:
        raise InvalidError(problems)
    return GrantBody(
        agency=agency,
        types=types,
        filters=filters,
        **texts,
        **{name: form.get(name, "").strip() or None for name in (*TIMES, "replaces")},
        fields=policy_of_form(form),
        divisions=_listed(form.get("divisions", "")),
        forward_to=_listed(form.get("forward_to", "")),
    )


def form_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Return a grant as the form that says it."""
    form = {name: str(row[name]) for name in TEXTS}
    form |= {name: _local(row[name]) for name in TIMES if row[name]}
    form |= {f"type/{name}": "on" for name in row["types"]}
    form |= {name: " ".join(row[name]) for name in ("divisions", "forward_to")}
    form["replaces"] = row["replaces"] or ""
    form |= _filter_form(row["filters"])
    fields = row["fields"]
    form["fields"] = "whole" if fields is None else "policy"
    for level in (fields or {}).get("levels", ()):
        form[f"level/{level}"] = "on"
    for outcome in _OUTCOMES:
        form |= {f"field/{path}": outcome for path in (fields or {}).get(outcome, ())}
    return form


def chosen_types(form: Mapping[str, str]) -> list[str]:
    """Return the types that are ticked."""
    return sorted(name.removeprefix("type/") for name, value in form.items() if name.startswith("type/") and value)


def policy_of_form(form: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the field policy that a form says; None for whole events."""
    if form.get("fields", "policy") == "whole":
        return None
    policy: dict[str, Any] = {"levels": [level for level in SENSITIVITIES if form.get(f"level/{level}")]}
    for outcome in _OUTCOMES:
        paths = [n.removeprefix("field/") for n, value in form.items() if n.startswith("field/") and value == outcome]
        policy |= {outcome: sorted(paths)} if paths else {}
    return policy


def field_choices(form: Mapping[str, str], contracts: Contracts) -> list[FieldChoice]:
    """Return the fields of the types that are ticked, with what may be chosen for each.

    What is shown or masked must be in every type; the business key stands in the subject, and is not hidden.
    """
    known = [contracts.types[name] for name in chosen_types(form) if name in contracts.types]
    policy = FieldPolicy.of(policy_of_form(form) or {"levels": list(SENSITIVITIES)})
    keys = {name for one in known for name in one.catalogue.business_key}
    fields = {path: field for one in reversed(known) for path, field in walk_fields(one.schema)}
    return [
        FieldChoice(
            path,
            label_of(field["doc"]) or path,
            field["sensitivity"],
            policy.outcome(path, field["sensitivity"]),
            form.get(f"field/{path}", ""),
            _choices(path, known, keys),
        )
        for path, field in fields.items()
    ]


def place_of(pointer: str, form: Mapping[str, str]) -> str:
    """Return which field of the form a problem's pointer speaks of."""
    _, _, rest = pointer.partition("/")
    head, _, tail = rest.partition("/")
    number = tail.partition("/")[0]
    if head == "filters" and number.isdigit():
        places = [place for place, _ in _filters(form, [])]
        return places[int(number)] if int(number) < len(places) else "filters_json"
    return {"types": "types", "fields": "fields"}.get(head, head)


def problems_by_place(problems: Sequence[FieldProblem], form: Mapping[str, str]) -> dict[str, list[str]]:
    """Return what is wrong by the field of the form."""
    found: dict[str, list[str]] = {}
    for one in problems:
        found.setdefault(place_of(one.pointer, form), []).append(one.detail)
    return found


def _filters(form: Mapping[str, str], problems: list[FieldProblem]) -> list[tuple[str, dict[str, Any]]]:
    """Return the filters that a form says, each with the field that says it; all of them must hold."""
    found: list[tuple[str, dict[str, Any]]] = []
    for number in range(RULES):
        value = form.get(f"rule/{number}/value", "").strip()
        attribute = form.get(f"rule/{number}/attribute", "")
        dialect = form.get(f"rule/{number}/dialect", "exact")
        if value and attribute and dialect in DIALECTS:
            found.append((f"rule/{number}/value", {dialect: {attribute: value}}))
    found += [("cel", {"cel": line.strip()}) for line in form.get("cel", "").splitlines() if line.strip()]
    text = form.get("filters_json", "").strip()
    if text:
        found += [("filters_json", one) for one in _json(text, problems)]
    return found


def _json(text: str, problems: list[FieldProblem]) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError as error:
        problems.append(FieldProblem("/filters_json", f"不是 JSON (is no JSON): {error}"))
        return []
    found = found if isinstance(found, list) else [found]
    if not all(isinstance(one, dict) for one in found):
        problems.append(FieldProblem("/filters_json", "应为过滤器的数组 (an array of filters)"))
        return []
    return list(found)


def _filter_form(filters: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return filters in the fields that say them: simple ones as conditions, expressions as lines, others as JSON."""
    form: dict[str, str] = {}
    rules: list[tuple[str, str, str]] = []
    expressions, others = [], []
    for one in filters:
        ((dialect, operand),) = one.items()
        simple = dialect in DIALECTS and isinstance(operand, Mapping) and len(operand) == 1
        if simple and len(rules) < RULES:
            ((attribute, value),) = operand.items()
            rules.append((dialect, attribute, str(value)))
        elif dialect == "cel" and "\n" not in operand:
            expressions.append(operand)
        else:
            others.append(one)
    for number, (dialect, attribute, value) in enumerate(rules):
        form |= {
            f"rule/{number}/dialect": dialect,
            f"rule/{number}/attribute": attribute,
            f"rule/{number}/value": value,
        }
    form["cel"] = "\n".join(expressions)
    form["filters_json"] = json.dumps(others, ensure_ascii=False, indent=2) if others else ""
    return form


def _choices(path: str, types: Sequence[EventContract], keys: set[str]) -> list[str]:
    everywhere = all(path in one.sensitivities() for one in types)
    return [*(["grant"] if everywhere else []), *(["mask"] if everywhere and path not in keys else [])] + (
        ["drop"] if path not in keys else []
    )


def _listed(text: str) -> list[str]:
    return [one for one in _SEPARATORS.split(text) if one]


def _local(text: str) -> str:
    """Return a time as a form's field holds it: in Shanghai, to the minute."""
    return datetime.fromisoformat(text).astimezone(SHANGHAI).strftime("%Y-%m-%dT%H:%M")

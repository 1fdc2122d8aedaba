"""Every state of the pages on which people decide can be shown, in both languages: nothing that they name lacks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.contracts import load_contracts
from services.catalogue.entry import entry_of
from services.identity.people import Person, Role
from services.portal.differences import Difference
from services.portal.months import Decided, FigureView, MonthRow, MonthView, Title
from services.portal.schema_history import SchemaVersion
from services.portal.web.plain_words import field_label, label_in, symbol_name
from services.portal.web.remembering import Held
from services.portal.web.rendering import FOLDER, Statics, _environment
from services.portal.web.viewer import ROLE_NAMES, Viewer
from services.portal.web.wording import LANGUAGES, Text
from services.reporting.bulletin import Compared
from services.reporting.issuing import Format
from services.runtime.clock import SystemClock
from services.statistics.adjustments import Adjustment, Change
from services.statistics.balance import Balance
from services.statistics.closing import Outcome
from services.statistics.figure import Figure, Month
from services.statistics.frozen import Decision
from services.statistics.lineage import Behind, Explanation
from tests.events import ISSUED

NOW = datetime(2026, 1, 5, tzinfo=UTC)
TIME = "2025-12-01T00:00:00+08:00"
ENVIRONMENT = _environment(Statics(FOLDER / "static"), SystemClock())
REVOKED = load_contracts().types["cn.gov.sc.health.medical-ad-certificate.revoked"]
VIEWER = Viewer(
    language="zh",
    theme="auto",
    csrf="token",
    path="/month",
    address="",
    person=Person("li", "李四", roles=["statistician"]),
    session="s",
    roles=frozenset({Role.STATISTICIAN}),
)
MONTH = Month(2025, 12)
FIGURE = Figure("items_handled", 1, "办件", "Items", "2025-12", "month", 12, "件", "12", "件", "exact", 12)
EVENT = Behind("urn:h", "e1", "C1", TIME, "events/0@1", "division:assumed")
SAID = {"count": {"kind": "cases"}, "digest": "a" * 32, "owner": "o", "source": "s", "note": "n"}
COUNTED = Explanation(FIGURE, replace(FIGURE, exact=13), SAID, "d" * 64, 1, [EVENT], [], ["gap"])
OUTCOME = Outcome("2025-12", 2, "d" * 64, ("refusal",), 3, ("items_handled",))
DECISION = Decision(202512, 1, "closed", "李四", "r", "override", ("refusal",), {}, {}, "d" * 64, NOW)
VIEW = MonthView(
    MONTH,
    "closed",
    3,
    5,
    [DECISION, replace(DECISION, revision=2, state="restated", override=None)],
    [
        (Title("一", "One"), [Compared(FIGURE, replace(FIGURE, basis="published"), None, "—", "+1%")]),
        (Title("二", "Two"), []),
    ],
    [("部门", Balance("D1", 1, 0, 1, 0, 1, 2))],
    ["case"],
    ["gap"],
)
VERSIONS = [
    SchemaVersion(2, 5, REVOKED.schema, True, [Difference("a", "x", "y"), Difference("b", None, "z")], ["no"], []),
    SchemaVersion(1, 4, {}, False),
]
NESTED = {"any": [{"not": {"cel": "x"}}, {"exact": {"a": "b"}}, {"all": [{"prefix": {"a": "b"}}]}]}
VERDICT = {
    "subscription": "sub-1",
    "version": 1,
    "matches": False,
    "state": "active",
    "rights": [{"right": "division", "holds": False, "said": "x"}],
    "filters": [{"filter": NESTED, "holds": False, "failed": "f", "inner": [{"filter": {"cel": "x"}, "holds": True}]}],
}
GOT = {
    "how": "follow-up",
    "versions": {"sub-1": 1},
    "approved_by": {},
    "basis": {},
    "policy": None,
    "fields": {"a": "mask", "b": "show", "c": "drop"},
    "config": 1,
    "failed": ["sub-1"],
}
EXPLAINED: dict[str, Any] = {
    "kept": True,
    "got": [GOT],
    "then": [VERDICT],
    "now": [],
}
JOB = {"id": "j", "kind": "dry-run", "about": "a", "percent": None, "done": 0, "seconds": 3, "then": "/"}
HELD = Held(None, NOW, "PostgreSQL")
STATES: list[tuple[str, Mapping[str, Any]]] = [
    (
        "month/figure.html",
        {
            "month": MONTH,
            "view": FigureView(
                Explanation(FIGURE, FIGURE, SAID, None, 0, (), [COUNTED]),
                [FIGURE, replace(FIGURE, count=0)],
                ("division", "department_code"),
                "division",
                [("510000", "四川", FIGURE)],
            ),
            "where": {"department_code": "D1"},
            "dimension": "dimension.",
        },
    ),
    (
        "month/adjustments.html",
        {
            "month": "2025-12",
            "most": 1,
            "found": [
                Adjustment(FIGURE, FIGURE, [Change("added", True, EVENT), Change("removed", False, EVENT)]),
                Adjustment(FIGURE, FIGURE, []),
            ],
        },
    ),
    ("month/adjustments.html", {"month": "2025-12", "most": 1, "found": []}),
    ("month/decided.html", {"month": "2025-12", "found": Decided("restate", "2025-12", OUTCOME, "Kafka")}),
    ("month/decided.html", {"month": "2025-12", "found": Decided("provisional", "2025-12", None, None)}),
    ("month/report.html", {"month": MONTH, "formats": list(Format)}),
    ("month/one.html", {"view": VIEW, "formats": list(Format), "exports": ["csv"], "may_close": True}),
    (
        "month/one.html",
        {"view": MonthView(MONTH, "open", 0, 0, [], [], [], [], []), "formats": [], "exports": [], "may_close": False},
    ),
    ("month/list.html", {"rows": [MonthRow(MONTH, "closed", 3, 5, DECISION), MonthRow(MONTH, "open", 0, 0, None)]}),
    (
        "month/decide.html",
        {"view": VIEW, "closed": False, "refusals": ["x"], "refused": True, "form": {}, "error": None},
    ),
    ("month/decide.html", {"view": VIEW, "closed": True, "refusals": [], "refused": False, "form": {}, "error": "e"}),
    ("work/waiting.html", {"job": JOB | {"state": "waiting"}}),
    ("work/waiting.html", {"job": JOB | {"state": "running", "percent": 3, "done": 5}}),
    ("work/state.html", {"job": JOB | {"state": "failed"}}),
    ("parked/replayed.html", {"agency": "market", "found": {"back": [1], "superseded": {2: "r"}, "before": [3]}}),
    (
        "deadletters/resubmitted.html",
        {
            "found": [
                {"number": "router/1", "event": {"id": "e"}, "why": None},
                {"number": "router/2", "event": None, "why": "no"},
            ]
        },
    ),
    ("catalogue/one.html", {"entry": entry_of(REVOKED), "versions": VERSIONS, "unanswered": None, "sample": "{}"}),
    ("catalogue/one.html", {"entry": entry_of(REVOKED), "versions": [], "unanswered": "away", "sample": "{}"}),
    ("catalogue/version.html", {"entry": entry_of(REVOKED), "version": VERSIONS[0], "schema": "{}"}),
    ("events/_grants.html", {"found": EXPLAINED}),
    ("events/_grants.html", {"found": EXPLAINED | {"got": [], "kept": False}}),
]


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize(("template", "values"), STATES, ids=[f"{n}-{one[0]}" for n, one in enumerate(STATES)])
def test_every_state_of_a_page_can_be_shown(template: str, values: Mapping[str, Any], language: str) -> None:
    """Rare ones too: what is refused, half done, away, or has no events behind it."""
    shared = {"viewer": VIEWER, "language": language, "now": NOW, "held": HELD, "role_names": ROLE_NAMES}
    frame = {"navigation": [], "away": [], "note": None}
    said = ENVIRONMENT.get_template(template).render(**shared, **frame, **values)
    assert "{{" not in said
    assert "style=" not in said


def test_a_month_in_english_is_english_to_its_headings_and_units() -> None:
    """And what is counted is named: events are no receipts, and what 发布事件 leaves out is told."""
    published = replace(FIGURE, metric_id="push_published", unit="个", shown_unit="个")
    view = replace(
        VIEW, groups=[(Title("推送服务运行情况", "The delivery service"), [Compared(published, None, None, "", "")])]
    )
    shared = {"viewer": replace(VIEWER, language="en"), "now": NOW, "held": HELD, "role_names": ROLE_NAMES}
    values = {
        "view": view,
        "formats": [],
        "exports": [],
        "may_close": False,
        "navigation": [],
        "away": [],
        "note": None,
    }
    said = ENVIRONMENT.get_template("month/one.html").render(language="en", **shared, **values)
    for words in ("The delivery service", "3 valid events, 5 receipts", "without originals that were corrected"):
        assert words in said
    assert "推送服务" not in said
    assert " 个" not in said
    shown = '{% import "month/parts.html" as parts with context %}'
    shown += "|".join(f'{{{{ parts.unit("{unit}") }}}}' for unit in ("万件", "亿元", "亩"))
    assert ENVIRONMENT.from_string(shown).render(language="en", viewer=VIEWER) == "×10,000 cases|×100 million yuan|亩"
    assert ENVIRONMENT.from_string(shown).render(language="zh", viewer=VIEWER) == "万件|亿元|亩"


def test_fields_and_their_values_are_named_in_both_languages() -> None:
    """A label does not list the values, and no page shows a bare symbol where there is a word for it."""
    issued = {field["name"]: field for field in load_contracts().types[ISSUED].fields()}
    level, media = issued["reviewer_level"], issued["media_types"]
    assert [field_label(level, language) for language in LANGUAGES] == [
        "审查机关层级",
        "level of the reviewing authority",
    ]
    assert [symbol_name(level, "province", language) for language in LANGUAGES] == ["省级", "province"]
    assert [symbol_name(media, "户外", language) for language in LANGUAGES] == ["户外", "outdoor"]
    assert symbol_name(level, "unheard of", "zh") == "unheard of"
    assert [label_in(language, "核发日期") for language in LANGUAGES] == ["核发日期", "day of issue"]


@pytest.mark.parametrize("name", sorted(load_contracts().types))
def test_no_label_or_value_of_any_type_lacks_a_language(name: str) -> None:
    """Chinese labels and values hold Chinese, English ones none."""
    for field in load_contracts().types[name].fields():
        assert re.search("[\u4e00-\u9fff]", field_label(field, "zh")), field["name"]
        assert not re.search("[\u4e00-\u9fff|]", field_label(field, "en")), field["name"]
        for symbol in field.get("symbols", ()):
            assert re.search("[\u4e00-\u9fff]", symbol_name(field, symbol, "zh")), symbol
            assert not re.search("[\u4e00-\u9fff_]", symbol_name(field, symbol, "en")), symbol


def test_what_stands_within_a_text_is_said_in_the_same_language() -> None:
    """A page in English names types, attributes and reasons in English; what people have typed stays as it is."""
    source = "{{ _(text, n=name, total=2) }} {{ kind | type_name }} {{ '没有应答 (no answer)' | half }}"
    values = {"text": "{n} 人，共 {total} 人", "name": Text("事件类型 type"), "kind": REVOKED.type}
    said = {one: ENVIRONMENT.from_string(source).render(language=one, **values) for one in LANGUAGES}
    assert said["zh"] == f"事件类型 type 人，共 2 人 {REVOKED.catalogue.title_zh} 没有应答"
    assert REVOKED.catalogue.title_en in said["en"]
    assert not re.search("[\u4e00-\u9fff]", said["en"])

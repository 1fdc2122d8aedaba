"""The filter dialects against the CloudEvents Subscriptions specification, case by case and by properties."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.routing.filters import compile_filters
from services.routing.matching import Matcher
from services.runtime.errors import InvalidError
from services.subscriptions.control import Subscription

EVENT = {"type": "cn.gov.a.issued", "source": "urn:x", "division": "510100", "id": "1"}


def holds(*filters: Mapping[str, Any], data: Mapping[str, Any] | None = None) -> bool:
    """Tell whether filters match the event."""
    return compile_filters(filters, lambda: None)(EVENT, lambda: data or {}) is True


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ({"exact": {"type": "cn.gov.a.issued"}}, True),
        ({"exact": {"type": "CN.gov.a.issued"}}, False),
        ({"exact": {"type": "cn.gov.a.issued", "division": "510200"}}, False),
        ({"exact": {"absent": "x"}}, False),
        ({"prefix": {"division": "5101"}}, True),
        ({"prefix": {"division": "5102"}}, False),
        ({"suffix": {"type": ".issued"}}, True),
        ({"suffix": {"type": "issued.", "id": "1"}}, False),
        ({"all": [{"exact": {"id": "1"}}, {"prefix": {"type": "cn"}}]}, True),
        ({"all": [{"exact": {"id": "1"}}, {"exact": {"id": "2"}}]}, False),
        ({"any": [{"exact": {"id": "2"}}, {"exact": {"id": "1"}}]}, True),
        ({"not": {"exact": {"id": "2"}}}, True),
        ({"not": {"exact": {"absent": "x"}}}, True),
        ({"cel": "division.startsWith('5101') && id == '1'"}, True),
        ({"cel": "data.beds > 100"}, True),
        ({"cel": "data.beds"}, False),
    ],
)
def test_each_dialect_means_what_the_specification_says(expression: Mapping[str, Any], expected: bool) -> None:
    """Case-sensitive, all named attributes at once, a missing attribute never matches."""
    assert holds(expression, data={"beds": 200}) is expected


def test_all_filters_of_a_subscription_must_hold() -> None:
    """The list of filters is a conjunction, and an empty one holds."""
    assert holds()
    assert not holds({"exact": {"id": "1"}}, {"exact": {"id": "2"}})


@pytest.mark.parametrize(
    "expression",
    [
        {},
        {"exact": {}},
        {"exact": {"type": ""}},
        {"exact": {"Type": "x"}},
        {"exact": {"type": 1}},
        {"all": []},
        {"any": {}},
        {"not": []},
        {"sql": "TRUE"},
        {"exact": {"id": "1"}, "prefix": {"id": "1"}},
        {"cel": ""},
        {"cel": "1 +"},
    ],
)
def test_a_filter_that_does_not_compile_is_refused_by_its_place(expression: Mapping[str, Any]) -> None:
    """The pointer leads into the list of filters."""
    with pytest.raises(InvalidError) as caught:
        holds({"exact": {"id": "1"}}, expression)
    assert caught.value.problems[0].pointer.startswith("/filters/1")


FAILING = {"cel": "data.absent.deeper == 1"}
BAD_ON_SOME_DATA = [
    "data.absent.deeper == 1",
    "data.quality[3] == 'x'",
    "data.quality[-1] == 'x'",
    "data.quality['a'] == 1",
    "{'a': 1}['b'] == 1",
    "data.beds / 0 == 1",
    "data.big * data.big == 1",
    "uint(-1) == 1u",
    "int(data.name) == 1",
    "timestamp(data.name) > timestamp('2020-01-01T00:00:00Z')",
    "data.name.matches('(')",
    "data.name + 1 == 2",
    "data.nothing.size() > 0",
    "nosuch(1) == 2",
    "data.beds",
]


@pytest.mark.parametrize("expression", BAD_ON_SOME_DATA)
def test_an_expression_that_cannot_be_evaluated_has_not_matched_and_is_counted(expression: str) -> None:
    """Missing fields and places, numbers out of range, texts that are no numbers, what is no condition: no crash."""
    errors: list[int] = []
    data = {"beds": 1, "big": 2**62, "name": "甲", "quality": ["a"], "nothing": None}
    assert compile_filters([{"cel": expression}], lambda: errors.append(1))(EVENT, lambda: data) is None
    assert errors == [1]


SCALARS = st.sampled_from([None, True, 0, -1, 2**63 - 1, -(2**63), 0.0, 1.5, "", "x", "甲"])
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.fixed_dictionaries({"a": SCALARS})
TERMS = st.sampled_from(["data.a", "data.b", "data.a[0]", "data.b[7]", "data.c.a", "data.b['a']", "3", "'x'", "0.5"])
EXPRESSIONS = st.builds("{} {} {}".format, TERMS, st.sampled_from(["==", "<", "+", "*", "/", "%", "in"]), TERMS) | TERMS


@given(EXPRESSIONS, st.fixed_dictionaries({}, optional={"a": VALUES, "b": VALUES, "c": VALUES}))
def test_no_expression_stops_a_router_on_any_data(expression: str, data: dict[str, Any]) -> None:
    """Whatever the data holds: yes, no, or counted as not to be told; never an exception."""
    errors: list[int] = []
    found = compile_filters([{"cel": expression}], lambda: errors.append(1))(EVENT, lambda: data)
    assert found in {True, False, None}
    assert (found is None) == (errors == [1])


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([{"not": FAILING}], None),
        ([{"not": {"not": FAILING}}], None),
        ([{"not": {"all": [FAILING, {"exact": {"id": "1"}}]}}], None),
        ([{"all": [FAILING, {"exact": {"id": "2"}}]}], False),
        ([{"any": [FAILING, {"exact": {"id": "1"}}]}], True),
        ([{"any": [{"exact": {"id": "1"}}, FAILING]}], True),
        ([{"any": [FAILING, {"exact": {"id": "2"}}]}], None),
        ([{"exact": {"id": "1"}}, {"not": FAILING}], None),
    ],
)
def test_a_failing_expression_lets_nothing_through(filters: list[dict[str, Any]], expected: bool | None) -> None:
    """Not under a negation either; what the others decide is decided, in whatever order they stand."""
    assert compile_filters(filters, lambda: None)(EVENT, lambda: {"beds": 1}) is expected
    now = datetime(2026, 1, 1, tzinfo=UTC)
    got = Matcher([subscription("a", filters=filters)], lambda: now).match(EVENT, lambda: {"beds": 1})
    assert bool(got) is (expected is True)


LEAVES = st.tuples(
    st.sampled_from(["exact", "prefix", "suffix"]),
    st.sampled_from(["a", "b", "c"]),
    st.text("xy", min_size=1, max_size=2),
).map(lambda leaf: {leaf[0]: {leaf[1]: leaf[2]}})
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda f: {"all": f})
        | st.lists(inner, min_size=1, max_size=3).map(lambda f: {"any": f})
        | inner.map(lambda f: {"not": f})
    ),
    max_leaves=8,
)


def evaluated(tree: Mapping[str, Any], event: Mapping[str, str]) -> bool:
    """Evaluate a filter plainly, apart from the product's own code."""
    ((dialect, operand),) = tree.items()
    if dialect == "not":
        return not evaluated(operand, event)
    if dialect in {"all", "any"}:
        return (all if dialect == "all" else any)([evaluated(one, event) for one in operand])
    ((name, wanted),) = operand.items()
    value = event.get(name)
    if value is None:
        return False
    return {"exact": value == wanted, "prefix": value[: len(wanted)] == wanted, "suffix": value.endswith(wanted)}[
        dialect
    ]


@given(TREES, st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text("xy", min_size=1, max_size=3)))
def test_filters_agree_with_an_independent_evaluator(tree: Mapping[str, Any], event: Mapping[str, str]) -> None:
    """Whatever the nesting."""
    assert compile_filters([tree], lambda: None)(event, dict) is evaluated(tree, event)


def subscription(name: str, **changes: Any) -> Subscription:
    """Return an active grant for certificates."""
    return Subscription(name, f"agency-{name}", ["cn.gov.a.issued"], **changes)


def test_only_what_is_active_and_in_time_matches() -> None:
    """Suspended, ended and broken subscriptions match nothing, and never stop the others."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    subscriptions = [
        subscription("a"),
        subscription("b", state="suspended"),
        subscription("c", valid_until="2025-12-31T00:00:00+08:00"),
        subscription("d", valid_until="2026-12-31T00:00:00+08:00"),
        subscription("e", filters=[{"nonsense": 1}]),
    ]
    found = Matcher(subscriptions, lambda: now).match(EVENT, dict)
    assert found == {"agency-a": ["a"], "agency-d": ["d"]}


def test_data_is_decoded_once_and_only_when_asked_for() -> None:
    """Attribute filters never decode; several data filters share one decoding."""
    decoded: list[int] = []

    def data() -> Mapping[str, Any]:
        decoded.append(1)
        return {"beds": 200}

    now = lambda: datetime(2026, 1, 1, tzinfo=UTC)  # noqa: E731
    Matcher([subscription("a", filters=[{"exact": {"id": "1"}}])], now).match(EVENT, data)
    assert decoded == []
    by_data = [subscription(n, filters=[{"cel": "data.beds > 1"}]) for n in "ab"]
    assert len(Matcher(by_data, now).match(EVENT, data)) == 2
    assert decoded == [1]


def test_a_filter_on_data_holds_for_data_with_dates() -> None:
    """Decoded Avro has Python's dates, which CEL does not know: they are compared as ISO 8601 text."""
    data = {"division": "510700", "issued_on": date(2025, 12, 1), "at": datetime(2025, 12, 1, tzinfo=UTC)}
    wanted = Subscription("s", "a", ["t"], [{"cel": "data.division == '510700' && data.issued_on >= '2025-12-01'"}])
    matcher = Matcher([wanted], lambda: datetime(2026, 1, 1, tzinfo=UTC))
    assert matcher.match({"type": "t"}, lambda: data) == {"a": ["s"]}

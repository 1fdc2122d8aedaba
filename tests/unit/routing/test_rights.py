"""Rights at routing and the index over filters: who gets an event, against an evaluator that tries everybody."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import UndecodableValue
from services.routing.explain import explained
from services.routing.index import access_of
from services.routing.matching import Matcher
from services.subscriptions.control import Agency, Subscription
from tests.unit.routing.test_filters import LEAVES, TREES, evaluated

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KIND = "cn.gov.a.issued"
EVENT = {"type": KIND, "source": "urn:x", "id": "1"}


def agency(name: str, division: str = "510000", state: str = "active") -> Agency:
    """Return an agency."""
    return Agency(name, name, division, "http://x", state=state)


def matched(event: Mapping[str, str], agencies: list[Agency], *subscriptions: Subscription) -> dict[str, list[str]]:
    """Return who gets an event."""
    known = {one.id: one for one in agencies}
    return dict(Matcher(subscriptions, lambda: NOW, known, ["cn.gov.a.secret"]).match(event, dict))


def test_an_agency_gets_its_own_division_unless_the_grant_reaches_further() -> None:
    """成都 gets what is of 成都 and below, or what the grant names; what has no division, always."""
    city = agency("city", "510100")
    own = Subscription("own", "city", [KIND])
    whole = Subscription("whole", "city", [KIND], divisions=["51"])
    here, there = {**EVENT, "division": "510105"}, {**EVENT, "division": "510700"}
    assert matched(here, [city], own, whole) == {"city": ["own", "whole"]}
    assert matched(there, [city], own, whole) == {"city": ["whole"]}
    assert matched(EVENT, [city], own, whole) == {"city": ["own", "whole"]}


def test_what_may_be_forwarded_reaches_the_cities_it_concerns() -> None:
    """省→市州: the province's grant names both cities; each gets its own division's, and nobody that is not named."""
    agencies = [agency("province"), agency("a", "510100"), agency("b", "510700"), agency("c", "510100")]
    grant = Subscription("g", "province", [KIND], forward_to=["a", "b"])
    assert matched({**EVENT, "division": "510100"}, agencies, grant) == {"a": ["g"], "province": ["g"]}
    assert matched({**EVENT, "division": "510700"}, agencies, grant) == {"b": ["g"], "province": ["g"]}


def test_forwarding_reaches_no_further_than_the_grant() -> None:
    """A grant for 武侯区 gives 成都 what is of 武侯区 alone, one for 绵阳 nothing; the explanation says the same."""
    agencies = [agency("province"), agency("a", "510100")]
    known = {one.id: one for one in agencies}
    for divisions, here, there in ((["510107"], True, False), (["51"], True, True), (["5107"], False, False)):
        grant = Subscription("g", "province", [KIND], divisions=divisions, forward_to=["a"])
        for code, reached in (("510107", here), ("510105", there)):
            event = {**EVENT, "division": code}
            assert ("a" in matched(event, agencies, grant)) is reached
            said = explained(grant, "a", known, None, event, dict, NOW)
            named = {right["right"]: right["holds"] for right in said["rights"]}
            assert (said["matches"], named["division"]) == (reached, reached)
        assert ("a" in matched(EVENT, agencies, grant)) is here


def test_a_failure_on_one_event_says_nothing_of_the_next() -> None:
    """Not when the event that it failed on could not be decoded either."""
    grant = Subscription("g", "a", [KIND], [{"any": [{"cel": "int(id) == 1"}, {"cel": "data.beds == 1"}]}])
    matcher = Matcher([grant], lambda: NOW)

    def undecodable() -> dict[str, Any]:
        raise UndecodableValue("cut short")

    with pytest.raises(UndecodableValue):
        matcher.match({**EVENT, "id": "x"}, undecodable)
    failed: list[str] = []
    assert matcher.match(EVENT, dict, failed) == {"a": ["g"]}
    assert failed == []


def test_what_is_not_shared_reaches_nobody() -> None:
    """不予共享 refuses at routing too, whatever was approved before."""
    secret = {**EVENT, "type": "cn.gov.a.secret"}
    grant = Subscription("g", "a", ["cn.gov.a.secret", KIND])
    assert matched(secret, [agency("a")], grant) == {}
    assert matched(EVENT, [agency("a")], grant) == {"a": ["g"]}


def test_an_agency_must_be_known_and_open() -> None:
    """A suspended one's line is held, so its events wait; one that is unknown or closed gets none."""
    for state, reached in (("active", True), ("suspended", True), ("closed", False)):
        assert bool(matched(EVENT, [agency("a", state=state)], Subscription("g", "a", [KIND]))) is reached
    assert matched(EVENT, [], Subscription("g", "a", [KIND])) == {}


def test_a_grant_begins_and_ends_by_the_clock() -> None:
    """One matcher, asked again and again: nobody acts."""
    now = [datetime(2025, 12, 31, tzinfo=UTC)]
    grant = Subscription("g", "a", [KIND], valid_from="2026-01-01T00:00:00Z", valid_until="2026-01-02T00:00:00Z")
    matcher = Matcher([grant], lambda: now[0])
    found = []
    for day in (31, 1, 2):
        now[0] = datetime(2025 + (day < 31), 12 if day == 31 else 1, day, tzinfo=UTC)
        found.append(bool(matcher.match(EVENT, dict)))
    assert found == [False, True, False]


def test_an_expression_that_fails_names_its_subscriptions_and_stops_nobody() -> None:
    """Those that share it are all named; the others match as ever."""
    told: list[str] = []
    broken = [{"cel": "data.absent.deeper == 1"}]
    subscriptions = [Subscription(name, name, [KIND], broken) for name in "ab"] + [Subscription("c", "c", [KIND])]
    failed: list[str] = []
    matcher = Matcher(subscriptions, lambda: NOW, on_failed=told.extend)
    assert matcher.match(EVENT, lambda: {"beds": 1}, failed) == {"c": ["c"]}
    assert failed == told == ["a", "b"]


def test_access_finds_the_narrowest_attribute() -> None:
    """Exact before prefix, the longer prefix before the shorter; a negation finds nothing."""
    exact = access_of([{"prefix": {"division": "5101"}}, {"exact": {"source": "x"}}])
    assert exact is not None
    assert (exact.attribute, exact.length, exact.whole) == ("source", 0, False)
    either = access_of([{"any": [{"exact": {"division": "1"}}, {"exact": {"division": "2"}}]}])
    assert either is not None
    assert (either.values, either.whole) == ({"1", "2"}, True)
    assert access_of([{"not": {"exact": {"division": "1"}}}]) is None
    assert access_of([{"any": [{"exact": {"division": "1"}}, {"suffix": {"division": "2"}}]}]) is None


FILTERS = st.lists(TREES | LEAVES, max_size=2)
EVENTS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text("xy", min_size=1, max_size=3))
DIVISIONS = st.sampled_from(["510000", "510100", "510700", "510105"])


@settings(deadline=None)
@given(
    st.lists(st.tuples(FILTERS, DIVISIONS, st.lists(DIVISIONS, max_size=2)), max_size=12),
    EVENTS,
    st.none() | DIVISIONS,
)
def test_the_index_leaves_out_nobody_and_lets_in_nobody(
    grants: list[tuple[list[dict[str, Any]], str, list[str]]], attributes: dict[str, str], division: str | None
) -> None:
    """Whatever the filters, scopes and attributes: the same as trying every subscription by itself."""
    event = {**EVENT, **attributes} | ({"division": division} if division else {})
    agencies = {f"a{n}": agency(f"a{n}", grant[1]) for n, grant in enumerate(grants)}
    subscriptions = [
        Subscription(f"s{n}", f"a{n}", [KIND], filters, divisions=[d.rstrip("0") for d in divisions])
        for n, (filters, _, divisions) in enumerate(grants)
    ]

    def wanted(subscription: Subscription) -> bool:
        own = [agencies[subscription.agency].division.removesuffix("00").removesuffix("00")]
        scope = tuple(subscription.divisions or own)
        within = division is None or division.startswith(scope)
        return within and all(evaluated(one, event) for one in subscription.filters)

    found = Matcher(subscriptions, lambda: NOW, agencies).match(event, dict)
    assert found == {s.agency: [s.id] for s in subscriptions if wanted(s)}

"""What may be published: whatever is taken in can be read by the router, and what can't be is told all at once."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.publishing import Prepared, Publishing
from schemas.contracts import Schema, load_contracts
from schemas.reading import Unreadable, event_attributes
from schemas.registry_client import SchemaRefused
from schemas.topics import Topics
from services.runtime.clock import SystemClock
from services.runtime.errors import InvalidError, UnavailableError
from services.runtime.settings import GatewaySettings
from tests.events import ACCEPTED, ISSUED
from tests.fakes.schemas import MemorySchemas

PUBLISHING = Publishing(
    load_contracts(),
    MemorySchemas(),  # type: ignore[arg-type]
    "http://registry",
    Topics(),
    GatewaySettings(),
    SystemClock(),
)
SAMPLE = load_contracts().types[ISSUED].sample


def prepare(data: dict[str, Any] | None = None, **attributes: Any) -> Prepared:
    """Return an event of the certificate's sample with changes."""
    return PUBLISHING.prepare({"id": "1", "source": "urn:a", "type": ISSUED, **attributes}, SAMPLE | (data or {}))


def pointers(data: dict[str, Any] | None = None, **attributes: Any) -> set[str]:
    """Return what is wrong with it."""
    with pytest.raises(InvalidError) as caught:
        prepare(data, **attributes)
    return {problem.pointer for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"id": "a\0b"}, "/id"),
        ({"id": "a\nb"}, "/id"),
        ({"follows": "a\0"}, "/follows"),
        ({"traceparent": "\ud800"}, "/traceparent"),
        ({"data": {"certificate_no": "（川）医广〔2025〕第0000001\0号"}}, "/subject"),
        ({"time": "2025-12-01T09:00:00+08:00:30"}, "/time"),
        ({"time": "yesterday"}, "/time"),
        ({"time": "0001-01-01T00:00:00+14:00"}, "/time"),
        ({"time": "1880-01-01T00:00:00"}, "/time"),
    ],
)
def test_what_the_router_could_not_read_is_refused_by_name(changed: dict[str, Any], named: str) -> None:
    """Nobody gets 202 for an event that can only become a dead letter."""
    assert pointers(**changed) == {named}


TEXTS = st.text(st.characters(exclude_categories=()), max_size=8)
TIMES = st.one_of(
    st.datetimes().map(lambda at: at.isoformat()),
    st.datetimes(timezones=st.timezones()).map(lambda at: at.isoformat()),
)


@given(st.fixed_dictionaries({"id": TEXTS}, optional={"follows": TEXTS, "time": TIMES, "x": TEXTS}), TEXTS)
def test_whatever_is_taken_in_the_router_can_read(attributes: dict[str, str], number: str) -> None:
    """One rule on both sides."""
    try:
        prepared = prepare({"certificate_no": f"（川）医广〔2025〕第{number}号"}, **attributes)
    except InvalidError:
        return
    assert not isinstance(event_attributes(prepared.key, prepared.headers), Unreadable)


def test_every_bad_field_of_envelope_and_data_is_named_at_once() -> None:
    """Whatever the others are: the key is judged by sound fields, and so is each check that needs no bad one."""
    data = {"beds": -1, "valid_from": "2026-02-01", "valid_to": "2026-01-01"}
    assert pointers(data, division="999999", subject="zz", receivers="!!", specversion="2") == {
        "/specversion",
        "/subject",
        "/division",
        "/receivers",
        "/data/beds",
        "/data/valid_to",
    }
    assert "/subject" not in pointers({"certificate_no": ""}, subject="zz")
    assert pointers({"valid_from": "nonsense", "valid_to": "2026-01-01"}) == {"/data/valid_from"}


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        (ACCEPTED, {"occurred_at": 1764641700}),
        (ACCEPTED, {"occurred_at": 1764641700.5}),
        (ACCEPTED, {"occurred_at": "1764641700"}),
        (ACCEPTED, {"occurred_at": True}),
        (ISSUED, {"issued_on": 1764633600}),
        (ISSUED, {"issued_on": "1764633600"}),
        (ISSUED, {"issued_on": "2025-W49-2"}),
    ],
)
def test_a_number_is_no_time(kind: str, changed: dict[str, Any]) -> None:
    """It could be seconds or milliseconds of anything, and the event's own time would become the present."""
    (name,) = changed
    data = load_contracts().types[kind].sample | changed
    with pytest.raises(InvalidError) as caught:
        PUBLISHING.prepare({"id": "1", "source": "urn:a", "type": kind}, data)
    assert {problem.pointer for problem in caught.value.problems} == {f"/data/{name}"}


def test_a_time_that_python_gives_without_a_zone_is_shanghais() -> None:
    """As the same time given as text is, and marked likewise."""
    data = load_contracts().types[ACCEPTED].sample | {"occurred_at": datetime(2025, 12, 2, 10, 15)}
    prepared = PUBLISHING.prepare({"id": "1", "source": "urn:a", "type": ACCEPTED}, data)
    assert prepared.attributes["time"] == "2025-12-02T10:15:00+08:00"
    assert "time:offset-assumed" in prepared.quality


class Refusing(MemorySchemas):
    """A registry that takes no schema."""

    def id_of(self, subject: str, _schema: Schema) -> int:
        """Refuse it."""
        raise SchemaRefused(f"409 {subject}: beds has no default")


def test_a_schema_that_the_registry_refuses_is_named_and_tried_again() -> None:
    """Whoever runs the registry can mend it meanwhile; nothing ends by it, and the subject is told."""
    contracts = load_contracts()
    publishing = Publishing(contracts, Refusing(), "http://r", Topics(), GatewaySettings(), SystemClock())
    with pytest.raises(UnavailableError, match="beds has no default"):
        publishing.register_all()
    with pytest.raises(UnavailableError, match=contracts.types[ISSUED].subject):
        publishing.prepare({"id": "1", "source": "urn:a", "type": ISSUED}, SAMPLE)
    assert "beds has no default" in publishing.unregistered


def test_an_unknown_type_hides_no_other_problem() -> None:
    """And one that is missing is said to be."""
    assert pointers(id="", type="cn.gov.sc.nothing", Bad="x") == {"/id", "/type", "/Bad"}
    with pytest.raises(InvalidError, match="缺少必填属性"):
        prepare(type="")


@pytest.mark.parametrize("value", [None, -1, "x", 1.5, [], {}, True, "2025-13-01", 10**30, "", ["x", 1], {"a": 1}])
def test_what_is_wrong_with_a_field_is_said_in_chinese_first(value: object) -> None:
    """Of every field of every type, whatever stands in it: the person who mends it may read no English."""
    for contract in load_contracts().types.values():
        attributes = {"id": "1", "source": "urn:a", "type": contract.type}
        for name in contract.sample:
            try:
                PUBLISHING.prepare(attributes, {**contract.sample, name: value})
            except InvalidError as error:
                for problem in error.problems:
                    assert re.match(r"[^a-zA-Z]*[\u4e00-\u9fff]", problem.detail), problem

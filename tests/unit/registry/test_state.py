"""The fold: ids, versions, refusals and deletions from the log's entries alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry.avro import canonical
from services.registry.state import Changed, Deletion, Outcome, RefusedError, RegistryState, Version


def text(*fields: str, default: object = None) -> str:
    """Return the canonical text of a record with these string fields; a default makes them optional."""
    more = {} if default is None else {"default": default}
    return canonical(
        json.dumps({"type": "record", "name": "R", "fields": [{"name": f, "type": "string", **more} for f in fields]})
    )


ONE, TWO, INCOMPATIBLE = text(), text("a", default=""), text("must")


def apply(state: RegistryState, **entry: Any) -> Outcome | RefusedError:
    """Fold one entry."""
    return state.apply(json.dumps(entry).encode())


def register(state: RegistryState, subject: str, schema: str) -> Version:
    """Register a schema that is expected to be taken."""
    outcome = apply(state, kind="register", subject=subject, schema=schema)
    assert isinstance(outcome, Version)
    return outcome


def refused(outcome: Outcome | RefusedError) -> tuple[int, int]:
    """Return status and code of a refusal."""
    assert isinstance(outcome, RefusedError)
    return outcome.status, outcome.code


def test_versions_count_per_subject_and_ids_over_all() -> None:
    """The same schema has one id wherever it is registered, and each subject counts its own versions."""
    state = RegistryState()
    placed = [register(state, *what) for what in (("a", ONE), ("a", TWO), ("b", TWO), ("a", ONE))]
    assert [(v.subject, v.version, v.id) for v in placed] == [("a", 1, 1), ("a", 2, 2), ("b", 1, 2), ("a", 1, 1)]
    assert [(v.subject, v.version) for v in state.versions_of(2)] == [("a", 2), ("b", 1)]


def test_an_incompatible_schema_is_refused_and_nothing_changes() -> None:
    """The refusal names the subject and the field; the subject stays as it was."""
    state = RegistryState()
    register(state, "a", ONE)
    outcome = apply(state, kind="register", subject="a", schema=INCOMPATIBLE)
    assert refused(outcome) == (409, 409)
    assert "must has no default" in str(outcome)
    assert '"a"' in str(outcome)
    assert [v.text for v in state.versions("a")] == [ONE]
    assert list(state.schemas) == [1]


def test_an_id_does_not_hang_on_verdicts() -> None:
    """Whether an earlier entry was refused makes no difference to the id of a later one."""
    strict, lax = RegistryState(), RegistryState()
    apply(lax, kind="level", subject=None, value="NONE")
    for state in (strict, lax):
        register(state, "a", ONE)
        apply(state, kind="register", subject="a", schema=INCOMPATIBLE)
    assert register(strict, "b", TWO).id == register(lax, "b", TWO).id == 3


def test_a_subject_refused_at_first_does_not_exist() -> None:
    """Nothing is listed of a registration that never was."""
    state = RegistryState()
    assert refused(apply(state, kind="register", subject="a", schema="nonsense")) == (422, 42201)
    assert state.subjects(deleted=True) == []


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"kind":"register"}',
        b'{"kind":"register","subject":1,"schema":"{}"}',
        b'{"kind":"delete","subject":"a","version":"x"}',
        b'{"kind":"level","subject":null,"value":"SIDEWAYS"}',
        b'{"kind":"mode","subject":[],"value":"READONLY"}',
    ],
)
def test_a_record_that_is_no_entry_is_passed_over(value: bytes | None) -> None:
    """Whatever somebody else writes on the log, the fold reads on and ids stay."""
    state = RegistryState()
    assert refused(state.apply(value)) == (500, 50001)
    assert register(state, "a", ONE).id == 1


def test_a_subject_is_deleted_softly_then_for_good_and_its_ids_live_on() -> None:
    """What was written can be decoded for ever; the subject begins anew at version 1 with the id it had."""
    state = RegistryState()
    register(state, "a", ONE), register(state, "a", TWO)
    assert refused(apply(state, kind="delete", subject="a", permanent=True)) == (404, 40405)
    assert apply(state, kind="delete", subject="a") == Deletion([1, 2])
    assert refused(apply(state, kind="delete", subject="a")) == (404, 40404)
    assert state.subjects() == []
    assert state.subjects(deleted=True) == ["a"]
    assert apply(state, kind="delete", subject="a", permanent=True) == Deletion([1, 2])
    assert state.subjects(deleted=True) == []
    assert state.schemas == {1: ONE, 2: TWO}
    assert (register(state, "a", TWO).version, register(state, "b", ONE).id) == (1, 1)


def test_a_version_is_deleted_softly_then_for_good() -> None:
    """Numbers of deleted versions are not given again while the subject lives."""
    state = RegistryState()
    register(state, "a", ONE), register(state, "a", TWO)
    assert refused(apply(state, kind="delete", subject="a", version=9)) == (404, 40402)
    assert refused(apply(state, kind="delete", subject="a", version=2, permanent=True)) == (404, 40407)
    assert apply(state, kind="delete", subject="a", version=2) == Deletion([2])
    assert refused(apply(state, kind="delete", subject="a", version=2)) == (404, 40406)
    assert [v.version for v in state.versions("a")] == [1]
    assert [v.version for v in state.versions("a", deleted_only=True)] == [2]
    again = register(state, "a", TWO)
    assert (again.version, again.id) == (3, 2)
    assert apply(state, kind="delete", subject="a", version=2, permanent=True) == Deletion([2])
    assert [v.version for v in state.versions("a", deleted=True)] == [1, 3]


def test_a_subject_that_never_was_can_not_be_deleted() -> None:
    """The API's code for an unknown subject."""
    assert refused(apply(RegistryState(), kind="delete", subject="a")) == (404, 40401)


def test_a_subjects_level_stands_before_the_overall_one_and_goes_with_the_subject() -> None:
    """The level in force decides; taking it back falls back to the overall one, then to BACKWARD."""
    state = RegistryState()
    register(state, "a", ONE)
    assert apply(state, kind="level", subject=None, value="FULL") == Changed("BACKWARD")
    assert apply(state, kind="level", subject="a", value="NONE") == Changed("FULL")
    register(state, "a", INCOMPATIBLE)
    assert apply(state, kind="level", subject="a", value=None) == Changed("NONE")
    assert state.levels.of("a") == "FULL"
    apply(state, kind="level", subject="a", value="NONE")
    apply(state, kind="delete", subject="a")
    assert state.levels.of("a") == "FULL"
    assert apply(state, kind="level", subject=None, value=None) == Changed("FULL")
    assert state.levels.of() == "BACKWARD"


def test_nothing_is_written_in_read_only_mode_and_what_is_there_is_still_found() -> None:
    """Registering a known schema writes nothing, so it is answered."""
    state = RegistryState()
    register(state, "a", ONE)
    assert apply(state, kind="mode", subject="a", value="READONLY") == Changed("READWRITE")
    assert register(state, "a", ONE).id == 1
    assert refused(apply(state, kind="register", subject="a", schema=TWO)) == (422, 42205)
    assert refused(apply(state, kind="delete", subject="a")) == (422, 42205)
    assert refused(apply(state, kind="level", subject="a", value="NONE")) == (422, 42205)
    register(state, "b", TWO)
    apply(state, kind="mode", subject="a", value=None)
    register(state, "a", TWO)


@pytest.mark.parametrize(
    ("wanted", "code"),
    [("3", 40402), ("0", 42202), ("-2", 42202), ("first", 42202), ("٣", 42202), ("2147483648", 42202)],
)
def test_a_version_that_is_not_there_has_the_apis_code(wanted: str, code: int) -> None:
    """Missing and impossible versions are told apart."""
    state = RegistryState()
    register(state, "a", ONE)
    with pytest.raises(RefusedError) as caught:
        state.version("a", wanted)
    assert caught.value.code == code


SUBJECTS = st.sampled_from(["a", "b"])
ENTRIES = st.one_of(
    st.builds(
        lambda s, t: {"kind": "register", "subject": s, "schema": t},
        SUBJECTS,
        st.sampled_from([ONE, TWO, INCOMPATIBLE, text("b", default="x"), "nonsense"]),
    ),
    st.builds(
        lambda s, v, p: {"kind": "delete", "subject": s, "version": v, "permanent": p},
        SUBJECTS,
        st.sampled_from([None, 1, 2]),
        st.booleans(),
    ),
    st.builds(
        lambda s, v: {"kind": "level", "subject": s, "value": v},
        st.sampled_from([None, "a"]),
        st.sampled_from([None, "NONE", "FULL"]),
    ),
    st.just({"kind": "garbage"}),
)


@given(st.lists(ENTRIES, max_size=30))
def test_ids_are_for_ever_and_two_folds_agree(entries: list[dict[str, Any]]) -> None:
    """At no point of any log does an id change its schema, a text its id, or one instance differ from another."""
    one, other = RegistryState(), RegistryState()
    seen: dict[int, str] = {}
    for entry in entries:
        outcomes = [apply(state, **entry) for state in (one, other)]
        assert str(outcomes[0]).split("parsed")[0] == str(outcomes[1]).split("parsed")[0]
        assert seen.items() <= one.schemas.items()
        assert len(set(one.schemas.values())) == len(one.schemas)
        seen = dict(one.schemas)
    for name in one.subjects(deleted=True):
        numbers = [v.version for v in one.versions(name, deleted=True)]
        assert numbers == sorted(set(numbers))
        assert all(one.schemas[v.id] == v.text for v in one.versions(name, deleted=True))

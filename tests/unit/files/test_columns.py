"""Which column is which field, and how a cell is read."""

from __future__ import annotations

import json

import pytest

from producers.files.columns import REASON_COLUMNS, Columns
from schemas.contracts import load_contracts
from schemas.labels import label_of, symbol_labels
from services.runtime.errors import InvalidError
from tests.events import ACCEPTED, ISSUED

TYPES = load_contracts().types


def test_a_label_is_what_the_doc_begins_with() -> None:
    """Up to the first mark of punctuation, Chinese or not."""
    docs = [
        "办件编号，签发系统内唯一 (case number)",
        "审查机关层级 (its level): province",
        "办理方式：online 全程网办 (how)",
    ]
    assert [label_of(doc) for doc in docs] == ["办件编号", "审查机关层级", "办理方式"]


def test_symbols_are_known_by_the_labels_that_the_doc_gives_them() -> None:
    """And one without a label by its name alone."""
    field = next(f for f in TYPES[ACCEPTED].fields() if f["name"] == "level")
    assert symbol_labels(field) == {"省本级": "province"}


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_every_type_can_be_written_under_its_own_labels(kind: str) -> None:
    """A header of all labels gives the same data as a header of all names, nested records as JSON."""
    contract = TYPES[kind]
    fields = [f for f in contract.fields() if f["name"] in contract.sample]
    cells = [_cell(contract.sample[f["name"]]) for f in fields]
    by_name = Columns(contract, [f["name"] for f in fields]).split(cells)
    assert Columns(contract, [label_of(f["doc"]) for f in fields]).split(cells) == by_name
    assert len(by_name[1]) == len(fields)


def _cell(value: object) -> str:
    if isinstance(value, list) and not any(isinstance(item, dict) for item in value):
        return "；".join(map(str, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def test_cells_are_read_as_people_write_them() -> None:
    """Symbols by their labels, dates of spreadsheets, lists with either semicolon, and nothing for an empty cell."""
    _, data = Columns(TYPES[ACCEPTED], ["办理方式", "occurred_at", "层级", "部门名称"]).split(
        ["全程网办", "2025/12/2 9:05:00", "county", "  "]
    )
    assert data == {"handling": "online", "occurred_at": "2025-12-02T09:05:00", "level": "county"}
    _, data = Columns(TYPES[ISSUED], ["媒体类别", "issued_on"]).split(["影视；网络;", "2025年3月1日"])
    assert data == {"media_types": ["影视", "网络"], "issued_on": "2025-03-01"}


def test_attributes_have_columns_too() -> None:
    """By name or label; a field of the same name comes first."""
    attributes, data = Columns(TYPES[ACCEPTED], ["事件编号", "原事件编号", "time", "division"]).split(
        ["a-1", "a-0", "2025.12.2", "510000"]
    )
    assert (attributes, data) == ({"id": "a-1", "follows": "a-0", "time": "2025-12-02"}, {"division": "510000"})


def test_unknown_columns_are_refused_at_once_with_those_that_there_are() -> None:
    """Not once for each of a million rows."""
    with pytest.raises(InvalidError, match=r"办件号码.*办件编号 \(project_no\)"):
        Columns(TYPES[ACCEPTED], ["办件号码", "handling"])


def test_one_field_named_in_two_ways_is_refused() -> None:
    """Which of the two would count?"""
    with pytest.raises(InvalidError, match="project_no"):
        Columns(TYPES[ACCEPTED], ["办件编号", "project_no"])


def test_the_columns_of_reasons_are_passed_over() -> None:
    """So that a mended file of rejected rows can be imported as it is."""
    attributes, data = Columns(TYPES[ACCEPTED], [*REASON_COLUMNS, "办件编号"]).split(["3", "x", "y", "SYN-1"])
    assert (attributes, data) == ({}, {"project_no": "SYN-1"})


def test_a_row_with_more_cells_than_columns_is_refused() -> None:
    """A comma that was not quoted moves all that follows."""
    columns = Columns(TYPES[ACCEPTED], ["project_no", "department_name"])
    assert columns.split(["SYN-1", "局", "", ""])[1]["department_name"] == "局"
    with pytest.raises(InvalidError, match="单元格"):
        columns.split(["SYN-1", "局", "处"])


def test_a_row_with_fewer_cells_than_columns_is_refused() -> None:
    """It has been cut, or lost a comma; columns without a name may be missing."""
    columns = Columns(TYPES[ACCEPTED], ["project_no", "department_name", ""])
    assert columns.split(["SYN-1", ""])[1] == {"project_no": "SYN-1"}
    with pytest.raises(InvalidError, match="只有 1 格，表头有 2 列"):
        columns.split(["SYN-1"])


def test_what_should_be_json_and_is_not_is_named() -> None:
    """By its field."""
    with pytest.raises(InvalidError, match="/data/systems: 应为 JSON"):
        Columns(TYPES["cn.gov.sc.inventory.decided"], ["systems"]).split(["一、二"])

"""The editors' items: figures by name, and no number that was typed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.reporting.bulletin import plain
from services.reporting.items import Items, chinese_numeral, read_items
from services.runtime.errors import InvalidError
from services.statistics.figure import Figure
from tests.fakes.figures import DECEMBER, FakeFigures

HEADINGS = {"2": "政务工作动态", "3": "重点工作推进情况"}


def lookup(metric_id: str) -> Figure:
    """Return a figure of December 2025."""
    return FakeFigures({"2025-12": {**DECEMBER, "policy_items_accepted": None}}).figure(metric_id, "2025-12")


def read(folder: Path, **files: str) -> Items:
    """Write files (an underscore stands for a dash in their names) and read them."""
    for name, text in files.items():
        (folder / f"{name.removeprefix('f').replace('_', '-')}.md").write_text(text, encoding="utf-8")
    return read_items(folder, HEADINGS, lookup)


def problems(folder: Path, text: str) -> list[str]:
    """Return what is wrong with an item, by place."""
    with pytest.raises(InvalidError) as refused:
        read(folder, f3_01_x=text)
    return [f"{Path(p.pointer).name} {p.detail}" for p in refused.value.problems]


def test_a_figure_is_inserted_by_its_name_with_its_unit(tmp_path: Path) -> None:
    """And the part knows which figure it is, and its exact value."""
    items = read(tmp_path, f3_01_x="受理 {{ figure:project_items_accepted }}，资金{{figure:project_funds}}。")
    ((_, section),) = items.sections
    assert plain(section.paragraphs[0]) == "受理 126 件，资金 2265.82 亿元。"
    named = [(part.figure, part.exact) for part in section.paragraphs[0] if part.figure]
    assert named == [("project_items_accepted", "126"), ("project_funds", "226582000000.00")]


def test_an_unknown_name_is_refused_with_file_and_line(tmp_path: Path) -> None:
    """So is one that has no value this month: it would print as nothing."""
    text = "第一行\n{{ figure:project_itmes }} 与 {{ figure:policy_items_accepted }}\n"
    assert problems(tmp_path, text) == [
        "3-01-x.md:2 没有指标 project_itmes (no such metric)",
        "3-01-x.md:2 policy_items_accepted 本月没有值，不能引用 (has no value this month)",
    ]


@pytest.mark.parametrize("typed", ["办结 118 件", "提速 54.69%", "６５ 个部门", "资金 2,265 亿元", "12 个部门"])
def test_a_number_typed_by_hand_is_refused(tmp_path: Path, typed: str) -> None:
    """Full-width digits too; the message shows both ways out."""
    (found,) = problems(tmp_path, f"# 标题\n\n第一行\n{typed}")
    assert found.startswith("3-01-x.md:4 数字 ")
    assert "{{ figure:" in found
    assert "{{ literal:" in found


@pytest.mark.parametrize(
    "free",
    [
        "12 月 5 日召开",
        "2025年以来",
        "12月2日至5日",
        "本年度第 5 次会议",
        "新“18条”政策",
        "《实施方案（2025—2028年）》",
        "自 2026 年 1 月 1 日起",
    ],
)
def test_dates_ordinals_and_names_may_have_digits(tmp_path: Path, free: str) -> None:
    """They are no statistics."""
    assert plain(read(tmp_path, f3_01_x=free).sections[0][1].paragraphs[0]) == free


def test_an_editor_may_vouch_for_a_number_that_is_no_statistic(tmp_path: Path) -> None:
    """It is marked as such, so that whoever reads the draft can ask."""
    ((_, section),) = read(tmp_path, f3_01_x="累计 {{ literal:300余人 }}参训").sections
    assert plain(section.paragraphs[0]) == "累计 300余人参训"
    assert [part.text for part in section.paragraphs[0] if part.literal] == ["300余人"]


def test_a_number_in_characters_is_warned_of(tmp_path: Path) -> None:
    """It may be a figure in disguise; a name such as 三张清单 is not."""
    items = read(tmp_path, f3_01_x="三张清单\n共一百二十家企业，二十余个部门")
    found = [warning for warning in items.warnings if "x.md" in warning]
    assert [warning.rpartition("/")[2].partition("像")[0] for warning in found] == [
        "3-01-x.md:2: “一百二十家”",
        "3-01-x.md:2: “二十余个”",
    ]


def test_items_are_numbered_in_the_order_of_their_files(tmp_path: Path) -> None:
    """A heading is bold and ends with a full stop; one item alone has no number."""
    items = read(tmp_path, f3_02_b="第二", f3_01_a="# 甲\n\n第一", f2_01_c="独一")
    assert [(number, [plain(p) for p in section.paragraphs]) for number, section in items.sections] == [
        ("2", ["独一"]),
        ("3", ["（一）甲。第一", "（二）第二"]),
    ]


def test_a_section_without_items_is_left_out_and_warned_of(tmp_path: Path) -> None:
    """An empty heading would say that nothing happened."""
    items = read(tmp_path, f2_01_a="内容")
    assert [number for number, _ in items.sections] == ["2"]
    assert "栏目 3" in items.warnings[0]


def test_a_file_of_no_section_and_broken_braces_are_refused(tmp_path: Path) -> None:
    """Nothing that an editor wrote is passed over in silence."""
    with pytest.raises(InvalidError) as refused:
        read(tmp_path, f9_01_x="x", notes="x", f3_01_y="{{ figure:consult_phone", f3_02_z="{{ number:5 }}")
    found = {Path(p.pointer).name: p.detail for p in refused.value.problems}
    assert found.keys() == {"9-01-x.md", "notes.md", "3-01-y.md:1", "3-02-z.md:1"}
    assert "2, 3" in found["notes.md"]


def test_chinese_numerals_go_on_after_ten() -> None:
    """An issue may have many items."""
    assert [chinese_numeral(n) for n in (1, 10, 11, 20, 21)] == ["一", "十", "十一", "二十", "二十一"]

"""Section one as people read it."""

from __future__ import annotations

import io

from rich.console import Console

from schemas.contracts import load_contracts
from services.reporting.rendering import print_section, sentence
from services.reporting.section_one import SectionOne
from services.statistics.figure import Month, figure_of
from services.statistics.loading import load_metrics
from services.statistics.shapes import shapes

PUBLISHED = "各进驻部门（单位）窗口共受理"
"""How the bulletin begins its sentence, which we do not copy."""
METRICS = load_metrics(shapes(load_contracts()))
SECTION_ONE = [
    METRICS.of(one, "2025-12") for group in METRICS.groups if group.name == "section_one" for one in group.ids
]
EXACT = (66_160, 64_089, 65_917, 2_213, 3_590, 1_298, 1_243, 5_534)


def section(events: int = 140_000) -> SectionOne:
    """Return a section with the figures of EXACT."""
    found = zip(SECTION_ONE, EXACT, strict=True)
    figures = [figure_of(metric, Month(2025, 12), exact, exact) for metric, exact in found]
    return SectionOne("2025-12", "from", "to", events, {"events.window.v1/0": 7, "events.window.v1/1": 5}, figures)


def printed(found: SectionOne, language: str = "zh") -> str:
    """Return what is printed on a wide terminal."""
    console = Console(file=io.StringIO(), width=200)
    print_section(found, console, language)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_figure_is_printed_exact_and_as_shown() -> None:
    """The table has both values, and says up to where the log was counted."""
    text = printed(section())
    for metric, exact in zip(SECTION_ONE, EXACT, strict=True):
        assert metric.label_zh in text
        assert f"{exact} {metric.unit}" in text
        assert metric.rule.show(exact, metric.unit).value in text
    assert "2 个分区的第 12 条记录" in text


def test_the_sentence_has_all_figures_in_our_own_words() -> None:
    """Each shown value is in the sentence, and none of the bulletin's wording."""
    words = sentence(section())
    assert all(f"{figure.shown} {figure.shown_unit}" in words for figure in section().figures)
    assert PUBLISHED not in words


def test_a_month_without_data_says_so() -> None:
    """No table of zeros that could be taken for figures."""
    text = printed(section(events=0))
    assert "2025-12 没有数据" in text
    assert "指标" not in text


def test_english_is_a_switch() -> None:
    """The same section in English."""
    text = printed(section(), "en")
    assert "Items accepted fully online" in text
    assert "up to record 12 over 2 partitions" in text

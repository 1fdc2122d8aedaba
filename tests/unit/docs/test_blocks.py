"""No command stands in the documentation unless something runs it, or it says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages import OWN_TESTS, ROOT, Block, blocks, pages

ALL = [block for page in pages() for block in blocks(page)]


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.place)
def test_every_block_says_what_becomes_of_it(block: Block) -> None:
    """Mark it `sh run`, or `sh skip WHY`; what is no command has a language of its own (text, json, sql …).

    In a page with a test of its own, `sh NAME` is a block that the test asks for by its name.
    """
    assert block.language, f"{block.place}: which language? (`text` for what is none)"
    assert block.mode in {"", "run", "skip"} or _is_named(block), f"{block.place}: run or skip?"
    assert (block.mode == "skip") == bool(block.why), f"{block.place}: skip needs a reason, nothing else has one"
    assert block.language != "sh" or block.mode, f"{block.place}: mark it `sh run`, or `sh skip WHY`"


def _is_named(block: Block) -> bool:
    """Tell whether the page's own test asks for a block by the name that it is marked with."""
    test = OWN_TESTS.get(block.page.name)
    if test is None:
        return False
    asked = (ROOT / test).read_text(encoding="utf-8")
    return f'"{block.mode}"' in asked or f'"{block.language} {block.mode}"' in asked


@pytest.mark.parametrize(("page", "test"), OWN_TESTS.items())
def test_a_page_with_a_test_of_its_own_is_read_by_it(page: str, test: str) -> None:
    """The test opens the page."""
    assert f'"{page}"' in (ROOT / test).read_text(encoding="utf-8")


def test_no_command_hides_in_a_block_of_text() -> None:
    """A line that begins with the product's own command is a command."""
    hidden = [b.place for b in ALL if b.language == "text" and any(_is_command(line) for line in b.text.splitlines())]
    assert hidden == []


def _is_command(line: str) -> bool:
    return Path(line.split(maxsplit=1)[0] if line.strip() else "").name in {"hongyan", "curl", "make"}

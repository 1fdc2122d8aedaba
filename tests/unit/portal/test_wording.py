"""Every text of the portal's pages has its English, and no English is left over."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
import yaml

from services.portal.web.rendering import age
from services.portal.web.wording import english, say

WEB = Path("services/portal/web")
_IN_TEMPLATE = re.compile(r"""_\(\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')""")
_PLACES = re.compile(r"\{(\w*)\}")
FILES = sorted((WEB / "en").glob("*.yaml"))


def texts() -> Iterator[str]:
    """Give every text that templates and code name."""
    for template in WEB.glob("templates/**/*.html"):
        for double, single in _IN_TEMPLATE.findall(template.read_text(encoding="utf-8")):
            yield double or single
    for module in WEB.glob("**/*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Text":
                for argument in node.args:
                    if isinstance(argument, ast.Constant):
                        yield str(argument.value)


def test_every_text_has_its_english_and_none_is_left_over() -> None:
    """A page in English shows no Chinese but people's own, and the files say nothing that no page does."""
    said = set(texts())
    assert sorted(said - english().keys()) == []
    assert sorted(english().keys() - said) == []


def test_a_text_says_the_same_in_every_file() -> None:
    """Two areas may both bring a text's English, but not different ones."""
    seen: dict[str, str] = {}
    for file in FILES:
        for text, translation in yaml.safe_load(file.read_text(encoding="utf-8")).items():
            assert seen.setdefault(text, translation) == translation, f"{file.name}: {text}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_english_fills_in_the_same_values(file: Path) -> None:
    """A value that the Chinese names is not lost in English, and none is made up."""
    for text, translation in yaml.safe_load(file.read_text(encoding="utf-8")).items():
        assert sorted(_PLACES.findall(text)) == sorted(_PLACES.findall(translation)), text


def test_values_are_escaped() -> None:
    """What people have typed is no markup."""
    assert say("en", "{n} 秒", n="<b>") == "&lt;b&gt; s"


def test_an_age_is_told_in_its_largest_units() -> None:
    """As people say it."""
    told = [age("zh", seconds) for seconds in (None, 0.42, 12, 61, 3600, 3 * 86400 + 7200 + 5)]
    assert told == ["—", "0.4 秒", "12 秒", "1 分钟 1 秒", "1 小时", "3 天 2 小时"]
    assert age("en", 125) == "2 min 5 s"


def test_every_template_compiles() -> None:
    """Those that are seldom shown too."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(WEB / "templates"), autoescape=True)
    environment.filters |= dict.fromkeys(
        ("moment", "instant", "clock", "half", "type_name", "age", "since", "count", "ms", "labelled"), str
    )
    assert [environment.get_template(name).name for name in environment.list_templates()]

import re

import pytest

from glocal.study.report.components import COMPONENTS, script, style


@pytest.mark.parametrize(("name", "has"), [("compare", "Compare"), ("magnifier", "Magnifier")])
def test_a_script_stands_in_a_page_by_itself(name: str, has: str) -> None:
    text = script(name)
    assert not re.search(r"^\s*(import|export)\b", text, re.MULTILINE)
    assert f"class {has}" in text
    assert "</script" not in text


@pytest.mark.parametrize("name", [path.stem for path in COMPONENTS.glob("*.css")])
def test_styles_load_nothing(name: str) -> None:
    assert not re.search(r"@import|url\(", style(name))

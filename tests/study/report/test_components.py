import re

import pytest

from glocal.study.report.components import COMPONENTS, script, style


def test_a_script_stands_in_a_page_by_itself() -> None:
    text = script("compare")
    assert not re.search(r"^\s*(import|export)\b", text, re.MULTILINE)
    assert "class Compare" in text
    assert "</script" not in text


@pytest.mark.parametrize("name", [path.stem for path in COMPONENTS.glob("*.css")])
def test_styles_load_nothing(name: str) -> None:
    assert not re.search(r"@import|url\(", style(name))

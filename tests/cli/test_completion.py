"""Shells complete commands, options and their values."""

from typing import Any

import pytest
from typer.testing import CliRunner

from glocal.cli import app


def completed(words: str) -> list[str]:
    """What bash offers for the last of these words."""
    asked = {
        "_GLOCAL_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    result: Any = CliRunner().invoke(app, [], prog_name="glocal", env=asked)
    return result.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [("glocal rest", "restore"), ("glocal restore --ense", "--ensemble")],
)
def test_words_are_completed(words: str, offered: str) -> None:
    assert completed(words) == [offered]


def test_values_are_completed() -> None:
    assert completed("glocal restore --way w") == ["windows"]

"""Each promise of SECURITY.md has the test that it names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = re.findall(r"^\| ([^|*]+) \| `([^`]+)::(\w+)` \|$", (ROOT / "SECURITY.md").read_text(), re.M)


def test_the_table_is_read() -> None:
    lines = (ROOT / "SECURITY.md").read_text().splitlines()
    promises = [line for line in lines if line.startswith("| ") and "::" in line]
    assert len(ROWS) == len(promises) > 20


@pytest.mark.parametrize(("promise", "file", "test"), ROWS, ids=[row[2] for row in ROWS])
def test_a_promise_is_tested(promise: str, file: str, test: str) -> None:
    text = (ROOT / file).read_text()
    assert re.search(rf"^\s*def {test}\(", text, re.M), f"{promise} {file} has no {test}"

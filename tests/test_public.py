"""The public face: names, laziness, and agreement between the files that state a version."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import glocal

ROOT = Path(__file__).parents[1]


def test_all_is_sorted_and_complete():
    constants = [name for name in glocal.__all__ if name.isupper()]
    others = [name for name in glocal.__all__ if not name.isupper()]
    classes = [name for name in others if name[0].isupper()]
    functions = [name for name in others if not name[0].isupper()]
    assert glocal.__all__ == sorted(constants) + sorted(classes) + sorted(functions)
    assert all(getattr(glocal, name) is not None for name in glocal.__all__)
    assert set(glocal.__all__) <= set(dir(glocal))


def test_functions_are_not_hidden_by_modules_of_their_name():
    for path in (ROOT / "src/glocal").rglob("*.py"):
        relative = path.relative_to(ROOT / "src").with_suffix("")
        importlib.import_module(".".join(relative.parts).removesuffix(".__init__"))
    for name in (name for name in glocal.__all__ if name[0].islower()):
        assert callable(getattr(glocal, name)), name


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        glocal.nothing  # noqa: B018


def test_importing_the_package_is_light():
    code = "import sys, glocal; print(sorted({'torch', 'numpy', 'pyvips'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_error_is_in_the_tree_of_its_docstring():
    from glocal import errors

    assert all(name in errors.__doc__ for name in errors.__all__)


def test_version_changelog_and_citation_agree():
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    latest = re.search(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[1]
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)[1]
    assert version == latest == cited

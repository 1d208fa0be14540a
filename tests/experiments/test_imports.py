"""Scripts outside the package import only names of glocal that exist."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [
    str(path.relative_to(ROOT))
    for folder in ("experiments", "benchmarks", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def imported(source):
    """(module, name or None) of each import of glocal in a source text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "glocal":
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
            yield from ((name, None) for name in names if name.split(".")[0] == "glocal")


@pytest.mark.parametrize("script", SCRIPTS)
def test_imported_names_exist(script):
    for module, name in imported((ROOT / script).read_text()):
        found = importlib.import_module(module)
        if name is not None and not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")


def test_a_missing_name_is_found():
    found = list(imported("import glocal.nothing\nfrom glocal.data.random_fields import Nothing"))
    assert found == [("glocal.nothing", None), ("glocal.data.random_fields", "Nothing")]

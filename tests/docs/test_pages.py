"""The pages of docs/ agree with the code that they describe; `make docs` builds them."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import glocal
from glocal.cli.group import INTERNAL_ERROR
from glocal.cli.interruption import INTERRUPTED, TERMINATED

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ENVIRONMENT = (DOCS / "environment.md").read_text()


def first_cells(heading: str) -> list[str]:
    """The first cells of the rows of a section's table."""
    section = ENVIRONMENT.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `?([^`|]+?)`? \|", section, re.M)[1:]


def script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_variable_of_the_source_is_in_the_table() -> None:
    files = [ROOT / "hatch_build.py", *(ROOT / "src").rglob("*.py")]
    text = "\n".join(file.read_text() for file in files)
    used = set(re.findall(r"\bGLOCAL_[A-Z_]+\b", text)) - {"GLOCAL_SOURCES"}  # a macro of C++
    used |= set(re.findall(r"environ(?:\.get|\.setdefault)?[(\[]\"([A-Z_]+)\"", text))
    documented = set(first_cells("Environment variables"))
    assert used - documented <= {"LOCALAPPDATA", "ARCHFLAGS"}  # of Windows and macOS
    assert {name for name in documented if name.startswith("GLOCAL_")} <= used


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    codes = [int(cell) for cell in first_cells("Exit codes")]
    assert codes == [0, 1, 2, INTERNAL_ERROR, INTERRUPTED, TERMINATED]


def test_the_reference_lists_every_public_name() -> None:
    text = (DOCS / "api.md").read_text()
    modules = {"metrics", "networks", "ops", "testing"}
    listed = set(re.findall(r"^   glocal\.(\w+)$", text, re.M))
    assert listed == set(glocal.__all__) - modules
    for name in modules:
        section = text.split(f"## glocal.{name}\n")[1].split("\n## ")[0]
        found = set(re.findall(r"^   (\w+)$", section, re.M))
        assert found == set(getattr(glocal, name).__all__) - set(glocal.__all__)


def test_the_drawings_are_those_of_their_script() -> None:
    draw = script(DOCS / "drawings/draw.py")
    for name, drawing in draw.DRAWINGS.items():
        assert (DOCS / "images" / name).read_text() == drawing()


def test_the_pages_of_commands_have_every_option() -> None:
    pages = script(DOCS / "extensions/command_reference.py").pages()
    assert {"restore", "scan", "evaluate", "tune", "models"} <= set(pages)
    assert ".. option:: --out TARGET, -o TARGET" in pages["restore"]
    assert ".. option:: --grey channels|luma" in pages["restore"]
    assert "[default: --resume]" in pages["restore"]
    assert "glocal models get\n-----" in pages["models"]


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    made = ("generated/", "gallery/")  # by Sphinx
    for target in re.findall(r"\]\((?![a-z]+:|#)([^)\s#]+)", page.read_text()):
        assert target.startswith(made) or (DOCS / target).exists(), target

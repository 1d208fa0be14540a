"""The public API: names, lazy imports, exported types, and agreement on the version."""

import importlib
import inspect
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

import glocal

ROOT = Path(__file__).parents[1]
NAMESPACES = ("metrics", "networks", "ops", "testing")


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
    functions = {name for name in glocal.__all__ if name[0].islower()} - {*NAMESPACES}
    for name in functions:
        assert isinstance(getattr(glocal, name), FunctionType), name


@pytest.mark.parametrize("name", NAMESPACES)
def test_public_modules_are_attributes(name: str):
    code = f"import glocal; print(glocal.{name}.__name__, len(glocal.{name}.__all__) > 0)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [f"glocal.{name}", "True"]


def test_the_version_is_that_of_the_distribution():
    assert glocal.__version__ == version("glocal")
    assert "__version__" in dir(glocal)


# --- every glocal class in a public signature is public ----------------------------------------


def public_objects() -> Iterator[tuple[str, Any]]:
    for module in (glocal, *(getattr(glocal, name) for name in NAMESPACES)):
        for name in module.__all__:
            value = getattr(module, name)
            if not isinstance(value, ModuleType):
                yield f"{module.__name__}.{name}", value


def signatures(value: Any) -> Iterator[Any]:
    """The type hints of a function, or of a class's fields, methods and properties."""
    if isinstance(value, FunctionType):
        yield from typing.get_type_hints(value).values()
    elif isinstance(value, type):
        yield from typing.get_type_hints(value).values()
        for name, member in vars(value).items():
            if isinstance(member, property):
                member = member.fget
            if isinstance(member, classmethod | staticmethod):
                member = member.__func__
            if isinstance(member, FunctionType) and not name.startswith("_"):
                yield from typing.get_type_hints(member).values()


def classes_in(hint: Any) -> Iterator[type]:
    """The classes that a type hint names."""
    if isinstance(hint, type):
        yield hint
    for part in typing.get_args(hint):
        if isinstance(part, list):
            for each in part:
                yield from classes_in(each)
        else:
            yield from classes_in(part)


@pytest.mark.parametrize(
    ("name", "value"), [pytest.param(*each, id=each[0]) for each in public_objects()]
)
def test_every_class_in_a_public_signature_is_public(name: str, value: Any):
    public = {value for _, value in public_objects() if isinstance(value, type)}
    used = {each for hint in signatures(value) for each in classes_in(hint)}
    private = {
        each
        for each in used
        if each.__module__.startswith("glocal.")
        and each not in public
        and not each.__name__.startswith("_")
    }
    assert not private, f"{name} uses {private}"


def test_scan_takes_the_arguments_of_localize():
    ours, theirs = (inspect.signature(f).parameters for f in (glocal.scan, glocal.localize))
    assert list(ours.values()) == list(theirs.values())


def test_the_studies_share_their_parameters():
    """Equal names, in an equal order, with equal defaults."""
    shared = "model data train_size conversion score run limit log overwrite progress".split()
    for function in (glocal.evaluate, glocal.analyze, glocal.tune):
        parameters = inspect.signature(function).parameters
        common = [name for name in parameters if name in shared]
        assert common == [name for name in shared if name in parameters]
        for name in common:
            assert (
                parameters[name].default
                == inspect.signature(glocal.evaluate).parameters[name].default
            ), (function, name)


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


@pytest.mark.parametrize(
    "name",
    sorted(
        set(re.findall(r"`(\w+/[\w/]+\.py(?:::\w+)?)`", (ROOT / "docs/accepted.md").read_text()))
    ),
)
def test_what_is_accepted_has_a_test(name: str):
    path, _, function = name.partition("::")
    code = (ROOT / "tests" / path).read_text()
    assert f"\ndef {function}" in code

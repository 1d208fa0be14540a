"""Fixtures that tests of several rooms share, and the threads of a test process."""

import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

# Workers × threads = cores. More threads than cores spin and wait for each other: the tests of
# three files took 32 s in one process, and 111 s in two workers with two threads each on two cores.
# torch reads the variable when it is imported, and subprocesses inherit it. Only workers set it:
# what the process that starts them sets they would inherit too.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))

os.environ["GLOCAL_MODELS"] = os.devnull  # models of the person who runs the tests do not count

import torch
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a slow machine is no failure
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def seed() -> None:
    """Random weights are the same whatever ran before and on whichever worker."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def spandrel() -> Iterator[ModuleType]:
    """The optional package spandrel with its extra architectures; skips where they are missing.

    It needs torchvision, which imports beside the very torch that it was built for alone: its
    Python code registers what its compiled part, which does not load, defines. Defining the
    schemas here lets it import; nothing that spandrel's networks do calls them.
    """
    for package in ("spandrel", "spandrel_extra_arches"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    library = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import torchvision  # noqa: F401
        except RuntimeError:
            for name in [name for name in sys.modules if name.startswith("torchvision")]:
                del sys.modules[name]
            library = torch.library.Library("torchvision", "DEF")
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import spandrel
        import spandrel_extra_arches  # noqa: F401
    yield spandrel
    del library  # the schemas last as long as this object


@pytest.fixture
def unproven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversions count as proven, in tests of other things: a proof takes a second or more."""
    monkeypatch.setattr("glocal.conversion.localize.prove", lambda converted: None)


@pytest.fixture
def memory_is_measured() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peak memory of a CPU is measured on Linux only")

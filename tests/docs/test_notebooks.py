"""The notebooks of examples/ run from start to end, and are stored without outputs."""

import json
import os
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_they_are_stored_without_outputs(path: Path) -> None:
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    assert cells
    assert all(c["outputs"] == [] and c["execution_count"] is None for c in cells)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Jupyter's own packages
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_they_run(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="Jupyter's nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="Jupyter's nbclient is not installed")
    pytest.importorskip("ipykernel", reason="Jupyter's ipykernel is not installed")
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": EXAMPLES}}
    )
    paths = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
    client.execute(env={**os.environ, "PYTHONPATH": paths})  # the glocal that is tested

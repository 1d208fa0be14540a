"""One large image on several workers."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from restored_folders import photographs

import glocal
from glocal.errors import ArgumentError
from glocal.images import image_files as images
from glocal.images.icc import linear_profile
from glocal.images.image_files import Image
from glocal.inference.options import Tiles
from glocal.runs.executors.processes import ProcessesExecutor
from glocal.runs.folder import restore_file
from glocal.runs.private_folder import work_folder

TWO = ProcessesExecutor(("cpu", "cpu"))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of 16 bits with a profile and alpha."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 2**16, (500, 620, 3)).astype(np.uint16)
    alpha = rng.integers(0, 2**16, (500, 620)).astype(np.uint16)
    path = tmp_path_factory.mktemp("large") / "large.tif"
    images.write(path, Image(pixels, alpha, icc=linear_profile(3)))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("statistics", ["windows", "crops"])
def test_tiles_of_several_processes_are_those_of_one(
    statistics: Literal["windows", "crops"], large: Path, tmp_path: Path
) -> None:
    network = glocal.localize(
        glocal.load("nafnet-motion-blur"), statistics=statistics, verify=False
    )
    options: dict[str, Any] = {"tiles": Tiles(320), "stream": True}
    restore_file(network, large, tmp_path / "one.tif", **options)
    counts = []
    restore_file(
        network, large, tmp_path / "two.tif", executor=TWO, **options,
        progress=lambda done, total: counts.append((done, total)),
    )  # fmt: skip
    assert (tmp_path / "two.tif").read_bytes() == (tmp_path / "one.tif").read_bytes()
    assert counts[-1][0] == counts[-1][1] > 2
    assert not work_folder(tmp_path / "two.tif").exists()


@pytest.mark.slow
def test_an_interrupted_image_continues_in_one_process(large: Path, tmp_path: Path) -> None:
    network = glocal.localize(glocal.load("nafnet-motion-blur"), verify=False)
    options: dict[str, Any] = {"tiles": Tiles(320), "stream": True}
    restore_file(network, large, tmp_path / "one.tif", **options)

    def stop(done: int, total: int) -> None:
        if done == total - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="tiles are saved"):
        restore_file(network, large, tmp_path / "two.tif", executor=TWO, progress=stop, **options)
    counts = []
    restore_file(
        network, large, tmp_path / "two.tif", **options,
        progress=lambda done, total: counts.append(done),
    )  # fmt: skip
    assert len(counts) <= 4  # none, those before, and the last ones
    assert (tmp_path / "two.tif").read_bytes() == (tmp_path / "one.tif").read_bytes()


def test_a_small_image_is_not_shared(tmp_path: Path) -> None:
    source = photographs(tmp_path / "in", 2, (8, 9)) / "00.png"
    network = glocal.load("nafnet-motion-blur")
    with pytest.raises(ArgumentError, match="workers share the tiles of a large photograph"):
        restore_file(network, source, tmp_path / "out.png", executor=TWO)

"""A disk without room: one line says so, and nothing half-written is left."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from glocal.errors import GlocalError
from glocal.images import image_files
from glocal.images.image_files import Image
from glocal.inference.options import Tiles
from glocal.runs.folder import restore_file, restore_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no limit on sizes of files")

NOISE = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)


@pytest.fixture
def little_room(tmp_path: Path) -> Iterator[Path]:
    """A folder with a photograph, whose result is larger than files may become."""
    import resource

    (tmp_path / "in").mkdir()
    image_files.write(tmp_path / "in/a.png", Image(NOISE))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield tmp_path
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_result_that_finds_no_room(little_room: Path, suffix: str, stream: bool) -> None:
    target = little_room / f"out/b{suffix}"
    target.parent.mkdir()
    with pytest.raises(GlocalError, match=r"cannot be written .*File too large"):
        restore_file(
            nn.Identity(), little_room / "in/a.png", target, channels=3, stream=stream,
            tiles=Tiles(192, halo=64), quality=100,
        )  # fmt: skip
    assert not list(target.parent.iterdir())


def test_each_photograph_of_a_folder_says_so(little_room: Path) -> None:
    (failed,) = restore_folder(nn.Identity(), little_room / "in", little_room / "out", channels=3)
    assert failed.status == "failed"
    assert "File too large" in failed.error
    assert [path.name for path in (little_room / "out").iterdir()] in ([], [".glocal.jsonl"])


def test_a_folder_of_results_that_goes_away(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "ab":
        image_files.write(tmp_path / f"in/{name}.png", Image(NOISE))

    class Removes(nn.Module):
        def forward(self, x):
            for path in (tmp_path / "out").glob(".*"):
                path.unlink()
            (tmp_path / "out").rmdir()
            return x

    first, second = restore_folder(
        Removes(), tmp_path / "in", tmp_path / "out", channels=3, batch=2, ahead=2
    )
    assert {first.status, second.status} == {"failed"}
    assert "a.png: cannot be written (No such file or directory)" in first.error

"""What a streamed run finds in the place of its temporary files, and what it takes from there."""

import os
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

from glocal.errors import GlocalError, GlocalWarning
from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.inference.options import Tiles
from glocal.inference.run import TileRunner
from glocal.runs.folder import restore_file
from glocal.runs.private_folder import work_folder


class Brighter(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x + 0.1


PIXELS = np.random.default_rng(0).integers(0, 256, (140, 900, 3), np.uint8)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    images.write(tmp_path / "in.png", Image(PIXELS))
    return tmp_path / "in.png"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.png"


def restored(source: Path, target: Path) -> bytes:
    restore_file(Brighter(), source, target, stream=True, channels=3, tiles=Tiles(192, halo=64))
    return target.read_bytes()


@pytest.fixture
def interrupted(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that was interrupted after three tiles."""
    whole, calls = TileRunner.__call__, []

    def stop(self: TileRunner, tile: object) -> object:
        calls.append(tile)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(self, tile)

    with monkeypatch.context() as patch:
        patch.setattr(TileRunner, "__call__", stop)
        with pytest.raises(KeyboardInterrupt, match=r"3 of .* tiles are saved"):
            restored(source, target)
    return work_folder(target)


def test_the_folder_is_private_and_goes(interrupted: Path, source: Path, target: Path) -> None:
    assert interrupted.stat().st_mode & 0o777 == 0o700
    restored(source, target)
    assert not interrupted.exists()


@pytest.mark.parametrize("damage", ["short", "gone", "altered"])
def test_damaged_parts_are_done_again(
    interrupted: Path, source: Path, target: Path, damage: str, tmp_path: Path
) -> None:
    raw = interrupted / "result.raw"
    if damage == "short":
        os.truncate(raw, 1000)
    elif damage == "gone":
        raw.unlink()
    else:
        data = bytearray(raw.read_bytes())
        data[0] ^= 1
        raw.write_bytes(data)
    with pytest.warns(GlocalWarning, match=r"saved tiles of .* are damaged and"):
        found = restored(source, target)
    assert found == restored(source, tmp_path / "other.png")


@pytest.mark.parametrize("damage", ["short", "gone", "altered"])
def test_damaged_samples_of_the_source_are_decoded_again(
    interrupted: Path, source: Path, target: Path, damage: str, tmp_path: Path
) -> None:
    raw = interrupted / "source.raw"
    if damage == "short":
        os.truncate(raw, 1000)
    elif damage == "gone":
        raw.unlink()
    else:
        raw.write_bytes(bytes(raw.stat().st_size))
    assert restored(source, target) == restored(source, tmp_path / "other.png")


def test_whole_parts_are_kept(
    interrupted: Path, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = TileRunner.__call__, []

    def counted(self: TileRunner, tile: object) -> object:
        calls.append(tile)
        return whole(self, tile)

    monkeypatch.setattr(TileRunner, "__call__", counted)
    restored(source, target)
    resumed = len(calls)
    restored(source, target.with_name("other.png"))
    assert len(calls) - resumed == resumed + 3


def test_a_source_of_the_same_size_and_time_is_another_one(
    interrupted: Path, source: Path, target: Path, tmp_path: Path
) -> None:
    about = source.stat()
    data = bytearray(source.read_bytes())
    images.write(source, Image(PIXELS[::-1]))
    if source.stat().st_size != len(data):  # a PNG of noise: nearly always equal
        data = source.read_bytes().ljust(len(data), b"\0")
        source.write_bytes(data)
    os.utime(source, ns=(about.st_atime_ns, about.st_mtime_ns))
    with pytest.warns(GlocalWarning, match="starting afresh"):
        found = restored(source, target)
    assert found == restored(source, tmp_path / "other.png")


def test_a_link_in_the_folder_is_not_followed(source: Path, target: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    work_folder(target).mkdir()
    (work_folder(target) / "source.raw").symlink_to(victim)
    with pytest.raises(GlocalError, match=r"has source\.raw, which glocal did not write"):
        restored(source, target)
    assert victim.read_text() == "precious"


def test_a_link_in_the_place_of_the_folder_is_refused(
    source: Path, target: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    work_folder(target).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GlocalError, match="in the way of the temporary files"):
        restored(source, target)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_files_of_others_stay(source: Path, target: Path) -> None:
    work_folder(target).mkdir()
    (work_folder(target) / "mine.txt").write_text("x")
    with pytest.raises(GlocalError, match=r"has mine\.txt, which glocal did not write"):
        restored(source, target)
    assert (work_folder(target) / "mine.txt").read_text() == "x"


def test_a_folder_that_others_may_write_to_is_refused(source: Path, target: Path) -> None:
    work_folder(target).mkdir()
    work_folder(target).chmod(0o777)
    with pytest.raises(GlocalError, match="other users may write"):
        restored(source, target)


def test_an_empty_folder_is_taken(source: Path, target: Path) -> None:
    work_folder(target).mkdir(mode=0o700)
    restored(source, target)
    assert not work_folder(target).exists()

from pathlib import Path

import numpy as np
import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from glocal import images
from glocal.errors import ArgumentError, ImageError
from glocal.folder import pair_files, restore_file, restore_folder
from glocal.images import Image


class Negative(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 1 - x


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest")


def save(path: Path, value: int = 10, size: tuple[int, int] = (8, 9)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write(path, Image(np.full((*size, 3), value, np.uint8)))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    save(tmp_path / "in/a.png", 10)
    save(tmp_path / "in/b.tif", 20)
    save(tmp_path / "in/sub/a.png", 30)
    (tmp_path / "in/notes.txt").write_text("not an image")
    return tmp_path / "in"


def value(path: Path) -> int:
    return int(images.read(path).pixels[0, 0, 0])


def test_a_file_is_restored_with_its_metadata_and_alpha(tmp_path: Path) -> None:
    alpha = np.arange(72, dtype=np.uint16).reshape(8, 9)
    xmp = b"<x:xmpmeta></x:xmpmeta>"
    images.write(tmp_path / "a.png", Image(np.zeros((8, 9, 3), np.uint16), alpha, xmp=xmp))
    result = restore_file(Negative(), tmp_path / "a.png", tmp_path / "b.tif")
    assert result.status == "restored"
    assert result.size == (8, 9)
    assert result.elapsed_s > 0
    restored = images.read(tmp_path / "b.tif")
    assert restored.pixels.dtype == np.uint16
    assert restored.pixels.min() == 65535
    assert restored.xmp == xmp
    np.testing.assert_array_equal(restored.alpha, alpha)


def test_alpha_grows_with_the_image(tmp_path: Path) -> None:
    alpha = np.zeros((8, 9), np.uint8)
    alpha[:, 4:] = 200
    images.write(tmp_path / "a.png", Image(np.zeros((8, 9, 3), np.uint8), alpha))
    restore_file(Twice(), tmp_path / "a.png", tmp_path / "b.png")
    restored = images.read(tmp_path / "b.png")
    assert restored.size == (16, 18)
    assert restored.alpha is not None
    assert (restored.alpha[:, :6] == 0).all()
    assert (restored.alpha[:, 10:] == 200).all()


def test_the_input_is_never_overwritten(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    with pytest.raises(ArgumentError, match="is the input itself"):
        restore_file(Negative(), path, tmp_path / "." / "a.png")
    (tmp_path / "link.png").symlink_to(path)
    with pytest.raises(ArgumentError, match="is the input itself"):
        restore_file(Negative(), path, tmp_path / "link.png")
    assert value(path) == 10


def test_notes_are_handed_on(tmp_path: Path) -> None:
    images.write(tmp_path / "a.png", Image(np.zeros((8, 9, 3), np.uint16)))
    result = restore_file(Negative(), tmp_path / "a.png", tmp_path / "b.jpg")
    assert result.notes == ("16-bit samples were rounded to 8 bits for .jpg",)


def test_a_folder_is_mirrored(photos: Path, tmp_path: Path) -> None:
    results = list(restore_folder(Negative(), photos, tmp_path / "out"))
    assert [result.status for result in results] == ["restored"] * 3
    assert [result.source for result in results] == images.list_images(photos, recursive=True)
    assert value(tmp_path / "out/a.png") == 245
    assert value(tmp_path / "out/b.tif") == 235
    assert value(tmp_path / "out/sub/a.png") == 225


def test_a_flat_run_leaves_the_folders_inside(photos: Path, tmp_path: Path) -> None:
    results = list(restore_folder(Negative(), photos, tmp_path / "out", recursive=False))
    assert [result.target.name for result in results] == ["a.png", "b.tif"]


def test_a_run_is_resumed(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    next(restore_folder(Negative(), photos, out))
    assert images.list_images(out, recursive=True) == [out / "a.png"]
    save(out / "a.png", 77)
    results = list(restore_folder(Negative(), photos, out))
    assert [result.status for result in results] == ["skipped", "restored", "restored"]
    assert value(out / "a.png") == 77


def test_existing_outputs_are_replaced_only_when_told(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    save(out / "a.png", 77)
    with pytest.raises(ArgumentError, match="exists already"):
        restore_folder(Negative(), photos, out, resume=False)
    assert value(out / "a.png") == 77
    list(restore_folder(Negative(), photos, out, overwrite=True))
    assert value(out / "a.png") == 245


def test_a_bad_file_does_not_stop_the_run(photos: Path, tmp_path: Path) -> None:
    (photos / "ab.png").write_bytes((photos / "a.png").read_bytes()[:40])
    results = list(restore_folder(Negative(), photos, tmp_path / "out"))
    assert [result.status for result in results] == ["restored", "failed", "restored", "restored"]
    assert results[1].error is not None
    assert "damaged or cut short" in results[1].error
    assert not (tmp_path / "out/ab.png").exists()


def test_a_network_that_fails_on_one_image_does_not_stop_the_run(
    photos: Path, tmp_path: Path
) -> None:
    class Narrow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[-1] > 9:
                raise ValueError("too\nwide")
            return x

    save(photos / "wide.png", size=(8, 10))
    results = list(restore_folder(Narrow(), photos, tmp_path / "out"))
    assert [(r.target.name, r.error) for r in results if r.status == "failed"] == [
        ("wide.png", "too wide")
    ]


def test_wrong_options_stop_the_run(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="cannot cover"):
        list(restore_folder(Negative(), photos, tmp_path / "out", tile=8, overlap=8))


def test_interruption_goes_through(photos: Path, tmp_path: Path) -> None:
    class Interrupted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(restore_folder(Interrupted(), photos, tmp_path / "out"))
    assert images.list_images(tmp_path / "out") == []


def test_outputs_inside_the_input_folder_are_no_inputs(photos: Path) -> None:
    for _ in range(2):
        results = list(restore_folder(Negative(), photos, photos / "restored", overwrite=True))
        assert len(results) == 3


def test_inputs_inside_the_output_folder_are_safe(photos: Path, tmp_path: Path) -> None:
    assert len(list(restore_folder(Negative(), photos, tmp_path))) == 3
    save(photos / "in/a.png")
    with pytest.raises(ArgumentError, match="would overwrite an input"):
        pair_files(photos, tmp_path)
    assert value(photos / "a.png") == 10


def test_the_same_folder_is_refused(photos: Path) -> None:
    with pytest.raises(ArgumentError, match="is the input folder itself"):
        restore_folder(Negative(), photos, photos / "sub" / "..")


def test_a_file_as_output_folder_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="is a file"):
        pair_files(photos, save(tmp_path / "x.png"))


def test_a_common_suffix(photos: Path, tmp_path: Path) -> None:
    results = list(restore_folder(Negative(), photos, tmp_path / "out", suffix=".png"))
    assert [result.target.name for result in results] == ["a.png", "b.png", "a.png"]
    save(photos / "a.tif")
    with pytest.raises(ArgumentError, match="would both be written"):
        pair_files(photos, tmp_path / "out", suffix=".png")
    with pytest.raises(ArgumentError, match="cannot write files"):
        pair_files(photos, tmp_path / "out", suffix="png")


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such folder"):
        pair_files(tmp_path / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no images"):
        pair_files(tmp_path / "empty", tmp_path / "out")

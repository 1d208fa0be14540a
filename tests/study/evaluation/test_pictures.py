from pathlib import Path

import numpy as np
import pytest

from glocal.errors import ImageError
from glocal.images import image_files as images
from glocal.study.evaluation.pictures import Pictures, write_picture


def test_pictures_are_spread_over_the_data_set() -> None:
    names = [f"scene/{index}" for index in range(11)]
    assert list(Pictures(Path("x"), 3).folders(names)) == ["scene/0", "scene/5", "scene/10"]
    assert list(Pictures(Path("x"), 99).folders(names)) == names
    assert Pictures(Path("x"), 0).folders(names) == {}
    unlucky = ["a/1", "a-1", "../..", "A/1"]
    folders = {path.name.lower() for path in Pictures(Path("x")).folders(unlucky).values()}
    assert len(folders) == 4
    assert not any(".." in name or "/" in name for name in folders)


def test_any_image_becomes_a_picture(tmp_path: Path) -> None:
    values = np.array([[-0.5, 0.0, 0.5, 1.0, 1.5, np.nan]], np.float32)[..., None]
    for channels, kept in ((1, 1), (3, 3), (6, 3)):
        path = tmp_path / f"new/{channels}.png"
        write_picture(path, values.repeat(channels, 2))
        pixels = images.read(path).pixels
        assert pixels.shape == (1, 6, kept)
        assert pixels[0, :, 0].tolist() == [0, 0, 128, 255, 255, 0]


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("a file")
    with pytest.raises(ImageError, match=r"images.1-a: cannot be created \("):
        write_picture(tmp_path / "images/1-a/target.png", np.zeros((2, 2, 3), np.float32))

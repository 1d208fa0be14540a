"""Listing the image files of a folder."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from glocal.errors import GlocalWarning, ImageError
from glocal.images.folders import list_images
from glocal.images.image_files import Image, write


def test_list_images(tmp_path: Path) -> None:
    (tmp_path / "sub" / ".hidden").mkdir(parents=True)
    (tmp_path / "folder.png").mkdir()
    for name in ("b.JPG", "a.png", "notes.txt", "sub/c.tiff", ".x.png", "sub/.hidden/d.png"):
        (tmp_path / name).touch()
    assert list_images(tmp_path) == [tmp_path / "a.png", tmp_path / "b.JPG"]
    assert list_images(tmp_path, recursive=True) == [
        tmp_path / "a.png",
        tmp_path / "b.JPG",
        tmp_path / "sub/c.tiff",
    ]
    with pytest.raises(ImageError, match="no such folder"):
        list_images(tmp_path / "none")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="has no permissions of this kind")
def test_subfolders_that_cannot_be_read_are_counted_and_named(tmp_path: Path) -> None:
    for name in ("a.png", "open/b.png", "closed/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, Image(np.zeros((2, 2, 3), np.uint8)))
    tmp_path.chmod(0o755)
    (tmp_path / "closed").chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # whom no permission stops
            allow(tmp_path)
            os.seteuid(65534)
        with pytest.warns(GlocalWarning, match=r"1 subfolder cannot be read .*: \S+closed$"):
            found = list_images(tmp_path, recursive=True)
        with pytest.raises(ImageError, match=r"closed: cannot be read \(Permission denied\)"):
            list_images(tmp_path / "closed")
    finally:
        os.seteuid(user)
        (tmp_path / "closed").chmod(0o755)
    assert [path.name for path in found] == ["a.png", "b.png"]


def allow(folder: Path) -> None:
    """Let everybody pass through the temporary folders of the tests."""
    for each in folder.parents:
        if each.is_relative_to(tempfile.gettempdir()) and each != Path(tempfile.gettempdir()):
            each.chmod(each.stat().st_mode | 0o011)

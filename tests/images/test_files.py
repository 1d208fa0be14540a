import os
from pathlib import Path

import pytest

from glocal.errors import ImageError
from glocal.images.files import make_private_folder, write_whole


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "é.txt"
    for text in ("first", "second ß"):
        write_whole(path, text, ImageError)
        assert path.read_text("utf-8") == text
    assert [file.name for file in tmp_path.iterdir()] == ["é.txt"]


def test_a_name_may_be_as_long_as_the_disk_takes_it(tmp_path: Path) -> None:
    path = tmp_path / f"{'写' * 81}.jpg"  # 247 bytes
    write_whole(path, b"", ImageError)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_refusal_of_the_disk_is_one_line_of_the_given_type(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be written"):
        write_whole(tmp_path / "nowhere" / "file", b"", ImageError)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ImageError, match="cannot be written"):
        write_whole(tmp_path / "folder", b"", ImageError)
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]
    (tmp_path / "folder" / "file").touch()
    with pytest.raises(ImageError, match="cannot be written"):
        write_whole(tmp_path / "folder" / "file" / "below", b"", ImageError)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="the system has no owners of files")
def test_a_private_folder_is_the_users_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_private_folder(tmp_path / "a/b", ImageError)
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(ImageError, match="other users may write to this folder"):
        make_private_folder(tmp_path / "a/b", ImageError)

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from glocal.errors import ConversionError
from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.inference.settings import Settings
from glocal.study.first_look import look
from glocal.study.harm import WayCheck
from glocal.study.options import RunOptions

BAD = WayCheck(1.0, 3.0, 0.1, areas=0.5)


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images.write(tmp_path / "a.png", Image(np.zeros((8, 8, 3), np.uint8)))
    return tmp_path / "a.png"


def seen(monkeypatch: pytest.MonkeyPatch, photo: Path, found: object, way: str = "auto", **given):
    def check(*arguments: object) -> object:
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr("glocal.study.harm.check_ways", check)
    options = {"is_chosen": False, "run": RunOptions(), **given}
    return look(nn.Identity(), Settings(way, 32), photo, **options)


def test_crops_are_taken_unless_the_way_was_chosen(monkeypatch, photo: Path) -> None:
    assert seen(monkeypatch, photo, BAD).settings.way == "crops"
    chosen = seen(monkeypatch, photo, BAD, is_chosen=True)
    assert (chosen.settings.way, chosen.has_areas) == ("auto", True)


def test_nothing_is_looked_at_where_nothing_is_converted_or_read(monkeypatch, photo: Path) -> None:
    assert seen(monkeypatch, photo, BAD, "full").found is None
    photo.write_bytes(b"no image")
    assert seen(monkeypatch, photo, BAD).found is None


def test_a_comparison_that_fails_says_why(monkeypatch, photo: Path) -> None:
    failed = seen(monkeypatch, photo, ConversionError("no\nway"))
    assert (failed.problem, failed.found, failed.has_areas) == ("no way", None, False)

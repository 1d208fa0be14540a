"""Metadata that reaches results, as exiftool reads it, and the tables of docs/formats.md."""

import importlib.util
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytest.importorskip("imagecodecs")
pytest.importorskip("OpenEXR")
if shutil.which("exiftool") is None:
    pytest.skip("exiftool is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def formats():
    path = ROOT / "experiments" / "formats" / "matrix.py"
    spec = importlib.util.spec_from_file_location("formats_matrix", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(formats, tmp_path_factory):
    return formats.matrix(tmp_path_factory.mktemp("formats"))


def test_every_block_reaches_the_result_or_is_named(found):
    said = {"EXIF": "EXIF", "GPS": "EXIF", "XMP": "XMP", "IPTC": "IPTC", "texts": "Comment"}
    said["ICC"] = "colour profile"
    for pair, (had, kept, notes) in found.items():
        assert {"EXIF", "GPS", "XMP"} <= had, pair
        lost = had - kept
        assert all(any(said[name] in note for note in notes) for name in lost), pair
        assert bool(lost) == bool(notes), pair


def test_the_page_has_these_tables(formats, found):
    page = formats.PAGE.read_text()
    assert formats.page_with(page, formats.tables(found)) == page

from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from evaluations import NAMES, PSNR, constructed

from glocal.images import image_files as images
from glocal.metrics import psnr
from glocal.study.evaluation.pictures import TARGET, Pictures, picture, write_picture
from glocal.study.evaluation.records import DEGRADED, Failure
from glocal.study.report import page, write_report

VOID = {"meta", "img", "input"}
CLOSED_BY_THE_NEXT = {"li", "option"}


class Reader(HTMLParser):
    """Tags, files and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.open: list[str] = []
        self.files: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag not in VOID | CLOSED_BY_THE_NEXT:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href") or (tag, name) == ("option", "value"):
                self.files.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            assert not name.startswith("on")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Reader]:
    """The folder of a report on three images, of which the first and the last are shown."""
    rng = np.random.default_rng(0)
    pictures = Pictures(tmp_path / "images", 2)
    for folder in pictures.folders(NAMES).values():
        for name in (*PSNR, TARGET):
            write_picture(picture(folder, name), rng.random((130, 260, 3)))
    write_report(constructed(), tmp_path, pictures)
    return tmp_path, Reader((tmp_path / "report.html").read_text("utf-8"))


def test_all_files_exist_inside_the_folder(written: tuple[Path, Reader]) -> None:
    folder, read = written
    crops = list(folder.glob("images/*/crop-*/*.png"))
    assert len(crops) >= 2 * 6
    assert len(set(read.files)) == 2 * 6 + len(crops)
    for file in read.files:
        assert (folder / file).is_file(), file
        assert (folder / file).resolve().is_relative_to(folder)
    assert "http" not in (folder / "report.html").read_text("utf-8")


def test_both_sides_can_be_any_picture(written: tuple[Path, Reader]) -> None:
    _, read = written
    assert read.tags["select"] == 4
    assert read.tags["option"] == 4 * 6
    assert read.tags["input"] == 2
    assert len(set(read.ids)) == len(read.ids) == 2


def test_names_are_escaped(written: tuple[Path, Reader]) -> None:
    folder, read = written
    text = (folder / "report.html").read_text("utf-8")
    assert NAMES[2] in read.text
    assert "<c>" not in text
    assert "c" not in read.tags
    assert "<ops>" not in text
    hostile = "</title><script>alert(1)</script>"
    assert hostile not in page(constructed(Failure(hostile, "", hostile), network=hostile))
    assert read.open == []


def test_every_table_has_the_protocol(written: tuple[Path, Reader]) -> None:
    _, read = written
    assert read.tags["table"] == 3
    for sentence in constructed().protocol.sentences():
        assert read.text.count(sentence) == 3


def test_crops_say_how_close_they_are(written: tuple[Path, Reader]) -> None:
    folder, read = written
    crops = sorted((folder / "images").glob("1-*/crop-1/*.png"))
    assert len(crops) == 6
    pixels = {path.stem: images.read(path).pixels for path in crops}
    assert pixels["target"].shape == (120, 120, 3)
    for name in ("degraded", "full-image", "tlc-96"):
        assert f"{psnr(pixels[name], pixels['target']):.2f} dB" in read.text


def test_an_image_that_lacks_a_picture_is_not_shown(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path / "images")
    first, second, _ = pictures.folders(NAMES).values()
    for name in PSNR:
        write_picture(picture(first, name), np.zeros((20, 30, 1)))
    write_picture(picture(second, DEGRADED), np.zeros((20, 30, 1)))
    write_report(constructed(), tmp_path, pictures)
    read = Reader((tmp_path / "report.html").read_text("utf-8"))
    assert read.tags["input"] == 1
    assert not list((tmp_path / "images").glob("*/crop-1"))  # the methods give equal images


def test_a_page_needs_no_pictures_and_no_targets() -> None:
    read = Reader(page(constructed(targets=False)))
    assert read.tags["table"] == 2
    assert read.tags["input"] == read.tags["h2"] - 2 == 0

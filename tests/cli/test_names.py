"""Names that steer terminals, or are no UTF-8, and files that are none."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from glocal.cli.reporting import print_json
from glocal.errors import CheckpointError, ImageError
from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.images.sample_files import read_header
from glocal.networks import load_checkpoint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")

NAMES = [b"no-utf8-\xff.png", b"red\x1b[31m.png", b"[bold]x:smile:.png", "ü.png".encode()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    images.write(tmp_path / "a.png", Image(np.full((40, 48, 3), 99, np.uint8)))
    for name in NAMES:
        (made / os.fsdecode(name)).write_bytes((tmp_path / "a.png").read_bytes())
    (made / os.fsdecode(b"broken\x1b[2J\xff.png")).write_text("nothing")
    return made


def test_any_name_works_and_none_steers_the_terminal(run, checkpoint: Path, folder: Path) -> None:
    out = folder.with_name("out")
    words = ("restore", folder, out, "--model", checkpoint, "--no-check")
    first = run(*words)
    assert first.exit_code == 1
    assert "4 restored, 1 failed" in first.stdout
    assert "\x1b" not in first.output
    assert r"broken\x1b[2J\udcff.png: is not an image" in first.stderr
    assert {os.fsencode(path.name) for path in out.glob("*.png")} == set(NAMES)
    assert "4 skipped, 1 failed" in run(*words).stdout


def test_json_names_every_file(run, checkpoint: Path, folder: Path) -> None:
    words = ("restore", folder, folder.with_name("out"), "--model", checkpoint, "--no-check")
    report = json.loads(run(*words, "--json").stdout)
    assert len(report["photographs"]) == 5
    sources = {each["source"] for each in report["photographs"]}
    assert {str(folder / os.fsdecode(name)) for name in NAMES} < sources


def test_json_keeps_what_utf8_has(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": "ü"})
    print_json({"a": "\udcff"})
    assert capsys.readouterr().out == '{\n  "a": "ü"\n}\n{\n  "a": "\\udcff"\n}\n'


def test_one_photograph_of_any_name(run, checkpoint: Path, folder: Path) -> None:
    source = folder / os.fsdecode(NAMES[0])
    target = folder.with_name(os.fsdecode(b"out-\xfe.tif"))
    for words in ((), ("--tile", "192", "--halo", "64", "--memory", "1GB", "--overwrite")):
        result = run("restore", source, target, "--model", checkpoint, "--no-check", *words)
        assert result.exit_code == 0, result.output
        assert images.read(target).size == (40, 48)


def test_pipes_are_not_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "a.png"
    os.mkfifo(pipe)
    for read in (images.read, read_header):
        with pytest.raises(ImageError, match=r"a\.png: is no regular file"):
            read(pipe)
    with pytest.raises(CheckpointError, match=r"a\.png: is no regular file"):
        load_checkpoint(pipe)


def test_devices_are_not_opened() -> None:
    for read, error in ((images.read, ImageError), (load_checkpoint, CheckpointError)):
        with pytest.raises(error, match="/dev/zero: is no regular file"):
            read("/dev/zero")

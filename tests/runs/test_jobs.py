"""Jobs of a folder: what is read, and under which names results are written."""

from pathlib import Path

import pytest

from glocal.errors import ArgumentError
from glocal.runs.jobs import folder_jobs, unreadable_files


def filled(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_formats_that_are_only_read_are_written_in_another(tmp_path: Path) -> None:
    source = filled(tmp_path / "in", "a.HEIC", "b.dng", "c.jpg", "d.exr", "e.pfm")
    written = [job.destination.name for job in folder_jobs(source, tmp_path / "out")]
    assert written == ["a.png", "b.tif", "c.jpg", "d.exr", "e.tif"]


def test_results_of_one_name_are_refused(tmp_path: Path) -> None:
    source = filled(tmp_path / "in", "a.heic", "a.png")
    with pytest.raises(ArgumentError, match=r"would both be written to .*a\.png; rename"):
        folder_jobs(source, tmp_path / "out")


@pytest.mark.parametrize("suffix", [".heic", ".dng", ".txt"])
def test_suffixes_that_are_not_written_are_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ArgumentError, match="cannot write"):
        folder_jobs(filled(tmp_path / "in", "a.png"), tmp_path / "out", suffix=suffix)


def test_pictures_that_nothing_reads_are_listed(tmp_path: Path) -> None:
    source = filled(tmp_path, "a.png", "b.psd", "sub/c.XCF", "notes.txt", ".d.psd", "out/e.psd")
    found = unreadable_files(source, tmp_path / "out")
    assert found == [tmp_path / "b.psd", tmp_path / "sub/c.XCF"]
    assert unreadable_files(source, tmp_path / "out", recursive=False) == [tmp_path / "b.psd"]

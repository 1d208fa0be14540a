import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from glocal.cli.progress import Bar, run_through
from glocal.runs.jobs import FileResult


def screen(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)


def test_tiles_of_a_photograph_are_shown() -> None:
    console = screen(terminal=True)
    with Bar("photo[1].jpg", files=1, console=console) as bar:
        for done in range(4):
            bar.tiles(done, 3)
            bar._progress.refresh()
    shown = console.file.getvalue()
    assert "photo[1].jpg" in shown
    assert "0/3" in shown
    assert "3/3" in shown


def test_a_whole_image_shows_no_count() -> None:
    console = screen(terminal=True)
    with Bar("photo.jpg", files=1, console=console) as bar:
        bar.tiles(0, 1)
        bar._progress.refresh()
        bar.tiles(1, 1)
    assert "/1" not in console.file.getvalue()


def test_files_are_counted_without_the_skipped() -> None:
    console = screen(terminal=True)
    with Bar("in", files=4, console=console) as bar:
        bar.file_done(skipped=True)
        for _ in range(3):
            bar.tiles(0, 2)
            bar.tiles(2, 2)
            bar.file_done()
            bar._progress.refresh()
    assert "3/3" in console.file.getvalue()


@pytest.mark.parametrize("files", [1, 3])
def test_quiet_where_nobody_watches(files: int) -> None:
    console = screen(terminal=False)
    with Bar("in", files=files, console=console) as bar:
        bar.tiles(0, 2)
        bar.tiles(2, 2)
        bar.file_done()
    assert console.file.getvalue() == ""


def test_a_run_that_is_interrupted_says_what_it_met(capsys: pytest.CaptureFixture[str]) -> None:
    def results() -> Iterator[FileResult]:
        yield FileResult(Path("a.png"), Path("b.png"), "failed", error="a.png: is damaged")
        yield FileResult(Path("c.png"), Path("d.png"), "restored", notes=("it is grey",))
        raise KeyboardInterrupt

    bar = Bar("in", files=3, console=screen(terminal=False))
    with pytest.raises(KeyboardInterrupt):
        run_through(results(), bar, ("restored", "failed"), 3)
    assert capsys.readouterr().err.splitlines() == [
        "note: it is grey (in 1 of 3 files)",
        "failed: a.png: is damaged",
    ]

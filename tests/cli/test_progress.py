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


def test_the_share_of_a_call_and_the_time_left_are_shown() -> None:
    console = screen(terminal=True)
    with Bar("photo.jpg", files=1, console=console) as bar:
        bar.expect(1000.0, 2)
        bar.step(0, 0.5)  # a measurement before the image
        bar.tiles(0, 1)
        bar._progress.refresh()
        bar.step(1, 0.02)
        bar._progress.refresh()
        bar.step(2, 0.5)
        bar._progress.refresh()
    shown = console.file.getvalue()
    assert "17 min left" in shown
    assert "1 %" in shown
    assert "16 min left" in shown
    assert "75 %" in shown


def test_the_share_of_a_tile_counts_to_the_file() -> None:
    console = screen(terminal=True)
    with Bar("photo.jpg", files=1, console=console) as bar:
        bar.expect(100.0, 2)
        for done in range(2):
            bar.tiles(done, 4)
        bar.step(7, 0.6)
        bar._progress.refresh()
    assert "tile 2/4, 40 %" in console.file.getvalue()


def test_lines_tell_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glocal.cli.progress.LINES_S", 0.0)
    with Bar("photo.jpg", files=1, console=screen(terminal=False)) as bar:
        bar.expect(100.0, 1)
        bar.tiles(0, 1)
        bar.step(0, 0.04)
    assert capsys.readouterr().err.splitlines() == [
        "photo.jpg: about 100 s",
        "photo.jpg: 0 %, 100 s left",
        "photo.jpg: 4 %, 96 s left",
    ]


def test_results_that_were_made_again_and_files_that_were_left_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    a, b = Path("a.png"), Path("b.png")
    results = [
        FileResult(a, b, "restored", again="with another network"),
        FileResult(a, b, "restored", again="with another network"),
        FileResult(a, b, "left", error="b.png exists"),
        FileResult(a, b, "skipped"),
    ]
    bar = Bar("in", files=4, console=screen(terminal=False))
    statuses = ("restored", "skipped", "left", "failed")
    assert run_through(results, bar, statuses, 4) == ("2 restored, 1 skipped, 1 left", True)
    assert capsys.readouterr().err.splitlines() == [
        "note: 2 done again: made with another network",
        "left: a.png: b.png exists",
    ]

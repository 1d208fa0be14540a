import io
from pathlib import Path

import pytest
from evaluations import constructed
from rich.console import Console

from glocal.cli.evaluate import printed
from glocal.cli.tables import FittedTable

COLUMNS = ("methods", "Δ psnr", "better on", "time ÷")
ROWS = (
    ("TLC 96 − crop-and-stitch 64/8 linear", "+0.167 ± 0.012", "2 of 3, 1 equal", "0.44"),
    ("crops 64 − full image", "+0.417 ± 0.020", "3 of 3", "2.08"),
)


def shown(width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(FittedTable(COLUMNS, ROWS, bold={(0, 3)}, title="Against the others"))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [45, 60, 80, 200])
def test_words_stay_whole_and_lines_fit(width: int) -> None:
    text = shown(width)
    for word in " ".join([*COLUMNS, *(cell for row in ROWS for cell in row)]).split():
        assert word in text.split()
    assert max(map(len, text.splitlines())) <= width


def test_a_narrow_terminal_shows_a_block_for_each_row() -> None:
    assert shown(30).splitlines()[2:7] == [
        " TLC 96 − crop-and-stitch 64/8",
        "linear",
        "   Δ psnr     +0.167 ± 0.012",
        "   better on  2 of 3, 1 equal",
        "   time ÷     0.44",
    ]


def test_the_tables_of_an_evaluation_break_no_word_at_80_columns() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, color_system=None)
    for part in printed(constructed(), per_image=True):
        console.print(part)
    assert max(map(len, out.getvalue().splitlines())) <= 80
    for word in ("crop-and-stitch", "+0.417", "ssim-3d", "memory,", "0.9033"):
        assert word in out.getvalue().split()


def test_the_table_of_a_scan_breaks_no_word_at_80_columns(
    run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Console, "is_terminal", True)
    monkeypatch.setenv("TERM", "dumb")  # of 80 columns, without colours
    text = run("scan", checkpoint).stdout
    assert max(map(len, text.splitlines())) <= 80
    for word in ("encoders.0.0.sca.0", "adaptive_avg_pool2d", "local:", "32x32"):
        assert word in text.split()

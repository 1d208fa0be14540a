import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from glocal.errors import ArgumentError
from glocal.images import image_files as images
from glocal.study.shift import plots
from glocal.study.shift.report import Shift, StatisticsShift


def shift(path: str, full: float = 2.0) -> Shift:
    random = np.random.default_rng(0)
    crops, whole, local = (
        random.normal(mean, spread, (count, 8))
        for mean, spread, count in ((0, 1, 48), (full, 0.4, 4), (0.2, 0.9, 128))
    )
    return Shift(path, "mean", "net.py:3", "mean", crops, whole, local, 0.9 * local)


@pytest.fixture(autouse=True)
def _needs_matplotlib() -> None:
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")


def colours(path: Path) -> set[tuple[int, ...]]:
    pixels = images.read(path).pixels
    return {tuple(int(v) for v in colour) for colour in pixels.reshape(-1, 3)}


def rgb(name: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(name[1:]))


@pytest.mark.parametrize("count", [1, 2, 6])
def test_densities_are_drawn(tmp_path: Path, count: int) -> None:
    path = tmp_path / "density.png"
    plots.densities({f"layer {i}": shift(f"blocks.{i}") for i in range(count)}, path, "Network")
    drawn = images.read(path)
    panels = min(count, 4)
    assert drawn.size[1] >= 400 * panels
    assert {rgb(plots.FULL), rgb(plots.LOCAL), rgb(plots.FROM_CROPS)} <= colours(path)
    assert [file.name for file in tmp_path.iterdir()] == ["density.png"]


def test_a_ranking_is_drawn_down_to_a_count(tmp_path: Path) -> None:
    shifts = tuple(shift("same" if i % 2 else f"blocks.{i}", i / 4) for i in range(12))
    report = StatisticsShift((64, 64), (96, 96), 4, shifts)
    for count in (3, 12):
        plots.ranking(report, tmp_path / f"{count}.png", count=count)
    few, all_ = (images.read(tmp_path / f"{count}.png").size for count in (3, 12))
    assert few[0] < all_[0]
    assert {rgb(plots.FULL), rgb(plots.LOCAL), rgb(plots.FROM_CROPS)} <= colours(
        tmp_path / "12.png"
    )


@pytest.mark.parametrize("suffix", [".svg", ".pdf"])
def test_vectors_are_the_same_each_time(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        plots.densities({"layer": shift("x")}, tmp_path / f"{name}{suffix}")
    a, b = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
    assert a == b


@pytest.mark.parametrize("spread", [0.05, 1.0])
def test_a_density_is_the_kernel_estimate(spread: float) -> None:
    values = np.random.default_rng(0).normal(0.3, spread, 500)
    grid = np.linspace(-5, 5, 601)
    quartiles = np.subtract(*np.quantile(values, [0.75, 0.25])) / 1.34
    width = 0.9 * min(values.std(), quartiles) * 500**-0.2
    kernel = stats.gaussian_kde(values, width / values.std(ddof=1))
    wanted = kernel(grid)
    np.testing.assert_allclose(plots.density(values, grid), wanted, atol=0.03 * wanted.max())


def test_one_value_is_a_peak() -> None:
    grid = np.linspace(-4, 4, 81)
    height = plots.density(np.full((1, 1), 1.0), grid)
    assert grid[height.argmax()] == pytest.approx(1)
    assert height.sum() * 0.1 == pytest.approx(1, rel=1e-3)


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"must end in \.png, \.svg, \.pdf"):
        plots.densities({"a": shift("a")}, tmp_path / "a.gif")
    with pytest.raises(ArgumentError, match="no statistic to draw"):
        plots.densities({}, tmp_path / "a.png")
    with pytest.raises(ArgumentError, match="cannot be written"):
        plots.densities({"a": shift("a")}, tmp_path / "missing" / "a.png")
    still = np.ones((4, 2))
    constant = Shift("a", "mean", "", "mean", *[still] * 4)
    with pytest.raises(ArgumentError, match="'a' does not vary over the crops"):
        plots.densities({"a": constant}, tmp_path / "a.png")
    with pytest.raises(ArgumentError, match="no statistic to draw"):
        plots.ranking(StatisticsShift((1, 1), (1, 1), 1, (constant,)), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_missing_matplotlib_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ArgumentError, match=r'pip install "glocal\[plots\]"$'):
        plots.densities({"a": shift("a")}, tmp_path / "a.png")


def test_matplotlib_is_imported_when_something_is_drawn() -> None:
    code = "import glocal.study.shift.plots, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Draw the figures of an analysis; the only module that imports matplotlib.

The extra `plots` installs it.
"""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glocal.errors import ArgumentError
from glocal.images.files import write_whole
from glocal.study.shift.distances import Values
from glocal.study.shift.report import Shift, StatisticsShift

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SUFFIXES", "densities", "density", "ranking", "require_matplotlib"]

SUFFIXES = (".png", ".svg", ".pdf")
CROPS, FULL, LOCAL, FROM_CROPS = "#8a8a8a", "#c0392b", "#1f6fb4", "#2e8b57"
"""Colours of training crops, full images, TLC and statistics from crops in all figures."""

_INK, _PALE = "#333333", "#d9d9d9"
_STYLE: Any = {  # a dict of matplotlib settings
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.edgecolor": "#999999",
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "svg.hashsalt": "glocal",
}
_WAYS = {
    "full image": FULL,
    "full image, TLC": LOCAL,
    "full image, statistics from crops": FROM_CROPS,
}
_PANELS_A_ROW = 4
_REACH = (4.0, 7.0)
"""Smallest and largest half-width of a density's axis, in deviations."""


def require_matplotlib() -> None:
    """Check that matplotlib is installed.

    Raises:
        ArgumentError: it is not.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ArgumentError(
            f'figures need the package {error.name}, which is missing: pip install "glocal[plots]"'
        ) from None


def densities(shifts: Mapping[str, Shift], path: str | Path, title: str = "") -> None:
    """Draw densities of statistics: training crops, full images, TLC, crops.

    This is figure 1 of the paper (TLC, arXiv 2112.04491), with one panel for each operation.
    Channels are standardised by their mean and deviation over the training crops. The density is
    that of all channels together, by a Gaussian kernel of Silverman's width.

    Args:
        shifts: by the titles of their panels.
        path: the file to write, .png, .svg or .pdf.
        title: of the figure.

    Raises:
        ArgumentError: matplotlib is missing, a statistic is constant, or the file cannot be
            written.
    """
    path = _checked(path)
    if not shifts:
        raise ArgumentError("there is no statistic to draw")
    constant = [name for name, shift in shifts.items() if shift.constant_channels == shift.channels]
    if constant:
        raise ArgumentError(f"the statistic of {constant[0]!r} does not vary over the crops")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    columns = min(len(shifts), _PANELS_A_ROW)
    rows = math.ceil(len(shifts) / columns)
    with mpl.rc_context(_STYLE):
        wide = 5.4 if columns == 1 else 3.1 * columns
        figure = Figure(figsize=(wide, (3.1 if columns == 1 else 2.5) * rows + 0.5))
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (name, shift) in zip(panels, shifts.items(), strict=False):
            _draw_density(axes, name, shift)
        for axes in panels[len(shifts) :]:
            axes.set_axis_off()
        for axes in panels[: len(shifts)][-columns:]:
            axes.set_xlabel("statistic, in deviations over training crops")
        handles, labels = panels[0].get_legend_handles_labels()
        _finish(figure, title, handles, labels)
        _write(figure, path)


def ranking(report: StatisticsShift, path: str | Path, title: str = "", count: int = 30) -> None:
    """Draw the distance of each operation by method, largest first.

    Args:
        report: from `analyze`.
        path: the file to write, .png, .svg or .pdf.
        title: of the figure.
        count: largest number of operations to draw.

    Raises:
        ArgumentError: matplotlib is missing, all statistics are constant, or the file cannot be
            written.
    """
    path = _checked(path)
    varying = [s for s in report.ranking() if s.constant_channels < s.channels][:count]
    if not varying:
        raise ArgumentError("there is no statistic to draw")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.2, 0.27 * len(varying) + 1.1))
        axes = figure.subplots()
        places = np.arange(len(varying))
        distances = {
            label: [shift.distance(_samples(shift)[label]) for shift in varying] for label in _WAYS
        }
        ends = [(min(each), max(each)) for each in zip(*distances.values(), strict=True)]
        axes.hlines(places, *zip(*ends, strict=True), color=_PALE, linewidth=3.5, zorder=1)
        for order, (label, far) in enumerate(distances.items(), 2):
            axes.scatter(far, places, 34, color=_WAYS[label], label=label, zorder=order)
        names = [shift.path or "(the network)" for shift in varying]
        repeated = {name for name in names if names.count(name) > 1}
        labels = [
            f"{name}  {shift.operation} {shift.line.rpartition(':')[2]}"
            if name in repeated
            else name
            for name, shift in zip(names, varying, strict=True)
        ]
        axes.set_axisbelow(True)
        axes.set_yticks(places, labels, fontsize=8)
        axes.set_ylim(len(varying) - 0.4, -0.6)
        axes.set_xlim(0)
        axes.set_xlabel("distance from training crops, in deviations")
        axes.grid(axis="x", color="#eeeeee")
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        _finish(figure, title, *axes.get_legend_handles_labels())
        _write(figure, path)


def density(values: Values, grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a kernel estimate of the density of all values at the points of a grid.

    >>> import numpy as np
    >>> grid = np.linspace(-6, 6, 601)
    >>> height = density(np.random.default_rng(0).normal(size=(1000, 4)), grid)
    >>> round(float(height.sum() * 0.02), 3), round(float(height.max()), 1)
    (1.0, 0.4)

    Args:
        values: any shape; those outside the grid count towards the total.
        grid: evenly spaced points.

    Source: Silverman, Density Estimation (1986), equation 3.31.
    """
    flat = values.ravel()
    deviation = flat.std()
    quartiles = float(np.subtract(*np.quantile(flat, [0.75, 0.25]))) / 1.34
    width = 0.9 * (min(deviation, quartiles) or deviation) * len(flat) ** -0.2
    step = grid[1] - grid[0]
    width = max(float(width), float(step))  # a single value shows as a peak
    # count the values on a finer grid first: there may be millions
    fine = step / 4
    reach = int(np.ceil(5 * width / fine))
    low = grid[0] - reach * fine
    bins = np.rint((flat - low) / fine).astype(np.int64)
    total = 4 * (len(grid) - 1) + 1 + 2 * reach
    counts = np.bincount(bins[(bins >= 0) & (bins < total)], minlength=total)
    offsets = np.arange(-reach, reach + 1) * fine
    kernel = np.exp(-0.5 * (offsets / width) ** 2)
    height: NDArray[np.float64] = np.convolve(counts, kernel / kernel.sum(), "valid")[::4]
    height /= len(flat) * fine
    return height


def _draw_density(axes: "Axes", name: str, shift: Shift) -> None:
    from matplotlib.ticker import MaxNLocator

    crops = shift.standardised(shift.crops)
    samples = {label: shift.standardised(values) for label, values in _samples(shift).items()}
    shown = np.concatenate([values.ravel() for values in samples.values()])
    ends = np.abs(np.quantile(shown, [0.02, 0.98]))
    reach = min(max(1.15 * float(ends.max()), _REACH[0]), _REACH[1])
    grid = np.linspace(-reach, reach, 601)
    height = density(crops, grid)
    axes.fill_between(grid, height, color=CROPS, alpha=0.35, linewidth=0, label="training crops")
    axes.plot(grid, height, color=CROPS, linewidth=1.0)
    for line, (label, values) in enumerate(samples.items()):
        axes.plot(grid, density(values, grid), color=_WAYS[label], linewidth=1.8, label=label)
        axes.text(
            0.985, 0.86 - 0.1 * line, f"{shift.distance(_samples(shift)[label]):.2f}",
            color=_WAYS[label], ha="right", va="top", fontweight="bold", transform=axes.transAxes,
        )  # fmt: skip
    axes.text(
        0.985, 0.95, "distance", color=CROPS, ha="right", va="top", fontsize=7.5,
        transform=axes.transAxes,
    )  # fmt: skip
    axes.set_title(name, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.set_yticks([])
    axes.set_xlim(-reach, reach)
    axes.set_ylim(0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _samples(shift: Shift) -> dict[str, Values]:
    """Return the samples of full images by the labels of `_WAYS`."""
    return dict(zip(_WAYS, (shift.full, shift.local, shift.from_crops), strict=True))


def _finish(figure: "Figure", title: str, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Place the title at the top, the legend below it, the panels in the rest."""
    inch = 1 / float(figure.get_figheight())
    top = 1 - 0.06 * inch
    if title:
        figure.text(0.5, top, title, ha="center", va="top", fontsize=11)
        top -= 0.24 * inch
    figure.legend(
        handles, labels, loc="upper center", ncols=len(labels), bbox_to_anchor=(0.5, top),
        borderaxespad=0, columnspacing=1.6, handlelength=1.4,
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0, 1, top - 0.22 * inch))


def _checked(path: str | Path) -> Path:
    require_matplotlib()
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ArgumentError(f"{path}: a figure's name must end in {', '.join(SUFFIXES)}")
    return path


def _write(figure: "Figure", path: Path) -> None:
    drawn = io.BytesIO()
    kind = path.suffix.lower()[1:]
    stamp = {"png": "Software", "svg": "Date", "pdf": "CreationDate"}[kind]
    figure.savefig(drawn, format=kind, dpi=160, metadata={stamp: None})
    write_whole(path, drawn.getvalue(), ArgumentError)

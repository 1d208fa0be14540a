"""The figures of docs/replication.md; only this file imports matplotlib (extra `plots`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray
from photos import Photo

RED, BLUE, GREEN, ORANGE = "#c0392b", "#1f77b4", "#2e8b57", "#d2691e"
DPI = 110
plt.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "glocal",
        "legend.frameon": False,
    }
)


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, dpi=DPI, metadata={"Software": None}, bbox_inches="tight")
    plt.close(figure)


def windows(
    panels: Mapping[str, tuple[Sequence[float], NDArray, NDArray, NDArray, NDArray]], path: Path
) -> None:
    """Gain over the full image against the window, with the levels of tiles and crops.

    A panel is (window scales, gains (seeds, scales), half-widths of the interval (scales,),
    gains of crop-and-stitch (seeds,), gains of statistics from crops (seeds,)).
    """
    figure, row = plt.subplots(
        1, len(panels), figsize=(3.0 * len(panels), 2.8), squeeze=False, sharey=True
    )
    for axes, (title, panel) in zip(row[0], panels.items(), strict=True):
        scales, gains, half, stitch, crops = panel
        mean = gains.mean(0)
        axes.axhline(0, color=RED, linewidth=1, label="full image")
        axes.axhline(stitch.mean(), color=GREEN, linestyle="--", label="crop-and-stitch")
        axes.axhline(crops.mean(), color=ORANGE, linestyle=":", label="statistics from crops")
        axes.fill_between(scales, mean - half, mean + half, color=BLUE, alpha=0.15, linewidth=0)
        for seed in gains:
            axes.plot(scales, seed, color=BLUE, linewidth=0.7, alpha=0.7)
        axes.plot(scales, mean, "o-", color=BLUE, markersize=3.5, label="TLC (95% interval)")
        axes.set_xscale("log", base=2)
        axes.set_xticks(scales, [f"{scale:g}" for scale in scales], fontsize=7)
        axes.minorticks_off()
        axes.set(title=title, xlabel="window ÷ training size")
    row[0][0].set_ylabel("PSNR over the full image (dB)")
    row[0][0].legend(fontsize=7)
    figure.tight_layout()
    _save(figure, path)


def comparison(
    sharp: Photo, images: Mapping[str, tuple[Photo, str]], path: Path, amplify: float
) -> None:
    """Crops of one photograph by method; below, amplified, their errors and differences.

    The second row is the error against the sharp crop, the third the difference from the last
    of the images: it shows seams, which the error of the blur itself would hide.
    """
    columns = {"sharp": (sharp, ""), **images}
    last = list(images)[-1]
    figure, rows = plt.subplots(3, len(columns), figsize=(2.1 * len(columns), 7.0), squeeze=False)
    for column, (title, (image, caption)) in enumerate(columns.items()):
        for axes in rows[:, column]:
            axes.axis("off")
        rows[0, column].imshow(image, interpolation="nearest")
        rows[0, column].set_title(title, fontsize=9)
        if title != "sharp":
            _difference(rows[1, column], image, sharp, amplify, caption)
        if title not in ("sharp", "degraded", last):
            _difference(rows[2, column], image, images[last][0], 3 * amplify, f"minus {last}")
    figure.tight_layout(pad=0.4)
    _save(figure, path)


def _difference(axes: Axes, image: Photo, other: Photo, amplify: float, title: str) -> None:
    grey = 0.5 + amplify * (image.astype(np.float32) - other).mean(2) / 255
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(f"{title}, ×{amplify:g}", fontsize=8)

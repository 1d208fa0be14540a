"""Write the folder of an analysis: JSON, figures, and seams of one image."""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from glocal.errors import ArgumentError
from glocal.images import image_files as images
from glocal.images.files import make_folder, write_whole
from glocal.images.image_files import Image
from glocal.inference.options import Tiles
from glocal.inference.restore import restore
from glocal.inference.settings import Settings
from glocal.ops.windows import Size
from glocal.study.dataset import Sample
from glocal.study.evaluation.methods import method_of
from glocal.study.evaluation.pictures import write_picture
from glocal.study.options import ConversionOptions, RunOptions
from glocal.study.shift.plots import densities, ranking, require_matplotlib
from glocal.study.shift.report import Shift, StatisticsShift
from glocal.study.shift.seams import amplified, seam_map, seam_ratio, tile_borders

__all__ = ["FILES", "Seams", "check_folder", "measure_seams", "write_analysis"]

FILES = (
    "shift.json", "density.png", "ranking.png", "seams.png", "stitched.png", "tlc.png", "crops.png"
)  # fmt: skip
"""The files in the folder of an analysis."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Seams:
    """One image, restored in tiles, with TLC and with statistics from crops.

    Attributes:
        name: of the image.
        tile: (height, width) of the tiles: the training size.
        stitched, local, from_crops: (h, w, c) in [0, 1], restored by crop-and-stitch, by TLC and
            with statistics from crops.
        ratios: `seam_ratio` of "crop-and-stitch", "TLC" and "crops" against the target; without a
            target, of "crop-and-stitch" against TLC; empty if the image has a single tile.
        reference: "target" or "TLC".
    """

    name: str
    tile: Size
    stitched: Floats
    local: Floats
    from_crops: Floats
    ratios: dict[str, float]
    reference: str

    def text(self) -> str:
        """Format the ratios in one line."""
        if not self.ratios:
            return f"none: {self.name} is no larger than a tile"
        ratios = ", ".join(f"{method} {ratio:.2f}" for method, ratio in self.ratios.items())
        return f"{ratios} in {self.name} (step across tile borders ÷ elsewhere; 1 means no seam)"

    def map_text(self) -> str:
        """Describe the picture of the seams."""
        return f"|crop-and-stitch − TLC|, multiplied by {self.amplified()[1]}"

    def amplified(self) -> tuple[NDArray[np.uint8], int]:
        """Return the picture of the seams, (h, w, 1), and its amplification."""
        return amplified(seam_map(self.stitched, self.local))

    def to_dict(self) -> dict[str, Any]:
        """Return the ratios as JSON values; null for infinity."""
        return {
            "image": self.name,
            "tile": self.tile,
            "reference": self.reference,
            "ratio": {
                m: ratio if math.isfinite(ratio) else None for m, ratio in self.ratios.items()
            },
            "amplified": self.amplified()[1],
        }


def measure_seams(
    model: nn.Module,
    sample: Sample,
    train_size: Size,
    *,
    window: Size,
    stride: float = 1.0,
    conversion: ConversionOptions = ConversionOptions(),
    run: RunOptions = RunOptions(),
    progress: Callable[[int, int], None] | None = None,
) -> Seams:
    """Restore an image in tiles without overlap, with TLC and with crop statistics."""
    degraded, target, _ = sample.read()
    options = replace(conversion, allow_global=True)
    tlc = Settings("windows", train_size, window=window)
    stitched = restore(
        model, degraded, tiles=Tiles(train_size, overlap=0, blend="cut"), progress=progress,
        **run.arguments(),
    )  # fmt: skip
    local, from_crops = (
        restore(method_of(model, each, options, run).network, degraded, **run.arguments())
        for each in (tlc, Settings("crops", train_size, stride=stride))
    )
    scale = local.shape[0] // degraded.shape[0]
    rows, columns = (
        [scale * border for border in tile_borders(size, tile)]
        for size, tile in zip(degraded.shape[:2], train_size, strict=True)
    )
    comparable = target is not None and target.shape == local.shape
    ratios: dict[str, float] = {}
    if rows or columns:
        restored = {"crop-and-stitch": stitched}
        if comparable:
            restored |= {"TLC": local, "crops": from_crops}
        reference = target if comparable and target is not None else local
        ratios = {
            method: seam_ratio(image, reference, rows, columns)
            for method, image in restored.items()
        }
    reference_name = "target" if comparable else "TLC"
    return Seams(sample.name, train_size, stitched, local, from_crops, ratios, reference_name)


def check_folder(folder: Path, overwrite: bool) -> None:
    """Check before the work that the results can be written.

    Raises:
        ArgumentError: matplotlib is missing, the folder is a file, or it contains results.
    """
    require_matplotlib()
    if folder.exists() and not folder.is_dir():
        raise ArgumentError(f"{folder} is a file; choose a folder for the results")
    existing = [name for name in FILES if (folder / name).exists()]
    if existing and not overwrite:
        raise ArgumentError(
            f"{folder / existing[0]} exists; choose another folder or pass --overwrite"
        )


def write_analysis(
    folder: Path, shifts: StatisticsShift, seams: Seams, layers: Iterable[str], name: str
) -> None:
    """Write all `FILES`; figures are skipped if no statistic varies.

    Args:
        folder: created if missing.
        shifts: from `analyze`.
        seams: from `measure_seams`.
        layers: module paths whose densities are drawn; by default the one that shifts most.
        name: of the network, for the titles.

    Raises:
        ArgumentError: a file cannot be written, or a layer's statistic is constant.
        ImageError: a picture cannot be written.
    """
    make_folder(folder, ArgumentError)
    wanted = set(layers)
    varying = [s for s in shifts.ranking() if s.constant_channels < s.channels]
    drawn = [s for s in shifts.ranking() if s.path in wanted] if wanted else varying[:1]
    if drawn:
        densities(_titled(drawn), folder / "density.png", name)
    if varying:
        ranking(shifts, folder / "ranking.png", name)
    images.write(folder / "seams.png", Image(seams.amplified()[0]))
    write_picture(folder / "stitched.png", seams.stitched)
    write_picture(folder / "tlc.png", seams.local)
    write_picture(folder / "crops.png", seams.from_crops)
    data = json.loads(shifts.to_json()) | {"network": name, "seams": seams.to_dict()}
    text = json.dumps(data, indent=2, ensure_ascii=False)
    write_whole(folder / "shift.json", text + "\n", ArgumentError)


def _titled(shifts: list[Shift]) -> dict[str, Shift]:
    """Return the shifts by panel titles, unique even for operations of one module."""
    titles: dict[str, Shift] = {}
    for shift in shifts:
        title = shift.path or "the network"
        if sum(other.path == shift.path for other in shifts) > 1:
            title += f", {shift.statistic}"
        base, number = title, 1
        while title in titles:
            number += 1
            title = f"{base} ({number})"
        titles[title] = shift
    return titles

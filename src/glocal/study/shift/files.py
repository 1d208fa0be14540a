"""The folder of an analysis: distances as JSON, figures, and the seams of one image."""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from glocal.conversion.localize import localize
from glocal.data.datasets import Pair, read_pair
from glocal.errors import ArgumentError
from glocal.images import images
from glocal.images.files import make_folder, write_whole
from glocal.images.images import Image
from glocal.inference.options import Tiles
from glocal.inference.restore import restore
from glocal.ops.windows import Size
from glocal.study.evaluation.pictures import write_picture
from glocal.study.shift.plots import densities, ranking, require_matplotlib
from glocal.study.shift.report import Shift, StatisticsShift
from glocal.study.shift.seams import amplified, seam_map, seam_ratio, tile_borders

__all__ = ["FILES", "Seams", "check_folder", "measure_seams", "write_analysis"]

FILES = ("shift.json", "density.png", "ranking.png", "seams.png", "stitched.png", "tlc.png")
"""What the folder of an analysis holds."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Seams:
    """One image, restored in tiles that lie edge to edge and as a whole with TLC.

    Attributes:
        name: of the image.
        tile: (height, width) of the tiles, the training size.
        stitched, local: (h, w, c) in [0, 1], crop-and-stitch and TLC.
        ratios: `seam_ratio` of "crop-and-stitch" and "TLC" against the target; where there is
            none, of "crop-and-stitch" against TLC; empty for an image of one tile.
        against: "target" or "TLC".
    """

    name: str
    tile: Size
    stitched: Floats
    local: Floats
    ratios: dict[str, float]
    against: str

    def text(self) -> str:
        """The ratios in a line."""
        if not self.ratios:
            return f"none: {self.name} is no larger than a tile"
        ratios = ", ".join(f"{way} {ratio:.2f}" for way, ratio in self.ratios.items())
        return f"{ratios} in {self.name} (step across tile borders ÷ elsewhere; 1 is no seam)"

    def map_text(self) -> str:
        """What the picture of the seams shows."""
        return f"|crop-and-stitch − TLC|, multiplied by {self.amplified()[1]}"

    def amplified(self) -> tuple[NDArray[np.uint8], int]:
        """The picture of the seams, (h, w, 1), and by how much it is amplified."""
        return amplified(seam_map(self.stitched, self.local))

    def as_dict(self) -> dict[str, Any]:
        """What JSON says of it."""
        told = {way: r if math.isfinite(r) else None for way, r in self.ratios.items()}
        return {
            "image": self.name,
            "tile": self.tile,
            "against": self.against,
            "ratio": told,
            "amplified": self.amplified()[1],
        }


def measure_seams(
    model: nn.Module,
    pair: Pair,
    train_size: Size,
    *,
    window: Size,
    keep_global: Iterable[str] = (),
    output: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Seams:
    """Restore an image in tiles of the training size, edge to edge, and as a whole with TLC."""
    degraded, target = read_pair(pair)
    local_model = localize(
        model, train_size, window=window, keep_global=keep_global, allow_global=True
    )
    stitched = restore(
        model,
        degraded,
        tiles=Tiles(train_size, overlap=0, blend="cut"),
        output=output,
        progress=progress,
    )
    local = restore(local_model, degraded, output=output)
    scale = local.shape[0] // degraded.shape[0]
    rows, columns = (
        [scale * border for border in tile_borders(size, tile)]
        for size, tile in zip(degraded.shape[:2], train_size, strict=True)
    )
    known = target is not None and target.shape == local.shape
    ratios: dict[str, float] = {}
    if rows or columns:
        ways = (
            {"crop-and-stitch": stitched, "TLC": local} if known else {"crop-and-stitch": stitched}
        )
        reference = target if known and target is not None else local
        ratios = {way: seam_ratio(image, reference, rows, columns) for way, image in ways.items()}
    return Seams(pair.name, train_size, stitched, local, ratios, "target" if known else "TLC")


def check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse what would fail after the work is done.

    Raises:
        ArgumentError: matplotlib is missing, the folder is a file, or holds results already.
    """
    require_matplotlib()
    if folder.exists() and not folder.is_dir():
        raise ArgumentError(f"{folder}: is a file; an analysis needs a folder")
    there = [name for name in FILES if (folder / name).exists()]
    if there and not overwrite:
        raise ArgumentError(
            f"{folder / there[0]}: exists already; name another folder or give --overwrite"
        )


def write_analysis(
    folder: Path, shifts: StatisticsShift, seams: Seams, layers: Iterable[str], name: str
) -> None:
    """Write all `FILES` that there is something to say in.

    Args:
        folder: made where it is missing.
        layers: module paths whose densities are drawn; the one that shifts most where empty.
        name: of the network, for the titles.

    Raises:
        ArgumentError: the disk refuses a file, or a layer's statistics do not vary.
        ImageError: the disk refuses a picture.
    """
    make_folder(folder, ArgumentError)
    wanted = set(layers)
    told = [s for s in shifts.ranking() if s.left_out < s.channels]
    drawn = [s for s in shifts.ranking() if s.path in wanted] if wanted else told[:1]
    if drawn:
        densities(_titled(drawn), folder / "density.png", name)
    if told:
        ranking(shifts, folder / "ranking.png", name)
    images.write(folder / "seams.png", Image(seams.amplified()[0]))
    write_picture(folder / "stitched.png", seams.stitched)
    write_picture(folder / "tlc.png", seams.local)
    data = json.loads(shifts.to_json()) | {"network": name, "seams": seams.as_dict()}
    text = json.dumps(data, indent=2, ensure_ascii=False)
    write_whole(folder / "shift.json", text + "\n", ArgumentError)


def _titled(shifts: list[Shift]) -> dict[str, Shift]:
    """Statistics by the titles of their panels, which tell apart those of one module."""
    titles: dict[str, Shift] = {}
    for shift in shifts:
        title = shift.path or "the network"
        if sum(other.path == shift.path for other in shifts) > 1:
            title += f", {shift.how}"
        base, number = title, 1
        while title in titles:
            number += 1
            title = f"{base} ({number})"
        titles[title] = shift
    return titles

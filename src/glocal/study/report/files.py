"""The report's files: report.md, report.html, and the crops beside the pictures."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glocal.errors import ImageError
from glocal.images.files import make_folder, write_whole
from glocal.images.images import read
from glocal.metrics import psnr
from glocal.study.evaluation.pictures import TARGET, Pictures, picture, write_picture
from glocal.study.evaluation.records import DEGRADED, Evaluation
from glocal.study.report.crops import Box, cut, differing
from glocal.study.report.markdown import markdown
from glocal.study.report.page import Crop, Shown, page

__all__ = ["write_report"]

Pixels = NDArray[np.uint8]


def write_report(evaluation: Evaluation, folder: Path, pictures: Pictures) -> tuple[Path, Path]:
    """Write report.md and report.html into a folder.

    Args:
        evaluation: what to report.
        folder: made where it is missing.
        pictures: what `glocal.evaluate` was given, in a folder inside of `folder`. An image with
            a picture of every way is shown; the places where they differ become files too.

    Returns:
        The paths of both files.

    Raises:
        ImageError: the disk refuses it.
    """
    make_folder(folder, ImageError)
    shown = list(_shown(evaluation, folder, pictures))
    text, html = folder / "report.md", folder / "report.html"
    write_whole(text, markdown(evaluation), ImageError)
    write_whole(html, page(evaluation, shown), ImageError)
    return text, html


def _shown(evaluation: Evaluation, folder: Path, pictures: Pictures) -> Iterator[Shown]:
    for image, place in pictures.folders(evaluation.names).items():
        names = [DEGRADED, *evaluation.protocol.ways, TARGET]
        paths = {name: picture(place, name) for name in names if picture(place, name).exists()}
        ways = [name for name in evaluation.protocol.ways if name in paths]
        if DEGRADED not in paths or len(ways) < len(evaluation.protocol.ways):
            continue
        pixels = {name: read(path).pixels for name, path in paths.items()}
        whole = pixels[ways[0]].shape[:2]
        boxes = differing([pixels[way] for way in ways])
        yield Shown(
            image,
            (whole[0], whole[1]),
            {name: path.relative_to(folder).as_posix() for name, path in paths.items()},
            [_crop(box, index, pixels, whole, place, folder) for index, box in enumerate(boxes, 1)],
        )


def _crop(
    box: Box,
    index: int,
    pixels: Mapping[str, Pixels],
    whole: tuple[int, ...],
    place: Path,
    folder: Path,
) -> Crop:
    parts: dict[str, NDArray[Any]] = {
        name: cut(image, box, (whole[0], whole[1])) for name, image in pixels.items()
    }
    paths = {name: picture(place / f"crop-{index}", name) for name in parts}
    for name, part in parts.items():
        write_picture(paths[name], part / np.float32(255))
    target = parts.get(TARGET)
    return Crop(
        box,
        {name: path.relative_to(folder).as_posix() for name, path in paths.items()},
        {
            name: psnr(part, target)
            for name, part in parts.items()
            if target is not None and name != TARGET and part.shape == target.shape
        },
    )

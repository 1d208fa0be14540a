"""Write report.md, report.html, and crops of the pictures."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glocal.errors import ImageError
from glocal.images.files import make_folder, write_whole
from glocal.images.image_files import read
from glocal.metrics import psnr
from glocal.study.evaluation.pictures import TARGET, Pictures, picture, write_picture
from glocal.study.evaluation.records import DEGRADED, Evaluation
from glocal.study.report.crops import Box, cut, differing
from glocal.study.report.markdown import markdown
from glocal.study.report.page import Crop, Shown, page
from glocal.study.report.render import require_jinja2

__all__ = ["write_report"]

Pixels = NDArray[np.uint8]


def write_report(
    evaluation: Evaluation, folder: str | Path, pictures: Pictures | None = None
) -> tuple[Path, Path]:
    """Write report.md and report.html into a folder.

    Args:
        evaluation: from `glocal.evaluate`.
        folder: created if missing.
        pictures: as passed to `glocal.evaluate`; its folder is inside `folder`. The page shows each
            image that has a picture of every method. Crops where the methods differ are written
            beside the pictures.

    Returns:
        The paths of both files.

    Raises:
        ArgumentError: Jinja2 is not installed.
        ImageError: a file cannot be written.
    """
    require_jinja2()
    folder = Path(folder)
    make_folder(folder, ImageError)
    shown = list(_shown(evaluation, folder, pictures)) if pictures else []
    text, html = folder / "report.md", folder / "report.html"
    write_whole(text, markdown(evaluation), ImageError)
    write_whole(html, page(evaluation, shown), ImageError)
    return text, html


def _shown(evaluation: Evaluation, folder: Path, pictures: Pictures) -> Iterator[Shown]:
    for image, place in pictures.folders(evaluation.images).items():
        names = [DEGRADED, *evaluation.protocol.methods, TARGET]
        paths = {name: picture(place, name) for name in names if picture(place, name).exists()}
        methods = [name for name in evaluation.protocol.methods if name in paths]
        if DEGRADED not in paths or len(methods) < len(evaluation.protocol.methods):
            continue
        pixels = {name: read(path).pixels for name, path in paths.items()}
        whole = pixels[methods[0]].shape[:2]
        boxes = differing([pixels[method] for method in methods])
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

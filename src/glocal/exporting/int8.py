"""Make exported files compute in 8-bit integers, with scales from photographs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from glocal.conversion.two_passes import TwoPasses
from glocal.errors import ArgumentError
from glocal.exporting.capture import CapturedProgram
from glocal.exporting.files import Run, load
from glocal.exporting.onnx_int8 import quantize
from glocal.exporting.two_graphs import pass_inputs, run_both
from glocal.ops.windows import Size
from glocal.texts import size_text

__all__ = ["MOST_PARTS", "Int8", "calibration_parts", "in_int8"]

MOST_PARTS = 24
"""Parts of photographs to calibrate with, evenly spaced over all photographs."""

_SIDE = 256


@dataclass(frozen=True)
class Int8:
    """Effect of 8-bit integers on an exported network.

    Attributes:
        convolutions: that compute in 8 bits.
        parts: of photographs, that the scales come from.
        psnr: of the results on these parts, with those in float32 as the target, in dB.
    """

    convolutions: int
    parts: int
    psnr: float


def in_int8(
    files: Sequence[Path],
    run: Run,
    photographs: Sequence[Tensor],
    channels: int,
    sizes: CapturedProgram | Size,
    passes: TwoPasses | None,
) -> Int8:
    """Make files compute in 8-bit integers, in place.

    Args:
        files: of the image and, with passes, of the crops.
        run: from an image to the results of both files in float32.
        photographs: to calibrate with, each (c, h, w) or (b, c, h, w) in [0, 1].
        channels: of the network.
        sizes: that the files take: the captured program, or the only size.
        passes: how the network takes statistics from crops.

    Raises:
        ArgumentError: no photograph is large enough.
    """
    images = [image[(None,) * (4 - image.ndim)].float().cpu() for image in photographs]
    crop = passes.crop if passes else (1, 1)
    parts = calibration_parts(images, channels, sizes, crop)
    wanted = [run(part)[0] for part in parts]
    if passes is None:
        inputs = [[{"image": part} for part in parts]]
    else:
        statistics = load(files[1])
        inputs = [[], []]
        for part in parts:
            crops, arguments = pass_inputs(passes, statistics, part)
            names = [f"statistic_{i}" for i in range(len(arguments) - 3)]
            inputs[0].append(
                dict(zip(("image", "rows", "columns", *names), arguments, strict=True))
            )
            inputs[1] += [{"crops": crop} for crop in crops.split(1)]
    count = sum(quantize(file, fed) for file, fed in zip(files, inputs, strict=True))
    runs = [load(file) for file in files]
    ours = runs[0] if passes is None else run_both(passes, runs[1], runs[0])
    squares = [
        (ours(part)[0] - goal).square().mean() for part, goal in zip(parts, wanted, strict=True)
    ]
    error = float(torch.stack(squares).mean())
    return Int8(count, len(parts), -10 * math.log10(error) if error > 0 else math.inf)


def calibration_parts(
    images: Sequence[Tensor], channels: int, sizes: CapturedProgram | Size, least: Size
) -> list[Tensor]:
    """Parts of images at their centres and corners, (b, c, h, w).

    Args:
        images: each (b, c, h, w).
        channels: of the network; images of others are left out.
        sizes: that the network takes: the captured program, or the only size.
        least: (height, width) that a part must have.

    Raises:
        ArgumentError: no image has as many channels and pixels.
    """
    if isinstance(sizes, CapturedProgram):
        multiple = sizes.multiple
        height, width = (-(-max(n, sizes.smallest) // multiple) * multiple for n in least)
        least, most = (height, width), (max(height * 3 // 2, _SIDE), max(width * 3 // 2, _SIDE))
    else:
        least, most, multiple = sizes, sizes, 1
    parts: list[Tensor] = []
    for image in images:
        height, width = (
            min(n, m) // multiple * multiple for n, m in zip(image.shape[-2:], most, strict=True)
        )
        if image.shape[1] != channels or height < least[0] or width < least[1]:
            continue
        below, beside = image.shape[-2] - height, image.shape[-1] - width
        places = [(below // 2, beside // 2), (0, 0), (below, beside), (0, beside), (below, 0)]
        parts += [image[..., y : y + height, x : x + width] for y, x in dict.fromkeys(places)]
    if not parts:
        raise ArgumentError(
            f"none of the {len(images)} photographs to calibrate with has {channels} channels and "
            f"at least {size_text(least)} pixels"
        )
    step = max(1.0, len(parts) / MOST_PARTS)
    return [parts[int(i * step)].contiguous() for i in range(min(len(parts), MOST_PARTS))]

"""Hand shake with noise: motion blur and noise whose strength varies over the photograph.

Every pixel averages the image along its own short path, as the light of one exposure does when
the camera turns in the hand. The paths come from smooth random maps with a scale of about 300
pixels: their length is spread evenly over 0 to 11 px (so some regions stay nearly sharp), their
direction is free, and they bend a little. The level of the Gaussian noise varies between 2 and
5 of 255 by a map of its own. The photograph is an 8-bit one before and after.

    degraded = degrade(photo, seed=3)          # (h, w, 3) uint8 → the same

    python experiments/default_model/degrade.py photo.jpg out.png --seed 3
"""

import argparse
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

MAP_SCALE_PX = 300
LONGEST_PATH_PX = 11.0
BEND = 0.25
NOISE_SIGMA = (2.0, 5.0)
TAPS = 13
BAND_ROWS = 256

Photo = NDArray[np.uint8]


def seed_of(name: str) -> int:
    """The seed of a photograph that is degraded as a test image: fixed by its file name."""
    return zlib.crc32(name.encode())


def smooth_maps(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Smooth Gaussian random maps of mean 0 and (over many maps) variance 1: (count, h, w)."""
    step = MAP_SCALE_PX / 2
    rows, columns = int(height / step) + 4, int(width / step) + 4
    coarse = torch.randn(1, count, rows, columns, generator=generator)
    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = torch.outer(kernel, kernel)
    kernel = (kernel / kernel.norm()).expand(count, 1, 3, 3)
    coarse = F.conv2d(coarse, kernel, groups=count)
    y = torch.linspace(-1, -1 + 2 * height / step / (rows - 3), height)
    x = torch.linspace(-1, -1 + 2 * width / step / (columns - 3), width)
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None]
    return F.grid_sample(coarse, grid, "bicubic", "border", align_corners=True)[0]


def evenly(gaussian: Tensor) -> Tensor:
    """Spread standard normal values evenly over [0, 1]."""
    return 0.5 * (1 + torch.erf(gaussian / 2**0.5))


def degrade(photo: Photo, seed: int) -> Photo:
    """Blur and add noise to an (h, w, 3) uint8 photograph; one seed gives one result."""
    generator = torch.Generator().manual_seed(seed)
    height, width = photo.shape[:2]
    maps = smooth_maps(5, height, width, generator)
    length = LONGEST_PATH_PX * evenly(maps[0])
    angle = torch.atan2(maps[1], maps[2])
    path = torch.stack([angle.cos(), angle.sin()]) * length  # x, y
    bend = torch.stack([-path[1], path[0]]) * BEND * maps[3].clamp(-2, 2)
    low, high = NOISE_SIGMA
    sigma = low + (high - low) * evenly(maps[4])
    image = torch.from_numpy(photo).permute(2, 0, 1)[None].float()
    times = (torch.arange(TAPS) + 0.5) / TAPS - 0.5
    bands = []
    for top in range(0, height, BAND_ROWS):
        rows = slice(top, min(height, top + BAND_ROWS))
        y, x = torch.meshgrid(
            torch.arange(rows.start, rows.stop), torch.arange(width), indexing="ij"
        )
        blurred = torch.zeros(3, rows.stop - rows.start, width)
        for t in times.tolist():
            at_x = x + t * path[0, rows] + (t * t - 1 / 12) * bend[0, rows]
            at_y = y + t * path[1, rows] + (t * t - 1 / 12) * bend[1, rows]
            grid = torch.stack([2 * at_x / (width - 1) - 1, 2 * at_y / (height - 1) - 1], -1)
            blurred += F.grid_sample(
                image, grid[None], "bilinear", "reflection", align_corners=True
            )[0]
        bands.append(blurred / TAPS)
    noise = torch.randn(3, height, width, generator=generator) * sigma
    result = (torch.cat(bands, dim=1) + noise).round().clamp(0, 255).byte()
    return result.permute(1, 2, 0).contiguous().numpy()


def main() -> None:
    import pyvips

    parser = argparse.ArgumentParser(description="degrade one photograph")
    parser.add_argument("photo", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, help="default: fixed by the file's name")
    arguments = parser.parse_args()
    seed = seed_of(arguments.photo.name) if arguments.seed is None else arguments.seed
    photo = pyvips.Image.new_from_file(arguments.photo).colourspace("srgb").numpy()[..., :3]
    pyvips.Image.new_from_array(degrade(np.ascontiguousarray(photo), seed)).write_to_file(
        arguments.out
    )


if __name__ == "__main__":
    main()

"""Three degradations whose strength varies over the photograph.

    degraded = TASKS["deblur"](photo, seed=3)  # (h, w, 3) uint8 → the same

All maps are smooth and random with a scale of about 300 pixels: a training crop of 64 pixels
sees nearly one strength, a whole photograph sees many.
"""

import zlib
from collections.abc import Callable

import torch
from degrade import evenly, smooth_maps
from photos import Photo
from torch import Tensor
from torch.nn import functional as F

LONGEST_PATH_PX = 13.0
TAPS = 15
BLUR_NOISE_SIGMA = 2.0
NOISE_SIGMA = (5.0, 50.0)
HAZE_DEPTH = (0.1, 1.5)
AIRLIGHT = (0.75, 1.0)
HAZE_NOISE_SIGMA = 1.0


def seed_of(task: str, name: str, version: int = 0) -> int:
    """The seed of a photograph's degradation: fixed by task, file name and version."""
    return zlib.crc32(f"{task}/{name}/{version}".encode())


def deblur(photo: Photo, seed: int) -> Photo:
    """Motion along straight paths of 0 to 13 px in any direction, and noise of σ 2 (of 255)."""
    generator = torch.Generator().manual_seed(seed)
    sharp = _tensor(photo)
    height, width = sharp.shape[1:]
    maps = smooth_maps(3, height, width, generator)
    angle = torch.atan2(maps[1], maps[2])
    path = (
        torch.stack([angle.cos(), angle.sin()], -1) * (LONGEST_PATH_PX * evenly(maps[0]))[..., None]
    )
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([x, y], -1)
    scale = torch.tensor([2 / (width - 1), 2 / (height - 1)])
    blurred = torch.zeros_like(sharp)
    for time in ((torch.arange(TAPS) + 0.5) / TAPS - 0.5).tolist():
        grid = (place + time * path) * scale - 1
        blurred += F.grid_sample(
            sharp[None], grid[None], "bilinear", "reflection", align_corners=True
        )[0]
    return _noisy(blurred / TAPS, BLUR_NOISE_SIGMA, generator)


def denoise(photo: Photo, seed: int) -> Photo:
    """Gaussian noise whose σ varies from 5 to 50 (of 255)."""
    generator = torch.Generator().manual_seed(seed)
    sharp = _tensor(photo)
    low, high = NOISE_SIGMA
    (level,) = smooth_maps(1, *sharp.shape[1:], generator)
    return _noisy(sharp, low + (high - low) * evenly(level), generator)


def dehaze(photo: Photo, seed: int) -> Photo:
    """Haze J·t + A·(1 − t), t = exp(−depth), of one nearly white airlight A, and noise of σ 1."""
    generator = torch.Generator().manual_seed(seed)
    clear = _tensor(photo)
    low, high = HAZE_DEPTH
    (far,) = smooth_maps(1, *clear.shape[1:], generator)
    transmission = torch.exp(-(low + (high - low) * evenly(far)))
    dark, bright = AIRLIGHT
    tint = 0.04 * (torch.rand(3, 1, 1, generator=generator) - 0.5)
    airlight = 255 * (dark + (bright - dark) * torch.rand(1, generator=generator) + tint)
    hazy = clear * transmission + airlight * (1 - transmission)
    return _noisy(hazy, HAZE_NOISE_SIGMA, generator)


TASKS: dict[str, Callable[[Photo, int], Photo]] = {
    "deblur": deblur,
    "denoise": denoise,
    "dehaze": dehaze,
}


def _tensor(photo: Photo) -> Tensor:
    return torch.from_numpy(photo).permute(2, 0, 1).float()


def _noisy(image: Tensor, sigma: Tensor | float, generator: torch.Generator) -> Photo:
    noise = torch.randn(image.shape, generator=generator) * sigma
    pixels = (image + noise).round().clamp(0, 255).byte()
    return pixels.permute(1, 2, 0).contiguous().numpy()

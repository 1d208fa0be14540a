"""Degradations of a hand-held camera, in the order in which they happen.

1. The light is averaged along the path of the hand's shake, and over a small disc where the lens
   is slightly out of focus. 2. The sensor counts photons and adds noise of its own. 3. The values
are encoded as sRGB with 8 bits. 4. The file is compressed as JPEG.

Steps 1 and 2 work on linear light. Path, disc and noise vary over the photograph by smooth random
maps. A photograph takes part in some of the steps only:

    sharp = ...                                            # (h, w, 3) uint8
    degraded = take(sharp, draw(("blur", "noise"), rng), rng)
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyvips
import torch
from numpy.typing import NDArray
from sources import Photo, as_image
from torch import Tensor
from torch.nn import functional as F

from glocal.data.random_fields import SmoothFields, average_at_offsets, to_uniform

LONGEST_PATH_PX = 25.0
LARGEST_RADIUS_PX = 1.5
GAINS = (5e-5, 5e-3)
"""Variance of the photon noise at white; 1e-3 gives a mid grey a deviation of about 4/255."""
READ_NOISE = (0.01, 0.08)
"""Deviation of the read noise, as a part of the root of the gain."""
QUALITIES = (60, 98)
GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))

Floats = NDArray[np.float32]

MIXTURE = {
    (): 0.13,
    ("jpeg",): 0.12,
    ("noise",): 0.12,
    ("blur",): 0.15,
    ("noise", "jpeg"): 0.08,
    ("blur", "jpeg"): 0.09,
    ("blur", "noise"): 0.13,
    ("blur", "noise", "jpeg"): 0.18,
}
"""The steps that a training photograph takes part in, and how often."""


@dataclass(frozen=True)
class Shot:
    """The strengths of one photograph; zero or None leaves a step out.

    Attributes:
        path_px: extent of the longest path.
        radius_px: radius of the largest disc.
        gain: variance of the photon noise at white.
        read: deviation of the read noise in linear light.
        grain: how much of the noise is smoothed over 3×3 pixels, as demosaicking does.
        quality: of the JPEG file.
        subsampled: whether the JPEG file halves the resolution of the colours.
    """

    path_px: float = 0.0
    radius_px: float = 0.0
    gain: float = 0.0
    read: float = 0.0
    grain: float = 0.0
    quality: int | None = None
    subsampled: bool = False


def draw(steps: tuple[str, ...], rng: np.random.Generator) -> Shot:
    """Strengths for some of the steps "blur", "noise" and "jpeg"."""
    drawn: dict[str, float | int | bool] = {}
    if "blur" in steps:
        # short paths are the frequent ones, and the hard ones to tell from sharpness
        drawn["path_px"] = 1 + (LONGEST_PATH_PX - 1) * rng.random() ** 1.3
        drawn["radius_px"] = LARGEST_RADIUS_PX * rng.random() if rng.random() < 0.5 else 0.0
    if "noise" in steps:
        gain = math.exp(rng.uniform(*np.log(GAINS)))
        drawn["gain"], drawn["read"] = gain, math.sqrt(gain) * rng.uniform(*READ_NOISE)
        drawn["grain"] = rng.random() if rng.random() < 0.6 else 0.0
    if "jpeg" in steps:
        drawn["quality"] = int(rng.integers(QUALITIES[0], QUALITIES[1] + 1))
        drawn["subsampled"] = bool(rng.random() < 0.5)
    return Shot(**drawn)


def take(sharp: Photo, shot: Shot, rng: np.random.Generator) -> Photo:
    """The photograph that a shot makes of a sharp one, (h, w, 3) uint8 each."""
    taken = sharp
    if shot.path_px or shot.gain:
        light = to_light(sharp)
        if shot.path_px:
            light = shaken(light, shot, rng)
        if shot.gain:
            light = noisy(light, shot, rng)
        taken = to_srgb(light)
    if shot.quality is not None:
        mode = "on" if shot.subsampled else "off"
        data = as_image(taken).jpegsave_buffer(Q=shot.quality, subsample_mode=mode)
        taken = pyvips.Image.new_from_buffer(data, "").numpy()
    return taken


def _decoded() -> Floats:
    values = np.arange(256) / 255
    curve = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return curve.astype(np.float32)


LIGHT = _decoded()


def to_light(pixels: Photo) -> Floats:
    """Linear light of sRGB pixels."""
    return LIGHT[pixels]


def to_srgb(light: Floats) -> Photo:
    """SRGB pixels of linear light, rounded and clipped to 8 bits."""
    x = torch.from_numpy(light).clamp(0, 1)
    encoded = torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    return (255 * encoded).round().byte().numpy()


def trace(taps: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """The (x, y) of a shaking hand over one exposure: extent 1, mean 0, any direction.

    A third is straight, a third bent, and a third wanders: slow swings are larger than fast ones.
    """
    t = (np.arange(taps) + 0.5) / taps - 0.5
    curve = np.stack([t, np.zeros(taps)])
    kind = rng.integers(3)
    if kind == 1:
        curve[1] = rng.uniform(0.3, 1.5) * t * t
    elif kind == 2:
        for k in range(1, 6):
            size, phase = rng.normal(size=(2, 1)), rng.uniform(0, 2 * math.pi, (2, 1))
            curve += 0.6 * size / k**1.5 * np.sin(math.pi * k * t + phase)
    curve -= curve.mean(1, keepdims=True)
    curve /= np.linalg.norm(curve[:, :, None] - curve[:, None], axis=0).max()
    angle = rng.uniform(0, 2 * math.pi)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return turn @ curve


def shaken(light: Floats, shot: Shot, rng: np.random.Generator) -> Floats:
    """Average the light along a path and over a disc at each pixel."""
    maps = SmoothFields(3, light, int(rng.integers(2**31)))
    taps = max(9, math.ceil(1.5 * shot.path_px) + 1)
    path, roll = trace(taps, rng), trace(taps, rng)[0]
    # some parts move less; the direction changes a little, in one photograph of five freely
    calm = rng.uniform(0.1, 1.0)
    turning = math.pi if rng.random() < 0.2 else rng.uniform(0, 0.6)
    rolling = rng.uniform(0, 0.4) * shot.path_px
    points = [
        (math.sqrt((k + 0.5) / taps), k * GOLDEN_ANGLE) for k in rng.permutation(taps).tolist()
    ]
    height, width = light.shape[:2]
    half_diagonal = math.hypot(height, width) / 2
    from_centre = (torch.arange(width) - width / 2)[None] / half_diagonal

    def offsets(rows: range) -> Iterator[tuple[Tensor, Tensor]]:
        strength, direction, depth = maps.rows(rows)
        extent = shot.path_px * (1 - calm * to_uniform(strength))
        along, across = extent * (turning * direction).cos(), extent * (turning * direction).sin()
        radius = shot.radius_px * to_uniform(depth)
        below_centre = (torch.arange(rows.start, rows.stop) - height / 2)[:, None] / half_diagonal
        for k, (r, phi) in enumerate(points):
            x, y = path[:, k].tolist()
            turn = rolling * float(roll[k])
            dx = along * x - across * y - turn * below_centre + radius * (r * math.cos(phi))
            dy = across * x + along * y + turn * from_centre + radius * (r * math.sin(phi))
            yield dy, dx

    return average_at_offsets(light, offsets)


def noisy(light: Floats, shot: Shot, rng: np.random.Generator) -> Floats:
    """Count photons and add read noise; both vary a little over the photograph."""
    maps = SmoothFields(1, light, int(rng.integers(2**31)))
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    clean = torch.from_numpy(light).permute(2, 0, 1)
    factor = (0.25 * maps.rows(range(light.shape[0]))[0]).exp()
    gain = shot.gain * factor.square()
    noise = torch.poisson(clean.clamp_min(0) / gain, generator).mul_(gain) - clean
    noise += torch.randn(noise.shape, generator=generator) * (shot.read * factor)
    if shot.grain:
        kernel = torch.tensor([1.0, 2.0, 1.0])
        kernel = torch.outer(kernel, kernel)
        kernel = (kernel / kernel.norm()).expand(3, 1, 3, 3)
        smooth = F.conv2d(F.pad(noise[None], (1, 1, 1, 1), "reflect"), kernel, groups=3)[0]
        noise = (1 - shot.grain) * noise + shot.grain * smooth
    return (clean + noise).permute(1, 2, 0).contiguous().numpy()

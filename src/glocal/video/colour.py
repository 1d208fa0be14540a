"""Convert planes of YUV to RGB in [0, 1] and back, in float32.

What a network changed is added to the planes of the source, not the whole picture converted back:
`planes + to_yuv(restored - seen)`. The conversion is linear, so this is the same colour where
nothing is clamped, and a picture that the network leaves alone keeps every sample: its chroma is
not blurred by going up and down, and levels beyond black and white stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glocal.errors import VideoError
from glocal.video.pixel_format import PixelFormat

__all__ = ["Conversion", "conversion_for"]

Planes = Sequence[np.ndarray]

_WEIGHTS = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601, 625 lines
    6: (0.299, 0.114),  # BT.601, 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020, non-constant luminance
}
"""Weights of red and blue in the luma, by the number of the matrix (ITU-T H.273)."""

_UNSPECIFIED = 2
_FULL = 2
_HD_LINES = 720


@dataclass(frozen=True)
class Conversion:
    """How samples stand for colours.

    Attributes:
        pixels: format of the planes.
        red, blue: weights in the luma.
        full: samples use their whole range; else black is 16 and white 235, of 8 bits.
        centred: chroma samples lie in the middle of their pixels, as in MJPEG; else at the left.
    """

    pixels: PixelFormat
    red: float = 0.299
    blue: float = 0.114
    full: bool = False
    centred: bool = False

    def seen(self, planes: Planes) -> Tensor:
        """The picture (c, h, w) as a network sees it: RGB or grey in [0, 1]."""
        first = torch.from_numpy(planes[0].astype(np.float32))
        if self.pixels.kind == "grey":
            return self._luma(first)[None].clamp(0, 1)
        if self.pixels.kind == "rgb":
            green, blue, red = (torch.from_numpy(p.astype(np.float32)) for p in planes)
            return self._luma(torch.stack([red, green, blue])).clamp(0, 1)
        size = first.shape[-2:]
        chroma = torch.stack([torch.from_numpy(p.astype(np.float32)) for p in planes[1:]])
        chroma = (chroma - self._middle) / self._chroma_span
        for dim, halvings in zip((-2, -1), self.pixels.halvings, strict=True):
            for _ in range(halvings):
                chroma = _doubled(chroma, dim, self.centred or dim == -2)
        b, r = chroma[..., : size[0], : size[1]]
        y = self._luma(first)
        red = y + 2 * (1 - self.red) * r
        blue = y + 2 * (1 - self.blue) * b
        green = (y - self.red * red - self.blue * blue) / self._green
        return torch.stack([red, green, blue]).clamp_(0, 1)

    def carried_back(self, planes: Planes, seen: Tensor, restored: Tensor) -> list[np.ndarray]:
        """The planes of a restored picture.

        Args:
            planes: of the source.
            seen: their picture, from `seen`.
            restored: the picture that the network made of it, perhaps larger.
        """
        restored = restored.clamp(0, 1)
        if restored.shape == seen.shape:
            found = self._planes(restored - seen)
            found = [
                p + torch.from_numpy(o.astype(np.float32))
                for p, o in zip(found, planes, strict=True)
            ]
        else:
            offsets = [self._black] + [self._middle] * 2
            if self.pixels.kind != "yuv":
                offsets = [self._black] * 3
            found = [p + o for p, o in zip(self._planes(restored), offsets, strict=False)]
        peak = 2**self.pixels.bits - 1
        dtype = np.uint8 if self.pixels.bits == 8 else np.uint16
        return [p.round_().clamp_(0, peak).numpy().astype(dtype) for p in found]

    def _planes(self, rgb: Tensor) -> list[Tensor]:
        """Planes of a picture, or of a difference, without the offsets of black and grey."""
        if self.pixels.kind == "grey":
            return [rgb[0] * self._span]
        red, green, blue = rgb
        if self.pixels.kind == "rgb":
            return [p * self._span for p in (green, blue, red)]
        y = self.red * red + self._green * green + self.blue * blue
        chroma = torch.stack([(blue - y) / (2 * (1 - self.blue)), (red - y) / (2 * (1 - self.red))])
        for dim, halvings in zip((-2, -1), self.pixels.halvings, strict=True):
            for _ in range(halvings):
                chroma = _halved(chroma, dim, self.centred or dim == -2)
        return [y * self._span, *(chroma * self._chroma_span)]

    def _luma(self, samples: Tensor) -> Tensor:
        return (samples - self._black) / self._span

    @property
    def _green(self) -> float:
        return 1 - self.red - self.blue

    @property
    def _unit(self) -> int:
        return 1 << (self.pixels.bits - 8)

    @property
    def _black(self) -> int:
        return 0 if self.full else 16 * self._unit

    @property
    def _span(self) -> int:
        return 2**self.pixels.bits - 1 if self.full else 219 * self._unit

    @property
    def _middle(self) -> int:
        return 128 * self._unit

    @property
    def _chroma_span(self) -> int:
        return 2**self.pixels.bits - 1 if self.full else 224 * self._unit


def conversion_for(
    pixels: PixelFormat, matrix: int, range_: int, lines: int, *, centred: bool = False
) -> Conversion:
    """Return the conversion that the tags of a stream ask for.

    A matrix that is not tagged is BT.709 from 720 lines on, else BT.601, as players assume; a range
    that is not tagged is limited, but full for RGB.

    >>> conversion_for(PixelFormat("yuv", 8), 2, 0, 1080).red
    0.2126

    Args:
        pixels: format of the planes.
        matrix, range_: as the library numbers them.
        lines: height of the picture.
        centred: as for `Conversion`.

    Raises:
        VideoError: the matrix is none that is known.
    """
    if pixels.kind == "rgb":
        return Conversion(pixels, full=range_ in (0, _FULL))
    if matrix in (0, _UNSPECIFIED, 3):
        matrix = 1 if lines >= _HD_LINES else 6
    if matrix not in _WEIGHTS and pixels.kind == "yuv":
        raise VideoError(
            f"its colour matrix (number {matrix} of H.273) is not supported; convert it to BT.709 "
            "or BT.2020 non-constant luminance first"
        )
    red, blue = _WEIGHTS.get(matrix, _WEIGHTS[6])
    return Conversion(pixels, red, blue, range_ == _FULL, centred)


def _doubled(x: Tensor, dim: int, centred: bool) -> Tensor:
    """Twice as many samples along a dim, interpolated linearly."""
    last = x.shape[dim] - 1
    index = torch.arange(last + 1)
    after = x.index_select(dim, (index + 1).clamp(max=last))
    if not centred:
        pairs = (x, (x + after) / 2)
    else:
        before = x.index_select(dim, (index - 1).clamp(min=0))
        pairs = (0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after)
    return torch.stack(pairs, dim).flatten(dim - 1, dim)


def _halved(x: Tensor, dim: int, centred: bool) -> Tensor:
    """Half as many samples along a dim, averaged around their places."""
    count = (x.shape[dim] + 1) // 2
    index = 2 * torch.arange(count)
    last = x.shape[dim] - 1
    own, after = x.index_select(dim, index), x.index_select(dim, (index + 1).clamp(max=last))
    if centred:
        return (own + after) / 2
    before = x.index_select(dim, (index - 1).clamp(min=0))
    return (before + 2 * own + after) / 4

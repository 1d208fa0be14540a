"""The types of the grammar, and the windows of all pixels of a map."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Law = Literal["windows", "loose", "grid", "wraps"]
"""What the local form has to compute.

"windows": the slow form at each pixel. "loose": equality where the windows cover the map, locality
and finite values (tiles, and blocks whose windows can be placed in several ways). "grid": the same
with windows of the training size (grids, bins, spectra). "wraps": the slow form without locality,
for operations that are local on a torus.
"""

Size = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """The window of each of n pixels.

    Attributes:
        patches: (n, c, kh, kw), the windows.
        pixel: (n, c), the pixels.
        row: (n,), row of the pixel in its window.
        column: (n,), column of the pixel in its window.
    """

    patches: Tensor
    pixel: Tensor
    row: Tensor
    column: Tensor

    def near(self, dy: int, dx: int) -> Tensor:
        """The pixels (dy, dx) away, (n, c); zeros outside of the map."""
        kh, kw = self.patches.shape[2:]
        y, x = self.row + dy, self.column + dx
        inside = (y >= 0) & (y < kh) & (x >= 0) & (x < kw)
        n = torch.arange(len(self.patches))
        return self.patches[n, :, y.clamp(0, kh - 1), x.clamp(0, kw - 1)] * inside[:, None]


@dataclass(frozen=True)
class Statistic:
    """One number a channel.

    Attributes:
        name: of the spelling.
        ordinary: (b, c, h, w) to (b, c), as people write it.
        slow: (n, c, kh, kw) to (n, c), in the plainest form.
        law: what its local form has to compute.
        converts: False if glocal may refuse it.
        module: True if `ordinary` makes the module that computes it.
        pads_to: it pads the map by zeros to a multiple of this; `slow` gets windows of the padded
            map, as the law for padded maps has it (docs/conversion.md).
        stride: it reads every stride-th row and column: the window is one of that smaller map.
    """

    name: str
    ordinary: Callable[..., object]
    slow: Callable[[Tensor], Tensor]
    law: Law = "windows"
    converts: bool = True
    module: bool = False
    pads_to: int = 1
    stride: int = 1


@dataclass(frozen=True)
class Contact:
    """Where a statistic meets the pixels.

    Attributes:
        name: of the spelling.
        ordinary: (gate, map (b, c, h, w), statistic (b, c)) to a map.
        slow: (gate, pixels (n, c), statistics (n, c)) to (n, c).
    """

    name: str
    ordinary: Callable[[nn.Module, Tensor, Tensor], Tensor]
    slow: Callable[[nn.Module, Tensor, Tensor], Tensor]
    converts: bool = True


@dataclass(frozen=True)
class Block:
    """A whole block that keeps the shape of the map.

    Attributes:
        name: of the spelling.
        make: makes it for a number of channels, which is even.
        slow: (block, windows) to (n, c); None if the law is not "windows".
        slow_map: (block, map, window) to a map, instead, for a block with convolutions before its
            statistic.
        law: what its local form has to compute.
        converts: False if glocal may refuse it.
        multiple: height and width have to be multiples of it.
        train_mode: True if it is meant for a network in training mode.
    """

    name: str
    make: Callable[[int], nn.Module]
    slow: Callable[[nn.Module, Windows], Tensor] | None = None
    slow_map: Callable[[nn.Module, Tensor, Size], Tensor] | None = None
    law: Law = "windows"
    converts: bool = True
    multiple: int = 1
    train_mode: bool = False


def windows_of(x: Tensor, window: Size) -> Windows:
    """Return the window of each pixel of (b, c, h, w): the nearest one wholly inside, in order."""
    (b, c, h, w), n = x.shape, x.shape[0] * x.shape[2] * x.shape[3]
    kh, kw = min(window[0], h), min(window[1], w)
    tops = torch.tensor([min(max(i - (kh - 1) // 2, 0), h - kh) for i in range(h)])
    lefts = torch.tensor([min(max(j - (kw - 1) // 2, 0), w - kw) for j in range(w)])
    all_patches = x.unfold(2, kh, 1).unfold(3, kw, 1)  # b, c, tops, lefts, kh, kw
    patches = all_patches[:, :, tops[:, None], lefts[None, :]].permute(0, 2, 3, 1, 4, 5)
    row = (torch.arange(h) - tops)[None, :, None].expand(b, h, w)
    column = (torch.arange(w) - lefts)[None, None, :].expand(b, h, w)
    pixel = x.permute(0, 2, 3, 1)
    return Windows(
        patches.reshape(n, c, kh, kw), pixel.reshape(n, c), row.reshape(n), column.reshape(n)
    )


def windows_of_padded(x: Tensor, window: Size, multiple: int) -> Windows:
    """Return the windows of a map padded by zeros to a multiple, at the pixels of the map before.

    A window is as long as the padded form of a map of the window's size.
    """
    b, _, h, w = x.shape
    padded = F.pad(x, (0, -w % multiple, 0, -h % multiple))
    first, second = (n + -n % multiple for n in window)
    found = windows_of(padded, (first, second))
    numbers = torch.arange(b * padded.shape[2] * padded.shape[3]).reshape(b, *padded.shape[2:])
    own = numbers[:, :h, :w].flatten()
    return Windows(found.patches[own], found.pixel[own], found.row[own], found.column[own])


def by_windows(
    slow: Callable[[Windows], Tensor], x: Tensor, window: Size, multiple: int = 1
) -> Tensor:
    """Return the map of slow(window of p) at each pixel p, of a map padded to a multiple."""
    b, _, h, w = x.shape
    return slow(windows_of_padded(x, window, multiple)).reshape(b, h, w, -1).permute(0, 3, 1, 2)

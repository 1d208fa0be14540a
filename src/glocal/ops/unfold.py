"""A map cut into overlapping windows, and put together again."""

import torch
from torch import Tensor

from glocal.errors import ArgumentError
from glocal.ops import exported
from glocal.ops.forms import windows_of
from glocal.ops.numerics import sum_dtype
from glocal.ops.programs import program_form
from glocal.ops.windows import LEAST, Overlap, Size, starts

__all__ = ["fold_windows", "unfold_windows", "window_pixels"]


def window_pixels(x: Tensor, window: Size) -> Tensor | int:
    """Number of pixels in a window of the map, clipped to it.

    >>> window_pixels(torch.zeros(1, 3, 8, 9), (4, 20))
    36

    Args:
        x: (..., h, w).
        window: (height, width) in pixels of `x`; may be larger than the map.

    Returns:
        an int; a scalar tensor while a program is exported.
    """
    return windows_of(x, window).pixels


@program_form(exported.unfold_windows)
def unfold_windows(x: Tensor, window: Size, overlap: Overlap = LEAST) -> Tensor:
    """Overlapping windows of a map, stacked on the batch dim.

    >>> unfold_windows(torch.zeros(2, 3, 6, 9), (6, 6)).shape
    torch.Size([4, 3, 6, 6])

    Args:
        x: (b, ..., h, w).
        window: (height, width) in pixels of `x`; may be larger than the map.
        overlap: how much of a window its neighbours cover at least.

    Returns:
        (b · n, ..., min(h, height), min(w, width)) with the n windows of `windows.starts` row by
        row. The first window of all images comes first.
    """
    h, w = x.shape[-2:]
    kh, kw = min(window[0], h), min(window[1], w)
    places = _places((h, w), (kh, kw), overlap)
    return torch.cat([x[..., i : i + kh, j : j + kw] for i, j in places])


@program_form(exported.fold_windows)
def fold_windows(
    tiles: Tensor, size: Size, window: Size | None = None, overlap: Overlap = LEAST
) -> Tensor:
    """Undo `unfold_windows`: return the map, blended where windows overlap.

    >>> x = torch.rand(2, 3, 6, 9)
    >>> torch.equal(fold_windows(unfold_windows(x, (6, 6)), (6, 9)), x)
    True

    Args:
        tiles: (b · n, ..., kh, kw), as `unfold_windows` stacks them.
        size: (height, width) of the map.
        window: as given to `unfold_windows`; required while a program is recorded.
        overlap: as given to `unfold_windows`.

    Returns:
        (b, ..., height, width) in the dtype of `tiles`; sums accumulate in float32 at least.

    Raises:
        ArgumentError: the number of tiles does not fit the map.
    """
    h, w = size
    kh, kw = tiles.shape[-2:]
    places = _places(size, (kh, kw), overlap)
    if tiles.shape[0] % len(places):
        raise ArgumentError(
            f"got {tiles.shape[0]} tiles of {kh}x{kw} for maps of {h}x{w}, which take "
            f"{len(places)} each; pass all windows of each map"
        )
    batch = tiles.shape[0] // len(places)
    total = tiles.new_zeros((batch, *tiles.shape[1:-2], h, w), dtype=sum_dtype(tiles))
    weights = total.new_zeros((h, w))
    weight = exported.blend_weights(total, (kh, kw), overlap)
    for (i, j), piece in zip(places, tiles.split(batch), strict=True):
        total[..., i : i + kh, j : j + kw] += piece if weight is None else piece * weight
        weights[i : i + kh, j : j + kw] += 1 if weight is None else weight
    return (total / weights).to(tiles.dtype)


def _places(size: Size, window: Size, overlap: Overlap) -> list[Size]:
    """(top, left) of the windows of `unfold_windows`, row by row."""
    rows, columns = (starts(size[i], window[i], overlap.share, axis=i) for i in (0, 1))
    return [(i, j) for i in rows for j in columns]

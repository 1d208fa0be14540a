"""A map cut into overlapping windows, and put together again."""

import torch
from torch import Tensor

from glocal.errors import ArgumentError
from glocal.ops import traced
from glocal.ops.windowed import accumulating_dtype, clip, pixels_of_window
from glocal.ops.windows import LEAST, Overlap, Size, starts

__all__ = ["fold_windows", "unfold_windows", "window_pixels"]


def window_pixels(x: Tensor, window: Size) -> Tensor | int:
    """How many pixels a window on the map (..., h, w) holds; a scalar tensor when tracing."""
    return pixels_of_window(x, clip(x, window))


def unfold_windows(x: Tensor, window: Size, overlap: Overlap = LEAST) -> Tensor:
    """Overlapping windows of a map (b, ..., h, w), stacked on the batch dim.

    Returns:
        (b · n, ..., min(h, window), min(w, window)), the n windows of `windows.starts` row by
        row, window-major: all images' first window comes first.
    """
    if traced.is_tracing() or traced.is_compiling():
        return traced.unfold_windows(x, window, overlap)
    kh, kw = clip(x, window)
    places = _places((x.shape[-2], x.shape[-1]), (kh, kw), overlap)
    return torch.cat([x[..., i : i + kh, j : j + kw] for i, j in places])


def fold_windows(
    tiles: Tensor, size: Size, window: Size | None = None, overlap: Overlap = LEAST
) -> Tensor:
    """The map of which `unfold_windows` made these windows; where they overlap, they are blended.

    Args:
        tiles: (b · n, ..., kh, kw), as `unfold_windows` stacks them.
        size: (height, width) of the map.
        window: that `unfold_windows` was given; required under a tracer, where sizes are symbols.
        overlap: that `unfold_windows` was given.

    Returns:
        (b, ..., height, width) in the dtype of `tiles`; sums accumulate in float32 at least.
    """
    if traced.is_tracing() or traced.is_compiling():
        if window is None:
            raise ArgumentError("fold_windows needs the window that the tiles were cut with")
        wide = tiles.to(accumulating_dtype(tiles))
        return traced.fold_windows(wide, size, window, overlap).to(tiles.dtype)
    h, w = size
    kh, kw = tiles.shape[-2:]
    places = _places(size, (kh, kw), overlap)
    if tiles.shape[0] % len(places):
        raise ArgumentError(
            f"{tiles.shape[0]} tiles of {kh}x{kw} do not fill maps of {h}x{w}: "
            f"each map takes {len(places)}"
        )
    batch = tiles.shape[0] // len(places)
    total = tiles.new_zeros((batch, *tiles.shape[1:-2], h, w), dtype=accumulating_dtype(tiles))
    weights = total.new_zeros((h, w))
    weight = traced.shares(total, (kh, kw), overlap)
    for (i, j), piece in zip(places, tiles.split(batch), strict=True):
        total[..., i : i + kh, j : j + kw] += piece if weight is None else piece * weight
        weights[i : i + kh, j : j + kw] += 1 if weight is None else weight
    return (total / weights).to(tiles.dtype)


def _places(size: Size, window: Size, overlap: Overlap) -> list[Size]:
    """(top, left) of the windows of `unfold_windows`, row by row."""
    rows, columns = (starts(size[i], window[i], overlap.share, axis=i) for i in (0, 1))
    return [(i, j) for i in rows for j in columns]

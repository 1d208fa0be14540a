"""What rewritten blocks compute with: maps in any layout, and statistics stacked on the batch dim.

A block computes a statistic once per image; its local form has one per window. Windows are
stacked in front of the batch, window by window: (windows down · windows along · n, ...), so that
whatever the block does to a batch of statistics it does to all of them.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glocal import ops
from glocal.errors import ConversionError
from glocal.ops import lazy
from glocal.ops.window_map import values_like, values_of
from glocal.ops.windows import Overlap, Precision, Size

__all__ = [
    "as_float",
    "as_map",
    "as_type",
    "broadcast",
    "count",
    "expand",
    "from_map",
    "group_norm",
    "length",
    "pixels",
    "raised",
    "repeated",
    "reshape",
    "spread",
    "stack",
    "statistic",
    "sum_of_squares",
    "tiles",
    "untiled",
    "with_tail",
]


def as_map(x: Tensor, layout: Sequence[int], size: Size | None) -> Tensor:
    """(n, ...) with rows and columns somewhere to (n, ..., h, w).

    Args:
        x: any tensor whose first dim is the batch.
        layout: dims of the rows and the columns, the same if the map is flattened; and how many
            channels that dim holds outside the pixels, which stay where it was.
        size: (height, width) of the map, asked for if flattened.
    """
    rows, columns, channels = layout
    if rows == columns:
        assert size is not None
        shape = (size[0], size[1]) if channels == 1 else (channels, size[0], size[1])
        x = x.unflatten(rows, shape)
        rows, columns = rows + (channels > 1), rows + (channels > 1) + 1
    return x.movedim((rows, columns), (-2, -1))


def from_map(x: Tensor, layout: Sequence[int]) -> Tensor:
    """The inverse of `as_map`."""
    rows, columns, channels = layout
    if (rows, columns) == (x.ndim - 2, x.ndim - 1):
        return x
    if rows != columns:
        return x.movedim((-2, -1), (rows, columns))
    inner = rows + (channels > 1)
    return x.movedim((-2, -1), (inner, inner + 1)).flatten(rows, inner + 1)


def statistic(
    x: Tensor,
    kind: str,
    window: Size,
    over: Sequence[int] = (),
    correction: float = 1,
    order: float = 2,
    precision: Precision = "exact",
) -> Tensor:
    """A statistic over the window of each pixel, and over further dims.

    Args:
        x: (n, ..., h, w).
        kind: "mean", "sum", "amax", "amin", "var", "std", "norm" or "logsumexp".
        window: (height, width) in pixels of the map.
        over: dims of `x` between the first and the last two that the statistic runs over too.
        correction: of the variance's divisor.
        order: of the norm, 1 or 2.
        precision: "exact" or "fast", as in `ops`; maxima are always exact.

    Returns:
        (n, k, h or 1, w or 1) with the k statistics of an image in order.
    """
    n, h, w = x.shape[0], x.shape[-2], x.shape[-1]
    kept = [d for d in range(1, x.ndim - 2) if d not in over]
    grouped = x.permute(0, *kept, *over, -2, -1)
    k = 1
    for d in kept:
        k *= x.shape[d]
    grouped = grouped.reshape(n, k, -1, h, w)
    single = grouped.shape[2] == 1
    if kind in ("var", "std"):
        flat = grouped.flatten(1, 2)
        _, variance = lazy.local_moments(
            flat, window, groups=k, correction=int(correction), precision=precision
        )
        return (variance.sqrt() if kind == "std" else variance).to(x.dtype)
    if kind == "amax":
        return lazy.local_max(grouped[:, :, 0] if single else grouped.amax(2), window)
    if kind == "amin":
        return -lazy.local_max(-(grouped[:, :, 0] if single else grouped.amin(2)), window)
    if kind == "norm":
        if order == 1:
            return lazy.local_sum(grouped.abs().sum(2), window, precision)
        norms = grouped[:, :, 0] if single else torch.linalg.vector_norm(grouped, dim=2)
        return lazy.local_norm(norms, window, precision)
    if kind == "logsumexp":
        shift, powers = raised(grouped)
        return (lazy.local_sum(powers.sum(2), window, precision).log() + shift).to(x.dtype)
    if kind == "sum":
        return lazy.local_sum(grouped[:, :, 0] if single else grouped.sum(2), window, precision)
    assert kind == "mean"
    return lazy.local_mean(grouped[:, :, 0] if single else grouped.mean(2), window, precision)


def raised(x: Tensor) -> tuple[Tensor, Tensor]:
    """(shift, exp(x - shift)) in float64, never zero and never infinite.

    Ratios and logarithms of sums of exponentials over a window do not feel a shift that is the
    same everywhere, and one shift for all windows is what running sums need.
    """
    wide = x.to(torch.float32 if x.device.type == "mps" else torch.float64)
    shift = wide.detach().flatten().amax(0)  # amax of everything is unknown to ONNX
    return shift, (wide - shift).clamp_min(-700).exp()


def stack(statistics: Tensor, grid: Tensor, tail: Sequence[int]) -> Tensor:
    """A map of k statistics to (windows · n, *tail), where `tail` holds k numbers.

    `grid` is the map of which the windows are; `statistics` may have become a full map since.
    """
    return values_like(statistics, grid).permute(2, 3, 0, 1).reshape(-1, *tail)


def spread(
    stacked: Tensor, grid: Tensor, layout: Sequence[int], size: Size | None, elsewhere: bool
) -> Tensor:
    """Stacked statistics as a map that broadcasts against tensors of a layout.

    Args:
        stacked: (windows · n, ...), with 1 at the rows and columns.
        grid: (·, ·, gh, gw), the map of which the windows are.
        layout, size: as in `as_map`.
        elsewhere: the map has another size than that of the statistics; the nearest is taken.
    """
    rows, columns, channels = layout
    values, as_in_grid = values_of(grid)
    y = stacked.unflatten(0, (*values.shape[-2:], -1))
    y = y.squeeze((2 + rows, 2 + columns) if rows != columns else 2 + rows)
    y = as_in_grid(y.permute(2, *range(3, y.ndim), 0, 1))
    gh, gw = y.shape[-2:]
    if size is not None and elsewhere:
        flat = y.reshape(y.shape[0], -1, gh, gw)
        y = F.interpolate(flat, size=size, mode="nearest-exact").unflatten(1, y.shape[1:-2])
    elif size is not None and rows == columns and (gh, gw) != (1, 1):
        y = y.expand(*y.shape[:-2], *size)
    if channels > 1 and (gh, gw) != (1, 1):
        y = y.unsqueeze(rows).expand(*y.shape[:rows], channels, *y.shape[rows:])
    elif channels > 1:
        layout = (rows, columns, 1)
    return from_map(y, layout)


def broadcast(x: Tensor, layout: Sequence[int], size: Size) -> Tensor:
    """A map of statistics that may have size 1 along an axis, to its full height and width."""
    rows, columns, channels = layout
    shape = list(x.shape)
    if rows == columns:
        shape[rows] = channels * size[0] * size[1]
    else:
        shape[rows], shape[columns] = size
    return x.expand(shape)


def sum_of_squares(a: Tensor, b: Tensor) -> Tensor:
    """a² + b²."""
    return a.square() + b.square()


def with_tail(x: Tensor, tail: Sequence[int]) -> Tensor:
    """(n, ...) to (n, *tail)."""
    return x.reshape(x.shape[0], *tail)


def as_type(x: Tensor, like: Tensor) -> Tensor:
    """A tensor in the type of another."""
    return x.to(like.dtype)


def repeated(x: Tensor, count: int) -> Tensor:
    """(n, ...) to (count · n, ...): what is the same in all windows of an image."""
    return x.repeat(count, *[1] * (x.ndim - 1))


def count(grid: Tensor) -> int:
    """How many windows' values are kept of a map of statistics."""
    values, _ = values_of(grid)
    return values.shape[-2] * values.shape[-1]


def pixels(x: Tensor, window: Size, channels: int) -> Tensor | int:
    """How many values the windows of a map (..., h, w) of so many channels have."""
    return ops.window_pixels(x, window) * channels


def as_float(size: Any) -> Any:
    """A size as a number to compute with."""
    if torch._C._get_tracing_state() is not None:
        raise ConversionError(
            "torch.jit.trace would freeze a number that this network computes from the size of the "
            "image: use torch.export"
        )
    return torch.sym_float(size)


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The method of a tensor as a function."""
    return x.reshape(shape)


def expand(x: Tensor, shape: Sequence[int], implicit: bool = False) -> Tensor:
    """The method of a tensor as a function; `implicit` is aten's, and says nothing."""
    return x.expand(shape)


def length(x: Tensor, dim: int) -> int:
    """Size of a dim, asked for in the way that every tracer follows."""
    return x.shape[dim]


def tiles(
    x: Tensor, window: Size, overlap: Overlap, layout: Sequence[int], size: Size | None
) -> Tensor:
    """`ops.tile` of a map in any layout: (n, ...) to (windows · n, ...) in that layout."""
    return from_map(ops.unfold_windows(as_map(x, layout, size), window, overlap), layout)


def untiled(
    x: Tensor,
    window: Size,
    overlap: Overlap,
    layout: Sequence[int],
    inner: Size | None,
    size: Size,
) -> Tensor:
    """`ops.fold_windows` to a map in that layout; `inner` is (height, width) of the tiles."""
    return from_map(ops.fold_windows(as_map(x, layout, inner), size, window, overlap), layout)


def group_norm(
    x: Tensor,
    layout: Sequence[int],
    size: Size | None,
    groups: int,
    window: Size,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    precision: Precision = "exact",
) -> Tensor:
    """Group norm of (n, c, ...) in any layout by the statistics of each pixel's window."""
    m = as_map(x, layout, size)
    flat = m.reshape(m.shape[0], -1, *m.shape[-2:])
    normed = ops.local_group_norm(flat, groups, window, weight, bias, eps, precision)
    return from_map(normed.view_as(m), layout)

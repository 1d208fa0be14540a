"""Functions of rewritten blocks: maps in any order of dims, window statistics.

A block computes a statistic once per image; its local form has one per window. The windows are
stacked in front of the batch, (windows down · windows along · n, ...), so that what the block
does to a batch of statistics it does to those of all windows.

Longer than most modules, because pickled programs import all these functions from here.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from glocal import ops
from glocal.errors import ConversionError
from glocal.ops import lazy
from glocal.ops.numerics import widest_dtype
from glocal.ops.programs import is_exporting
from glocal.ops.window_map import full_map, values_like, values_of
from glocal.ops.windows import Overlap, Precision, Size, Window

__all__ = [
    "as_float",
    "as_map",
    "as_type",
    "broadcastable",
    "complex_of",
    "corrected",
    "cut_back",
    "expand",
    "expand_to_map",
    "expanded",
    "exponentials",
    "extreme",
    "fold_windows",
    "from_map",
    "group_norm",
    "grouped_moments",
    "length",
    "limit",
    "normalise",
    "positive_part",
    "repeat_for_windows",
    "reshape",
    "stack_windows",
    "to_dtype",
    "unfold_windows",
    "values_per_window",
    "window_count",
    "window_moment",
    "window_statistic",
    "with_item_shape",
]

Blend = Literal["mean", "linear"]

Where = Sequence[int]
"""(rows, columns, channels) as in `block.MapDims`."""


def as_map(x: Tensor, where: Where, size: Size | None) -> Tensor:
    """Move rows and columns to the end: (n, ...) to (n, ..., h, w).

    Args:
        x: a tensor whose first dim is the batch.
        where: its rows and columns. Channels that share a dim with flattened pixels get a dim
            at that position.
        size: (height, width) of the map; may be None unless the pixels are flattened.
    """
    rows, columns, channels = where
    if rows == columns:
        assert size is not None
        shape = (size[0], size[1]) if channels == 1 else (channels, size[0], size[1])
        x = x.unflatten(rows, shape)
        rows, columns = rows + (channels > 1), rows + (channels > 1) + 1
    return x.movedim((rows, columns), (-2, -1))


def from_map(x: Tensor, where: Where) -> Tensor:
    """Undo `as_map`."""
    rows, columns, channels = where
    if (rows, columns) == (x.ndim - 2, x.ndim - 1):
        return x
    if rows != columns:
        return x.movedim((-2, -1), (rows, columns))
    inner = rows + (channels > 1)
    return x.movedim((-2, -1), (inner, inner + 1)).flatten(rows, inner + 1)


_OF_BOOLEANS = {"any": "amax", "all": "amin", "count_nonzero": "sum"}
"""Statistics of what is not zero, by the statistic of the booleans."""


def window_statistic(
    x: Tensor,
    kind: str,
    window: Size,
    over: Sequence[int] = (),
    correction: float = 1,
    order: float = 2,
    dtype: torch.dtype | None = None,
    precision: Precision = "exact",
) -> Tensor:
    """Compute a statistic over the window of each pixel.

    Args:
        x: (n, ..., h, w).
        kind: "mean", "sum", "amax", "amin", "var", "std", "norm", "logsumexp", "any", "all" or
            "count_nonzero".
        window: (height, width) in pixels of the map.
        over: dims between the first and the last two to reduce too.
        correction: subtracted from the divisor of a variance.
        order: of the norm, 1 or 2.
        dtype: to convert the map to first; None keeps its own.
        precision: "exact" or "fast", as in `ops`; maxima are always exact.

    Returns:
        (n, k, h or 1, w or 1) with the k statistics of each pixel's window in order. Sums of
        booleans and integers are int64, as in torch.
    """
    if dtype is not None:
        x = x.to(dtype)
    if kind in _OF_BOOLEANS:
        x, kind = x != 0, _OF_BOOLEANS[kind]
    if not x.is_floating_point():
        return _statistic_of_integers(x, kind, window, over)
    n, h, w = x.shape[0], x.shape[-2], x.shape[-1]
    remaining = [d for d in range(1, x.ndim - 2) if d not in over]
    grouped = x.permute(0, *remaining, *over, -2, -1)
    k = 1
    for d in remaining:
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
        shift, powers = exponentials(grouped)
        return (lazy.local_sum(powers.sum(2), window, precision).log() + shift).to(x.dtype)
    if kind == "sum":
        return lazy.local_sum(grouped[:, :, 0] if single else grouped.sum(2), window, precision)
    assert kind == "mean"
    return lazy.local_mean(grouped[:, :, 0] if single else grouped.mean(2), window, precision)


def _statistic_of_integers(x: Tensor, kind: str, window: Size, over: Sequence[int]) -> Tensor:
    """Return a sum or extreme of booleans or integers in torch's dtype for it."""
    wide = x.to(widest_dtype(x.device))
    made = window_statistic(wide, kind, window, over)
    return made.round().to(torch.int64 if kind == "sum" else x.dtype)


def exponentials(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return (shift, exp(x - shift)) in float64, neither zero nor infinite.

    The shift cancels out in ratios of sums of exponentials. It is the same for all windows,
    because window sums are computed from running sums over the whole map.
    """
    wide = x.to(widest_dtype(x.device))
    shift = wide.detach().flatten().amax(0)  # the ONNX exporter has no amax without dim
    return shift, (wide - shift).clamp_min(-700).exp()


def stack_windows(statistics: Tensor, grid: Tensor, item_shape: Sequence[int]) -> Tensor:
    """Stack windows of statistics: (n, k, h, w) to (windows · n, *item_shape).

    Args:
        statistics: a map of k statistics for each window or, once anything has expanded it,
            for each pixel.
        grid: the map of statistics that says where the windows are.
        item_shape: of k values.
    """
    return values_like(statistics, grid).permute(2, 3, 0, 1).reshape(-1, *item_shape)


def broadcastable(
    stacked: Tensor, grid: Tensor, where: Where, size: Size | None, resize: bool
) -> Tensor:
    """Make a map of stacked statistics that broadcasts against a map of the block.

    Args:
        stacked: (windows · n, ...), with size 1 at the rows and columns.
        grid: (·, ·, windows down, windows along), which says where the windows are.
        where: rows and columns of the map of the block.
        size: its (height, width), needed to resize or for flattened pixels.
        resize: take the nearest window, for a map of another size than that of the statistics.
    """
    rows, columns, channels = where
    values, as_in_grid = values_of(grid)
    y = stacked.unflatten(0, (*values.shape[-2:], -1))
    y = y.squeeze((2 + rows, 2 + columns) if rows != columns else 2 + rows)
    y = as_in_grid(y.permute(2, *range(3, y.ndim), 0, 1))
    gh, gw = y.shape[-2:]
    if size is not None and resize:
        flat = y.reshape(y.shape[0], -1, gh, gw)
        y = F.interpolate(flat, size=size, mode="nearest-exact").unflatten(1, y.shape[1:-2])
    elif size is not None and rows == columns and (gh, gw) != (1, 1):
        y = y.expand(*y.shape[:-2], *size)
    if channels > 1 and (gh, gw) != (1, 1):
        y = y.unsqueeze(rows).expand(*y.shape[:rows], channels, *y.shape[rows:])
    elif channels > 1:
        where = (rows, columns, 1)
    return from_map(y, where)


def cut_back(x: Tensor, starts: Sequence[int], size: Size) -> Tensor:
    """Return the part of a map of statistics that is a map before it was padded.

    Args:
        x: (n, ..., h or 1, w or 1) of the padded map.
        starts: rows and columns that were added before the first.
        size: (height, width) of the map before.
    """
    for dim, start, length in zip((-2, -1), starts, size, strict=True):
        if is_exporting() or x.shape[dim] not in (1, length):
            x = full_map(x).narrow(dim, start, length)
    return x


def expand_to_map(x: Tensor, where: Where, size: Size) -> Tensor:
    """Expand a map of statistics, of size 1 along some axes, to (height, width)."""
    rows, columns, channels = where
    shape = list(x.shape)
    if rows == columns:
        shape[rows] = channels * size[0] * size[1]
    else:
        shape[rows], shape[columns] = size
    return full_map(x).expand(shape)  # a view of a lazy map would store all its pixels


def window_moment(
    maps: Sequence[Tensor], window: Size, over: Sequence[int] = (), precision: Precision = "exact"
) -> Tensor:
    """Compute the window mean of a product of deviations from window means.

    Args:
        maps: (n, ..., h, w), which broadcast.
        window, over, precision: as in `window_statistic`.

    Returns:
        (n, k, h or 1, w or 1); a variance, of one map twice, is not negative.
    """
    first = maps[0]
    if len(maps) == 2 and maps[1] is first:
        return window_statistic(first, "var", window, over, 0, precision=precision)
    # The deviations do not change if constants are subtracted. The means of the whole map leave
    # the smallest products.
    wide = [m.to(widest_dtype(m.device)) for m in maps]
    offsets = [m - m.mean((*over, -2, -1), keepdim=True) for m in wide]
    offsets = list(torch.broadcast_tensors(*offsets))

    def mean(product: Tensor) -> Tensor:
        return window_statistic(product, "mean", window, over, precision=precision)

    means = [mean(offset) for offset in offsets]
    total = None
    for chosen in itertools.product((True, False), repeat=len(maps)):
        together = [offset for offset, inside in zip(offsets, chosen, strict=True) if inside]
        if len(together) == 1 or (not together and len(maps) > 1):
            continue  # below, with its coefficient
        apart = [m for m, inside in zip(means, chosen, strict=True) if not inside]
        part = mean(math.prod(together[1:], start=together[0]))
        part = math.prod([-m for m in apart], start=part)
        total = part if total is None else total + part
    # Of the terms with no factor or one, each is the product of all means up to its sign.
    rest = math.prod(means[1:], start=means[0]) * ((1 - len(maps)) * (-1) ** len(maps))
    assert total is not None
    moment: Tensor = (total + rest).to(first.dtype)
    return moment


def positive_part(x: Any) -> Any:
    """Return max(x, 0) of a tensor or a number."""
    positive: Any = x.clamp_min(0) if isinstance(x, Tensor) else max(x, 0)
    return positive


def extreme(scale: Any, at_or_above_0: Tensor, below_0: Tensor) -> Tensor:
    """Return scale times the first value, or the second where the scale is negative."""
    if isinstance(scale, Tensor):
        return scale * torch.where(scale < 0, below_0, at_or_above_0)
    made: Tensor = scale * (at_or_above_0 if scale >= 0 else below_0)
    return made


def expanded(x: Any, like: Tensor, item_shape: Sequence[int]) -> Tensor:
    """Expand a number, or values that broadcast, to (windows · n, *item_shape).

    Args:
        x: a number or a tensor.
        like: stacked statistics (windows · n, ...).
        item_shape: as in `stack_windows`.
    """
    shape = (like.shape[0], *item_shape)
    return x.expand(shape) if isinstance(x, Tensor) else like.new_full(shape, x)


def corrected(variance: Tensor, number: Any, correction: float) -> Tensor:
    """Return a biased variance with a corrected divisor."""
    unbiased: Tensor = variance * number / positive_part(number - correction)
    return unbiased


def with_item_shape(x: Tensor, item_shape: Sequence[int]) -> Tensor:
    """Reshape (n, ...) to (n, *item_shape)."""
    return x.reshape(x.shape[0], *item_shape)


def as_type(x: Tensor, like: Tensor) -> Tensor:
    """Convert to the dtype of another tensor."""
    return x.to(like.dtype)


def to_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert to a dtype."""
    return x.to(dtype)


def repeat_for_windows(x: Tensor, count: int) -> Tensor:
    """Repeat a value per image for all windows: (n, ...) to (count · n, ...)."""
    return x.repeat(count, *[1] * (x.ndim - 1))


def window_count(grid: Tensor) -> int:
    """Return the number of windows for which a map of statistics holds values."""
    values, _ = values_of(grid)
    return values.shape[-2] * values.shape[-1]


def values_per_window(x: Tensor, window: Size, channels: int) -> Tensor | int:
    """Return the number of values in a window of a map with these channels."""
    return ops.window_pixels(x, window) * channels


def as_float(size: Any) -> Any:
    """Convert a size to a float."""
    if torch._C._get_tracing_state() is not None:
        raise ConversionError(
            "torch.jit.trace would turn a number that this network computes from the image size "
            "into a constant: use torch.export"
        )
    return torch.sym_float(size)


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Call `Tensor.reshape`."""
    return x.reshape(shape)


def expand(x: Tensor, shape: Sequence[int], implicit: bool = False) -> Tensor:
    """Call `Tensor.expand`; `implicit` is an argument of aten without effect."""
    return x.expand(shape)


def length(x: Tensor, dim: int) -> int:
    """Return the size of a dim; every tracer follows `shape`."""
    return x.shape[dim]


def unfold_windows(
    x: Tensor, window: Size, share: float, blend: Blend, where: Where, size: Size | None
) -> Tensor:
    """Call `ops.unfold_windows` on a map: (n, ...) to (windows · n, ...).

    Args:
        x, where, size: as in `as_map`.
        window: (height, width) in pixels of the map.
        share, blend: as in `ops.windows.Overlap`.
    """
    windows = ops.unfold_windows(as_map(x, where, size), window, Overlap(share, blend))
    return from_map(windows, where)


def fold_windows(
    x: Tensor,
    window: Size,
    share: float,
    blend: Blend,
    where: Where,
    inner: Size | None,
    size: Size,
) -> Tensor:
    """Call `ops.fold_windows`: (windows · n, ...) to (n, ...).

    Args:
        x, window, share, blend, where: as in `unfold_windows`.
        inner: (height, width) of a window inside the map; may be None unless pixels are flattened.
        size: (height, width) of the map.
    """
    overlap = Overlap(share, blend)
    return from_map(ops.fold_windows(as_map(x, where, inner), size, window, overlap), where)


def group_norm(
    x: Tensor,
    where: Where,
    size: Size | None,
    groups: int,
    window: Window,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    precision: Precision = "exact",
) -> Tensor:
    """Normalise groups of channels by the statistics of each pixel's window.

    Args:
        x: (n, c, ...).
        where, size: as in `as_map`.
        groups, window, weight, bias, eps, precision: as in `ops.local_group_norm`.
    """
    m = as_map(x, where, size)
    flat = m.reshape(m.shape[0], -1, *m.shape[-2:])
    depth = flat.shape[1] // m.shape[1]
    if depth > 1:  # (n, c, d, h, w): a channel's weight is that of all its frames
        weight, bias = (t if t is None else t.repeat_interleave(depth) for t in (weight, bias))
    normed = ops.local_group_norm(flat, groups, window, weight, bias, eps, precision)
    return from_map(normed.view_as(m), where)


def complex_of(dtype: torch.dtype) -> torch.dtype:
    """Return the complex type of the precision of a floating-point type."""
    return dtype.to_complex()


def limit(dtype: torch.dtype, name: str) -> float:
    """Return an attribute of `torch.finfo` of a type ("eps", "max")."""
    return float(getattr(torch.finfo(dtype), name))


def grouped_moments(
    mean: Tensor, variance: Tensor, where: Where, channels: int, groups: int
) -> tuple[Tensor, Tensor]:
    """Merge the moments of channels into those of groups of channels.

    Args:
        mean, variance: (windows · n, channels, ...) with size 1 at the rows and columns, or
            values that broadcast to it.
        where: as in `as_map`.
        channels: number of channels.
        groups: number of groups.

    Returns:
        2 × (windows · n, channels, ...): each channel has the moments of its group.
    """
    mean, variance = torch.broadcast_tensors(mean, variance)
    if groups == channels or where[2] > 1:
        return mean, variance
    means, variances = (x.unflatten(1, (groups, -1)) for x in (mean, variance))
    dims = list(range(2, means.ndim))
    centre = means.mean(dims, keepdim=True)
    within = (variances + (means - centre).square()).mean(dims, keepdim=True)
    first, second = (x.expand_as(means).flatten(1, 2) for x in (centre, within))
    return first, second


def normalise(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    """Normalise (n, c, ...) by maps of its moments; weight and bias (c,) or None."""
    normed = (x - mean) * (variance + eps).rsqrt()
    shape = (-1, *[1] * (x.ndim - 2))
    normed = normed if weight is None else normed * weight.view(shape)
    return (normed if bias is None else normed + bias.view(shape)).to(x.dtype)

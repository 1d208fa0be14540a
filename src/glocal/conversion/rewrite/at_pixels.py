"""Functions of rewritten blocks in which each pixel has its own matrix or filter.

Pickled programs import them from here, as those of `runtime`.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from glocal.conversion.rewrite.runtime import Where, as_map, from_map
from glocal.ops.window_map import values_of
from glocal.ops.windows import Size

__all__ = [
    "filter_at_pixels",
    "map_of_windows",
    "part_of",
    "plus_weighted",
    "product_at_pixels",
    "unit_weights",
    "with_pixel",
]


def map_of_windows(stacked: Tensor, grid: Tensor, size: Size | None = None) -> Tensor:
    """Make a map of stacked statistics: (windows · n, *item) to (n, *item, h, w).

    Args:
        stacked: with the windows of all images.
        grid: (·, ·, windows down, windows along), which says where the windows are.
        size: (height, width) of a map of another size; each pixel takes the nearest window.

    Returns:
        with size 1 on an axis that the window covers, unless `size` is given.
    """
    values, as_in_grid = values_of(grid)
    y = stacked.unflatten(0, (*values.shape[-2:], -1))
    y = as_in_grid(y.permute(*range(2, y.ndim), 0, 1))
    if size is None:
        return y
    flat = y.reshape(y.shape[0], -1, *y.shape[-2:])
    resized = F.interpolate(flat, size=size, mode="nearest-exact")
    return resized.reshape(*y.shape[:-2], *size)


def with_pixel(x: Tensor) -> Tensor:
    """Give a tensor without pixels the dims of one: (...) to (..., 1, 1)."""
    return x[..., None, None]


def product_at_pixels(
    factors: Sequence[Tensor], terms: Sequence[str], result: str, summed: dict[str, int]
) -> Tensor:
    """Multiply tensors at each pixel, as `torch.einsum` does, and sum other dims.

    >>> matrices, image = torch.rand(2, 3, 3, 8, 9), torch.rand(2, 3, 8, 9)
    >>> product_at_pixels([matrices, image], ["bij", "bj"], "bi", {"j": 3}).shape
    torch.Size([2, 3, 8, 9])

    Args:
        factors: (..., h or 1, w or 1).
        terms: a letter for each dim of each factor but the last two.
        result: the letters of the result.
        summed: the other letters, with the sizes of their dims.

    Returns:
        (..., h, w).
    """
    total: Tensor | None = None
    for places in itertools.product(*map(range, summed.values())):
        at = dict(zip(summed, places, strict=True))
        parts = [_aligned(x, t, result, at) for x, t in zip(factors, terms, strict=True)]
        for part in parts[2:]:
            parts[0] = parts[0] * part
        total = _plus_product(total, parts[0], parts[1])
    assert total is not None
    return total


def _aligned(x: Tensor, term: str, result: str, at: dict[str, int]) -> Tensor:
    """Return a factor at one index of the summed dims, with the dims of the result."""
    values, as_such_a_map = values_of(x)
    for place in reversed(range(len(term))):
        letter = term[place]
        if letter not in result:
            values = values.select(place, at.get(letter, 0))
    kept = [letter for letter in term if letter in result]
    order = sorted(range(len(kept)), key=lambda place: result.index(kept[place]))
    values = values.permute(*order, -2, -1)
    for place, letter in enumerate(result):
        if letter not in kept:
            values = values.unsqueeze(place)
    return as_such_a_map(values)


def _plus_product(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    return a * b if total is None else torch.addcmul(total, a, b)


def filter_at_pixels(
    x: Tensor,
    weights: Tensor,
    biases: Tensor | None,
    shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Convolve images with a filter for each pixel of the result.

    Args:
        x: (1, images · groups · channels, h, w).
        weights: (images · groups · out, channels, kh, kw, height or 1, width or 1).
        biases: (images · groups · out, height or 1, width or 1), or None.
        shape: (groups, out, channels, kh, kw).
        stride, padding, dilation: along rows and columns, as those of a convolution.

    Returns:
        (1, images · groups · out, height, width).
    """
    groups, out, channels, kh, kw = shape
    padded = F.pad(x, (padding[1], padding[1], padding[0], padding[0])) if any(padding) else x
    padded = padded.reshape(-1, groups, channels, *padded.shape[-2:])
    values, as_such_a_map = values_of(weights)
    values = values.unflatten(0, (-1, groups, out))
    height, width = (
        (n - dilation[d] * (k - 1) - 1) // stride[d] + 1
        for d, (n, k) in enumerate(zip(padded.shape[-2:], (kh, kw), strict=True))
    )
    total: Tensor | None = None
    for i, j in itertools.product(range(kh), range(kw)):
        top, left = i * dilation[0], j * dilation[1]
        rows = slice(top, top + (height - 1) * stride[0] + 1, stride[0])
        columns = slice(left, left + (width - 1) * stride[1] + 1, stride[1])
        for channel in range(channels):
            shifted = padded[:, :, channel : channel + 1, rows, columns]
            total = _plus_product(total, as_such_a_map(values[:, :, :, channel, i, j]), shifted)
    assert total is not None
    result = total.reshape(1, -1, *total.shape[-2:])
    return result if biases is None else result + biases.unsqueeze(0)


def unit_weights(like: Tensor, number: int, images: int) -> Tensor:
    """Return weights that take each tensor of a weighted sum alone.

    Args:
        like: weights of windows, (windows · images, *item), with `number` values each.
        number: of tensors in the sum.
        images: in the batch.

    Returns:
        (number · images, *item), the first tensor for all images first.
    """
    units = torch.eye(number, dtype=like.dtype, device=like.device)
    return units.unsqueeze(1).expand(-1, images, -1).reshape(-1, *like.shape[1:])


def part_of(x: Tensor, number: int, index: int) -> Tensor:
    """Return one of the parts (n, ...) that are stacked as (number · n, ...)."""
    parts: Tensor = x.unflatten(0, (number, -1))
    return parts[index]


def plus_weighted(
    total: Tensor | None,
    x: Tensor,
    weights: Tensor,
    index: int,
    where: Where | None,
    size: Size | None,
) -> Tensor:
    """Add a map times the weight of each pixel to a sum.

    Args:
        total: the sum, or None.
        x: the map (n, ...), or (1, n · c, h, w) if `where` is None.
        weights: (n, *item, h or 1, w or 1).
        index: of the weight in a flattened item.
        where, size: of `x`, as in `runtime.as_map`.
    """
    values, as_such_a_map = values_of(weights)
    weight = as_such_a_map(values.flatten(1, -3)[:, index])
    weight = weight.unsqueeze(1)
    if where is None:
        images: Tensor = x.unflatten(1, (weight.shape[0], -1)).squeeze(0)
        product = (images * weight).reshape(x.shape)
    else:
        m = as_map(x, where, size)
        for _ in range(m.ndim - weight.ndim):
            weight = weight.unsqueeze(1)
        product = from_map(m * weight, where)
    return product if total is None else torch.add(total, product)

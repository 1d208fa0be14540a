"""The functions that blocks with statistics from crops call.

Pickled programs import them from here, as those of `runtime`.
"""

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from glocal.conversion.rewrite import runtime
from glocal.conversion.rewrite.meeting import DROPPED
from glocal.conversion.rewrite.runtime import Where
from glocal.errors import GlocalError
from glocal.ops import crops
from glocal.ops.window_map import WindowMap
from glocal.ops.windows import CROPS, AxisWindows, Size

__all__ = ["TAKING", "group_norm", "matrix_product", "product", "record", "replayed"]


def record(statistic: Tensor, height: int, width: int) -> None:
    """Record a statistic (n, ...) for a map of this size, during a pass only."""
    if crops.is_running():
        values = statistic.reshape(statistic.shape[0], -1, 1, 1)
        crops.recorded((height, width), lambda: (values,))


def replayed(height: int, width: int) -> Tensor:
    """Return the next recorded statistic (n, k, h or 1, w or 1) for a map.

    Raises:
        GlocalError: no pass replays statistics.
    """
    return crops.recorded((height, width), _refuse)[0]


def _refuse() -> tuple[Tensor]:
    raise GlocalError("the second pass over an image has begun before the first, over its crops")


TAKING: tuple[Callable[..., object], ...] = (record, replayed)
"""Calls that change the state of a pass."""


def group_norm(
    x: Tensor,
    where: Where,
    size: Size | None,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    """Normalise groups of channels by statistics from crops, or of the map.

    Args:
        x: (n, c, ...).
        where, size: as in `runtime.as_map`.
        groups, weight, bias, eps: as in `torch.nn.functional.group_norm`.
    """
    whole = size or (x.shape[where[0]], x.shape[where[1]])
    window = CROPS if crops.is_running() else whole
    return runtime.group_norm(x, where, size, groups, window, weight, bias, eps)


def matrix_product(terms: Sequence[str], result: str) -> tuple[str, str, str] | None:
    """Return the letters of a product of matrices and vectors, or None.

    >>> matrix_product(["nhdc", "nhc"], "nhd")
    ('nh', 'd', 'c')

    Args:
        terms: letters of the dims of a matrix and of a vector for each pixel, in any order.
        result: those of the result.

    Returns:
        the letters that both have and the result too, of the rows, and of the columns.
    """
    if len(terms) != 2 or any(DROPPED in term for term in terms):
        return None
    first, second = map(set, terms)
    batch = [letter for letter in result if letter in first & second]
    rows = [letter for letter in result if letter not in batch]
    columns = sorted((first | second) - set(result))
    matrix, vector = (first, second) if set(rows) <= first else (second, first)
    if set(columns) <= first & second and not set(rows) & vector and set(rows) <= matrix:
        return "".join(batch), "".join(rows), "".join(columns)
    return None


def product(
    statistics: Tensor,
    pixels: Tensor,
    item_shape: Sequence[int],
    terms: tuple[str, str],
    result: str,
) -> Tensor:
    """Multiply the vector of each pixel by the matrix of the crops around it.

    Args:
        statistics: from `replayed`.
        pixels: (..., h, w).
        item_shape: of a matrix, without the first dim.
        terms: letters of the dims of a matrix with its first dim, and of a pixel's vector.
        result: letters of the dims of the result but its pixels.

    Returns:
        (..., h, w).
    """
    letters = matrix_product(terms, result)
    assert letters is not None
    batch, rows, columns = letters
    size = pixels.shape[-2], pixels.shape[-1]
    values, axes = _values(statistics)
    values = values.permute(2, 3, 0, 1).unflatten(-1, tuple(item_shape))
    order = [2 + terms[0].index(letter) for letter in batch + rows + columns]
    values = values.permute(0, 1, *order)
    first = batch[0]  # the image
    inner = [values.shape[2 + i] for i in range(len(batch + rows + columns))]
    heads = math.prod(inner[1 : len(batch)])
    out, taken = inner[len(batch) : len(batch + rows)], inner[len(batch + rows) :]
    matrices = values.reshape(*values.shape[:2], inner[0], heads, math.prod(out), math.prod(taken))
    vectors = pixels.permute(*(terms[1].index(n) for n in batch + columns), -2, -1)
    vectors = vectors.reshape(vectors.shape[0], heads, math.prod(taken), *size)
    made = crops.mix_between(matrices, vectors, *axes)
    made = made.reshape(made.shape[0], *inner[1 : len(batch)], *out, *size)
    assert result.startswith(first)
    return made.permute(*((batch + rows).index(letter) for letter in result), -2, -1)


def _values(statistics: Tensor) -> tuple[Tensor, tuple[AxisWindows, AxisWindows]]:
    """The values of the crops, and where they are."""
    if isinstance(statistics, WindowMap):
        return statistics.values, statistics.axes
    rows, columns = (AxisWindows(n, n) for n in statistics.shape[-2:])
    return statistics, (rows, columns)

"""Products of transposed attention in C++, over many rectangles of a map at once.

For float32 on a CPU. `ops` computes the same with torch, one rectangle after another, which is
also what the results are tested against.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from glocal.ops.kernels.library import INDEX, POINTER, library
from glocal.ops.kernels.plain import is_plain

__all__ = ["apply", "products", "takes"]

Place = tuple[slice, slice]
"""Rows and columns of a map."""

_FUNCTIONS = (
    ("glocal_products", (*[POINTER] * 4, *[INDEX] * 4, POINTER, *[INDEX] * 2, *[POINTER] * 3)),
    ("glocal_apply", (*[POINTER] * 4, *[INDEX] * 4, POINTER, *[INDEX] * 2, POINTER)),
)


def takes(*maps: Tensor) -> bool:
    """Whether maps (b, heads, c, h, w) of one shape can be computed with here.

    All with the channels of a pixel together, or all with the pixels of a row.
    """
    one = maps[0]
    return (
        all(
            type(x) is Tensor and is_plain(x) and x.dtype == torch.float32 and x.shape == one.shape
            for x in maps
        )
        and (all(_is_last(x) for x in maps) or all(x.stride(4) == 1 for x in maps))
        and _library() is not None
    )


def products(q: Tensor, k: Tensor, places: Sequence[Place]) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the pixels of each place: q kᵀ (places, b, heads, c, c), q² and k² (..., c)."""
    library = _library()
    assert library is not None
    shape = (len(places), *q.shape[:3])
    gram = q.new_empty((*shape, q.shape[2]))
    squares_q, squares_k = q.new_zeros(shape), q.new_zeros(shape)
    failed = library.glocal_products(
        *_memory(q),
        *_memory(k),
        *_about(places, q, k),
        *(t.data_ptr() for t in (gram, squares_q, squares_k)),
    )
    if failed:
        raise MemoryError("not enough memory for the products of attention")
    return gram, squares_q, squares_k


def apply(matrices: Tensor, v: Tensor, places: Sequence[Place], out: Tensor) -> None:
    """Write a matrix, (places, b, heads, c, c), times the channels of v to each place of `out`."""
    library = _library()
    assert library is not None
    matrices = matrices.contiguous()
    failed = library.glocal_apply(
        *_memory(v), *_memory(out), *_about(places, v, out), matrices.data_ptr()
    )
    if failed:
        raise MemoryError("not enough memory for what attention makes")


def _memory(x: Tensor) -> tuple[int, ctypes.Array[ctypes.c_ssize_t]]:
    return x.data_ptr(), (INDEX * 5)(*x.stride())


def _about(
    places: Sequence[Place], *maps: Tensor
) -> tuple[int, int, int, bool, ctypes.Array[ctypes.c_ssize_t], int, int]:
    """Batch, heads, channels, whether these are last; places, how many; threads."""
    batch, heads, c = maps[0].shape[:3]
    last = all(_is_last(x) for x in maps)
    bounds = [n for p in places for side in p for n in (side.start, side.stop)]
    edges = (INDEX * len(bounds))(*bounds)
    return batch, heads, c, last, edges, len(places), torch.get_num_threads()


def _is_last(x: Tensor) -> bool:
    """Whether the channels of a pixel lie together."""
    return x.stride(2) == 1


def _library() -> ctypes.CDLL | None:
    return library(_FUNCTIONS)

"""Products of transposed attention in C++, over many areas of a float32 map.

Where the library is not available, `glocal.ops` computes the same with torch, one area after
another; the tests compare the two.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from glocal.ops.kernels.library import INDEX, POINTER, library
from glocal.ops.kernels.plain import is_plain

__all__ = ["apply", "products", "takes"]

Area = tuple[slice, slice]
"""Rows and columns of a map."""

_FUNCTIONS = (
    ("glocal_products", (*[POINTER] * 4, *[INDEX] * 4, POINTER, *[INDEX] * 2, *[POINTER] * 3)),
    ("glocal_apply", (*[POINTER] * 4, *[INDEX] * 4, POINTER, *[INDEX] * 2, POINTER)),
)


def takes(*maps: Tensor) -> bool:
    """True if C++ takes the maps: float32, all of one shape (b, heads, c, h, w).

    In all of them, either the channels of a pixel or the pixels of a row are adjacent in memory.
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


def products(q: Tensor, k: Tensor, areas: Sequence[Area]) -> tuple[Tensor, Tensor, Tensor]:
    """Return q kᵀ (areas, b, heads, c, c), q² and k² (..., c), summed over areas."""
    library = _library()
    assert library is not None
    shape = (len(areas), *q.shape[:3])
    gram = q.new_empty((*shape, q.shape[2]))
    squares_q, squares_k = q.new_zeros(shape), q.new_zeros(shape)
    failed = library.glocal_products(
        *_memory(q),
        *_memory(k),
        *_geometry(areas, q, k),
        *(t.data_ptr() for t in (gram, squares_q, squares_k)),
    )
    if failed:
        raise MemoryError(f"not enough memory for the products of maps {tuple(q.shape)}")
    return gram, squares_q, squares_k


def apply(matrices: Tensor, v: Tensor, areas: Sequence[Area], out: Tensor) -> None:
    """Write the product of a matrix and the channels of v to each area of `out`.

    Args:
        matrices: (areas, b, heads, c, c).
        v: (b, heads, c, h, w).
        areas: rows and columns of the areas.
        out: as v.
    """
    library = _library()
    assert library is not None
    matrices = matrices.contiguous()
    failed = library.glocal_apply(
        *_memory(v), *_memory(out), *_geometry(areas, v, out), matrices.data_ptr()
    )
    if failed:
        raise MemoryError(f"not enough memory to multiply a map {tuple(v.shape)}")


def _memory(x: Tensor) -> tuple[int, ctypes.Array[ctypes.c_ssize_t]]:
    return x.data_ptr(), (INDEX * 5)(*x.stride())


def _geometry(
    areas: Sequence[Area], *maps: Tensor
) -> tuple[int, int, int, bool, ctypes.Array[ctypes.c_ssize_t], int, int]:
    """Return batch, heads, channels, channels-last flag, edges, areas and threads."""
    batch, heads, c = maps[0].shape[:3]
    last = all(_is_last(x) for x in maps)
    bounds = [n for area in areas for side in area for n in (side.start, side.stop)]
    edges = (INDEX * len(bounds))(*bounds)
    return batch, heads, c, last, edges, len(areas), torch.get_num_threads()


def _is_last(x: Tensor) -> bool:
    """True if the channels of a pixel are adjacent in memory."""
    return x.stride(2) == 1


def _library() -> ctypes.CDLL | None:
    return library(_FUNCTIONS)

"""Window operations in C++, where they are many times faster than torch's: float32 on a CPU.

`ops` computes the same with torch where there is no compiler, which is also what the results are
tested against.
"""

import ctypes

import torch
from torch import Tensor

from glocal.ops.kernels.library import INDEX, POINTER, library
from glocal.ops.kernels.plain import is_plain
from glocal.ops.windows import AxisWindows, Size

__all__ = [
    "available",
    "block_sums",
    "instance_norm",
    "moments",
    "multiply",
    "takes",
    "window_sums",
]

_FUNCTIONS = (
    ("glocal_window_sums", (*[POINTER] * 2, *[INDEX] * 8, ctypes.c_float)),
    ("glocal_moments", (*[POINTER] * 3, *[INDEX] * 9)),
    ("glocal_block_sums", (*[POINTER] * 2, *[INDEX] * 9)),
    ("glocal_multiply", (*[POINTER] * 3, *[INDEX] * 11)),
    ("glocal_instance_norm", (*[POINTER] * 4, *[INDEX] * 10, ctypes.c_double)),
)
_LANES = 16  # channels that are worked on together: a cache line of them


def available(x: Tensor, window: Size) -> bool:
    """Whether a map (b, c, h, w) and a window inside of it can be computed with here."""
    return _block(window) > 0 and takes(x)


def takes(x: Tensor) -> bool:
    """Whether a tensor is a map (b, c, h, w) that can be computed with here."""
    return (
        is_plain(x)
        and x.dtype == torch.float32
        and x.ndim == 4
        and x.numel() > 0
        and (x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last))
        and _library() is not None
    )


def window_sums(x: Tensor, window: Size, scale: float = 1.0) -> Tensor:
    """`scale` times the sum of every window wholly inside, (b, c, h - kh + 1, w - kw + 1)."""
    library = _library()
    assert library is not None
    (kh, kw), (h, w) = window, x.shape[-2:]
    out = _empty(x, (h - kh + 1, w - kw + 1))
    failed = library.glocal_window_sums(
        x.data_ptr(),
        out.data_ptr(),
        *_shape(x),
        kh,
        kw,
        _block(window),
        torch.get_num_threads(),
        scale,
    )
    if failed:
        raise MemoryError("not enough memory for the sums of windows")
    return out


def block_sums(x: Tensor, first: Size, block: Size, count: Size) -> Tensor:
    """Sums of blocks of pixels side by side, (b, c, down, along).

    Args:
        x: (b, c, h, w), of which the first block begins at the pixel `first`.
        first: (row, column).
        block: (height, width) in pixels.
        count: blocks down and along.
    """
    library = _library()
    assert library is not None
    out = _empty(x, count)
    begins = x[..., first[0] :, first[1] :].data_ptr()
    failed = library.glocal_block_sums(
        begins, out.data_ptr(), *_shape(x), *block, *count, torch.get_num_threads()
    )
    if failed:
        raise MemoryError("not enough memory for the sums of blocks")
    return out


def multiply(x: Tensor, values: Tensor, axes: tuple[AxisWindows, AxisWindows]) -> Tensor:
    """A map times the values of its pixels' windows, (b, c, windows down, windows along)."""
    library = _library()
    assert library is not None
    values = values.contiguous(memory_format=_form(x))
    out = torch.empty_like(x)
    failed = library.glocal_multiply(
        x.data_ptr(),
        values.data_ptr(),
        out.data_ptr(),
        *_shape(x),
        *(n for axis in axes for n in (axis.count, axis.before, axis.step)),
        torch.get_num_threads(),
    )
    if failed:
        raise MemoryError("not enough memory for a row of the map")
    return out


def instance_norm(
    x: Tensor, window: Size, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Instance norm by the statistics of each pixel's window; weight and bias (c,), or neither."""
    library = _library()
    assert library is not None
    out = torch.empty_like(x)
    affine = [None if t is None else t.detach().float().contiguous() for t in (weight, bias)]
    failed = library.glocal_instance_norm(
        x.data_ptr(),
        *(None if t is None else t.data_ptr() for t in affine),
        out.data_ptr(),
        *_shape(x),
        *window,
        *_cut(x, window),
        x.shape[1],
        eps,
    )
    if failed:
        raise MemoryError("not enough memory for the statistics of windows")
    return out


def moments(x: Tensor, window: Size) -> tuple[Tensor, Tensor]:
    """Mean and variance of every window wholly inside, float64: (b, c, h - kh + 1, w - kw + 1)."""
    library = _library()
    assert library is not None
    (kh, kw), (h, w) = window, x.shape[-2:]
    mean, variance = (_empty(x, (h - kh + 1, w - kw + 1), torch.float64) for _ in range(2))
    failed = library.glocal_moments(
        x.data_ptr(), mean.data_ptr(), variance.data_ptr(), *_shape(x), kh, kw, *_cut(x, window)
    )
    if failed:
        raise MemoryError("not enough memory for the moments of windows")
    return mean, variance


def _empty(x: Tensor, size: Size, dtype: torch.dtype = torch.float32) -> Tensor:
    """Memory for a map of another size that lies as x does."""
    return torch.empty((*x.shape[:2], *size), dtype=dtype, memory_format=_form(x))


def _form(x: Tensor) -> torch.memory_format:
    return torch.contiguous_format if x.is_contiguous() else torch.channels_last


def _shape(x: Tensor) -> tuple[int, int, int, int]:
    """Images, rows, columns and channels, of which the last lie together."""
    b, c, h, w = x.shape
    return (b * c, h, w, 1) if x.is_contiguous() else (b, h, w, c)


def _block(window: Size) -> int:
    """Rows of a block: a few of them make a window. 0 where windows are too small for it."""
    return next((n for n in (16, 8, 4, 2, 1) if window[0] >= 4 * n), 0)


def _cut(x: Tensor, window: Size) -> tuple[int, int, int]:
    """Rows of a block, channels of an item of work, threads."""
    images, _, _, c = _shape(x)
    threads = torch.get_num_threads()
    lanes = next((n for n in (_LANES, 8) if images * -(-c // n) >= threads), 4)
    return _block(window), lanes, threads


def _library() -> ctypes.CDLL | None:
    return library(_FUNCTIONS)

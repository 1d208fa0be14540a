"""Window operations in C++ on float32 maps, many times faster than torch.

Where the library is not available, `glocal.ops` computes the same with torch; the tests compare
the two.
"""

import ctypes
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from glocal.ops.interpolation import window_of_pixel
from glocal.ops.kernels.library import INDEX, POINTER, library
from glocal.ops.kernels.plain import is_plain
from glocal.ops.windows import AxisWindows, Size

__all__ = [
    "available",
    "block_sums",
    "built",
    "instance_norm",
    "moments",
    "multiply",
    "normalise",
    "takes",
    "window_sums",
]

_FUNCTIONS = (
    ("glocal_window_sums", (*[POINTER] * 2, *[INDEX] * 8, ctypes.c_float)),
    ("glocal_moments", (*[POINTER] * 3, *[INDEX] * 9)),
    ("glocal_block_sums", (*[POINTER] * 2, *[INDEX] * 9)),
    ("glocal_multiply", (*[POINTER] * 3, *[INDEX] * 6, *[POINTER] * 4, INDEX)),
    ("glocal_normalise", (*[POINTER] * 6, *[INDEX] * 6, *[POINTER] * 4, *[INDEX] * 2)),
    ("glocal_instance_norm", (*[POINTER] * 4, *[INDEX] * 10, ctypes.c_double)),
)
_LANES = 16
"""Channels that are computed together: they fill a cache line."""


def built() -> bool:
    """True if the library is there."""
    return _library() is not None


def available(x: Tensor, window: Size) -> bool:
    """True if C++ takes the map (b, c, h, w) and a window that fits it."""
    return _block(window) > 0 and takes(x)


def takes(x: Tensor) -> bool:
    """True if C++ accepts the tensor: a float32 map, contiguous or channels last."""
    return (
        is_plain(x)
        and x.dtype == torch.float32
        and x.ndim == 4
        and x.numel() > 0
        and (x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last))
        and built()
    )


def window_sums(x: Tensor, window: Size, scale: float = 1.0) -> Tensor:
    """Return `scale` · the sum over each window, (b, c, h - kh + 1, w - kw + 1)."""
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
        raise MemoryError(f"not enough memory to sum windows {window} of a map {tuple(x.shape)}")
    return out


def block_sums(x: Tensor, first: Size, block: Size, count: Size) -> Tensor:
    """Sums over adjacent blocks of pixels, (b, c, blocks down, blocks along).

    Args:
        x: (b, c, h, w).
        first: (row, column) of the pixel at which the first block begins.
        block: (height, width) of a block in pixels.
        count: number of blocks (down, along).
    """
    library = _library()
    assert library is not None
    out = _empty(x, count)
    begins = x[..., first[0] :, first[1] :].data_ptr()
    failed = library.glocal_block_sums(
        begins, out.data_ptr(), *_shape(x), *block, *count, torch.get_num_threads()
    )
    if failed:
        raise MemoryError(f"not enough memory to sum blocks {block} of a map {tuple(x.shape)}")
    return out


def multiply(x: Tensor, values: Tensor, axes: tuple[AxisWindows, AxisWindows]) -> Tensor:
    """Multiply each pixel of a map by the interpolated value of its window.

    Args:
        x: (b, c, h, w).
        values: (b, c, windows down, windows along).
        axes: the windows of the pixels along rows and columns.
    """
    library = _library()
    assert library is not None
    values = values.contiguous(memory_format=_format(x))
    out = torch.empty_like(x)
    places = _places(axes, x)
    failed = library.glocal_multiply(
        x.data_ptr(),
        values.data_ptr(),
        out.data_ptr(),
        *_shape(x),
        *values.shape[-2:],
        *(place.data_ptr() for place in places),
        torch.get_num_threads(),
    )
    if failed:
        raise MemoryError(f"not enough memory for a row of a map {tuple(x.shape)}")
    return out


def normalise(
    x: Tensor,
    mean: Tensor,
    scale: Tensor,
    axes: tuple[AxisWindows, AxisWindows],
    weight: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """Return (x - mean) · scale · weight + bias, interpolating mean and scale.

    Args:
        x: (b, c, h, w).
        mean, scale: (b, c, windows down, windows along).
        axes: the windows of the pixels along rows and columns.
        weight, bias: (c,) or None.
    """
    library = _library()
    assert library is not None
    mean, scale = (t.float().contiguous(memory_format=_format(x)) for t in (mean, scale))
    affine = [None if t is None else t.detach().float().contiguous() for t in (weight, bias)]
    out = torch.empty_like(x)
    places = _places(axes, x)
    failed = library.glocal_normalise(
        x.data_ptr(),
        mean.data_ptr(),
        scale.data_ptr(),
        *(None if t is None else t.data_ptr() for t in affine),
        out.data_ptr(),
        *_shape(x),
        *mean.shape[-2:],
        *(place.data_ptr() for place in places),
        x.shape[1],
        torch.get_num_threads(),
    )
    if failed:
        raise MemoryError(f"not enough memory for a row of a map {tuple(x.shape)}")
    return out


def instance_norm(
    x: Tensor, window: Size, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Instance norm by each pixel's window; weight and bias are (c,) or both None."""
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
        *_work(x, window),
        x.shape[1],
        eps,
    )
    if failed:
        raise MemoryError(f"not enough memory for the instance norm of a map {tuple(x.shape)}")
    return out


def moments(x: Tensor, window: Size) -> tuple[Tensor, Tensor]:
    """Return mean and variance of windows, float64 (b, c, h - kh + 1, w - kw + 1)."""
    library = _library()
    assert library is not None
    (kh, kw), (h, w) = window, x.shape[-2:]
    mean, variance = (_empty(x, (h - kh + 1, w - kw + 1), torch.float64) for _ in range(2))
    failed = library.glocal_moments(
        x.data_ptr(), mean.data_ptr(), variance.data_ptr(), *_shape(x), kh, kw, *_work(x, window)
    )
    if failed:
        raise MemoryError(f"not enough memory for the moments of a map {tuple(x.shape)}")
    return mean, variance


def _places(axes: tuple[AxisWindows, AxisWindows], x: Tensor) -> list[Tensor]:
    """`_places_along` rows and columns of a map, also where an axis has one window."""
    sized = (replace(axis, size=n) for axis, n in zip(axes, x.shape[-2:], strict=True))
    return [place for axis in sized for place in _places_along(axis)]


@lru_cache(maxsize=256)
def _places_along(axis: AxisWindows) -> tuple[Tensor, Tensor]:
    """Return the window of each pixel, int64, and the weight of the next, float32."""
    with torch.inference_mode(False):
        place = window_of_pixel(axis, torch.device("cpu")).double()
        window = place.floor()
        return window.long(), (place - window).float()


def _empty(x: Tensor, size: Size, dtype: torch.dtype = torch.float32) -> Tensor:
    """Memory for a map of another size in the memory format of x."""
    return torch.empty((*x.shape[:2], *size), dtype=dtype, memory_format=_format(x))


def _format(x: Tensor) -> torch.memory_format:
    """The memory format of a map that C++ takes."""
    return torch.contiguous_format if x.is_contiguous() else torch.channels_last


def _shape(x: Tensor) -> tuple[int, int, int, int]:
    """Return images, rows, columns, channels; contiguous planes count as images."""
    b, c, h, w = x.shape
    return (b * c, h, w, 1) if x.is_contiguous() else (b, h, w, c)


def _block(window: Size) -> int:
    """Return the rows of a block, at least 4 per window; 0 for windows of fewer rows."""
    return next((n for n in (16, 8, 4, 2, 1) if window[0] >= 4 * n), 0)


def _work(x: Tensor, window: Size) -> tuple[int, int, int]:
    """(rows of a block, channels of a work item, number of threads)."""
    images, _, _, c = _shape(x)
    threads = torch.get_num_threads()
    lanes = next((n for n in (_LANES, 8) if images * -(-c // n) >= threads), 4)
    return _block(window), lanes, threads


def _library() -> ctypes.CDLL | None:
    return library(_FUNCTIONS)

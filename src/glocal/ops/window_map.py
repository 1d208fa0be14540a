"""Statistics of windows that become a full map only where something needs one.

A map of statistics has the same value for all pixels near a border, and is smooth elsewhere.
Pointwise operations and 1×1 convolutions need to see each window once, so a `WindowMap` stores one
value per window and looks like the full map to torch. Where it meets a map of pixels, the result
is computed region by region and no full map of statistics is written. An operation that is
unknown here gets the full map.

A few lines above 300: the class and the functions that only it uses.
"""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from glocal.ops.aten import (
    is_composite,
    is_flat,
    is_one_pixel,
    is_pointwise,
    is_view,
    out_overload,
)
from glocal.ops.interpolation import (
    along_rows,
    channels_last,
    down_columns,
    interpolation_weights,
    window_of_pixel,
)
from glocal.ops.kernels import native
from glocal.ops.numerics import needs_no_care
from glocal.ops.windows import AxisWindows

__all__ = ["WindowMap", "as_map", "full_map", "values_like", "values_of"]


STRIP_VALUES = 1 << 20
"""Values of a strip that is interpolated at a time: it stays in the processor's cache."""


class WindowMap(Tensor):
    """A map (..., h, w) that stores one value per window.

    `as_map` makes it, where no gradient is wanted: only inference gains by it.

    Attributes:
        values: (..., windows down, windows along).
        axes: the windows of the pixels along rows and columns.
    """

    values: Tensor  # type: ignore[assignment]  # hides the method of sparse tensors
    axes: tuple[AxisWindows, AxisWindows]

    @staticmethod
    def __new__(cls, values: Tensor, axes: tuple[AxisWindows, AxisWindows]) -> "WindowMap":
        """Wrap (..., windows down, windows along) as a map (..., h, w)."""
        shape = (*values.shape[:-2], axes[0].size, axes[1].size)
        like = torch.empty(shape, device="meta")
        if channels_last(values):
            like = like.contiguous(memory_format=torch.channels_last)
        new: WindowMap = torch.Tensor._make_wrapper_subclass(
            cls, shape, like.stride(), dtype=values.dtype, device=values.device
        )
        new.values, new.axes = values, axes
        return new

    @property
    def interpolated(self) -> bool:
        """True if there are pixels between the windows that have values."""
        return any(axis.interpolated for axis in self.axes)

    def padded(self) -> Tensor:
        """The full map as a plain tensor."""
        rows, columns = self.axes
        if self.interpolated:
            return down_columns(interpolation_weights(rows, self.values), self._along())
        if not self.is_floating_point():  # replication takes floating point only
            y, x = (window_of_pixel(axis, self.device) for axis in self.axes)
            return self.values[..., y[:, None], x]
        ends = [n for a in (columns, rows) for n in (a.before, a.size - a.count - a.before)]
        flat = self.values if self.ndim == 4 else self.values.flatten(0, -3).unsqueeze(0)
        return F.pad(flat, ends, mode="replicate").view(self.shape) if any(ends) else self.values

    def pieces(self) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
        """Rows, columns and a view or small tensor of each piece of the map."""
        rows, columns = self.axes
        if not self.interpolated:
            for y, i, high in rows.runs():
                for x, j, wide in columns.runs():
                    part = self.values[..., i, j]
                    yield (y, x), part.expand(*part.shape[:-2], high, wide)
            return
        weights, along = interpolation_weights(rows, self.values), self._along()
        is_finite = needs_no_care(along)  # once for all strips
        strip = max(1, STRIP_VALUES * rows.size // max(1, self.numel()))
        for top in range(0, rows.size, strip):
            y = slice(top, min(top + strip, rows.size))
            yield (y, slice(0, columns.size)), down_columns(weights[y], along, is_finite)

    def _along(self) -> Tensor:
        """(..., windows down, w): interpolated along rows."""
        return along_rows(self.values, interpolation_weights(self.axes[1], self.values))

    def _store_all(self) -> None:
        """Store a value for every pixel: for views, and for writes to single pixels."""
        self.values = self.padded()
        self.axes = tuple(AxisWindows(a.size, a.size) for a in self.axes)  # type: ignore[assignment]

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        """As the plain tensor."""
        return repr(self.padded())

    def __deepcopy__(self, memo: Any) -> Tensor:
        """A plain tensor."""
        return copy.deepcopy(self.padded(), memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle as the plain tensor."""
        return self.padded().__reduce_ex__(protocol)

    def numpy(self, *, force: bool = False) -> Any:
        """As the plain tensor."""
        return self.padded().numpy(force=force)

    def tolist(self) -> Any:
        """As the plain tensor."""
        return self.padded().tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an aten operation on window values, piece by piece, or on the full map."""
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        maps = [t for t in tensors if isinstance(t, WindowMap)]
        alike = is_pointwise(func) and all(m.axes == maps[0].axes for m in maps)
        flat = all(is_flat(t) for t in tensors if not isinstance(t, WindowMap))
        first = args[0] if args else None
        if not func._schema.is_mutable:
            if (alike and flat) or _keeps_pixels(func, args):
                made = func(*_on_values(args), **_on_values(kwargs))
                if made.is_floating_point() or not maps[0].interpolated:
                    return WindowMap(made, maps[0].axes)
            elif alike:
                return _meet(func, args, kwargs, tensors)
            elif isinstance(first, WindowMap) and is_view(func) and not is_composite(func):
                first._store_all()
        elif alike and flat and isinstance(first, WindowMap):
            func(*_on_values(args), **_on_values(kwargs))
            return first
        elif alike and not isinstance(first, WindowMap):
            return _meet(func, args, kwargs, tensors, into=first)
        elif isinstance(first, WindowMap):
            first._store_all()
            func(first.values, *_on_pixels(args[1:]), **_on_pixels(kwargs))
            return first
        # Inference mode does not decompose composite operations itself.
        made = func.decompose(*args, **kwargs)
        if made is NotImplemented:
            made = func(*_on_pixels(args), **_on_pixels(kwargs))
        return made


def as_map(values: Tensor, axes: tuple[AxisWindows, AxisWindows]) -> Tensor:
    """A map of pixels from the values of windows.

    Args:
        values: (..., windows down, windows along).
        axes: the windows of the pixels along rows and columns.

    Returns:
        (..., h, w), with size 1 on an axis that one window covers: a `WindowMap`, or a plain tensor
        in gradient mode and where each pixel has its own value.
    """
    made = WindowMap(values, axes)
    return made.padded() if torch.is_grad_enabled() or made.shape == values.shape else made


def full_map(x: Tensor) -> Tensor:
    """The plain tensor that a map, lazy or not, looks like."""
    return x.padded() if isinstance(x, WindowMap) else x


def values_of(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The values that a map stores, and a function from other such values to a map.

    >>> from glocal.ops import lazy
    >>> with torch.no_grad():
    ...     values, as_such_a_map = values_of(lazy.local_mean(torch.rand(1, 3, 9, 9), (4, 4)))
    >>> values.shape, as_such_a_map(values.exp()).shape
    (torch.Size([1, 3, 6, 6]), torch.Size([1, 3, 9, 9]))

    Returns:
        (..., windows down, windows along) and a function to `WindowMap`; for a plain tensor the
        tensor itself and the identity.
    """
    if isinstance(x, WindowMap):
        axes = x.axes
        return x.values, lambda values: type(x)(values, axes)
    return x, lambda values: values


def values_like(x: Tensor, other: Tensor) -> Tensor:
    """Return the values of a map at the windows of another map.

    Args:
        x: a map (..., h, w); a plain one has the value of each window at the window's own pixel.
        other: a map of the same height and width.
    """
    if not isinstance(other, WindowMap):
        return full_map(x)
    if isinstance(x, WindowMap):
        if x.axes == other.axes:
            return x.values
        x = x.padded()
    rows, columns = (axis.pixels() for axis in other.axes)
    if isinstance(rows, slice) and isinstance(columns, slice):
        return x[..., rows, columns]
    return x[..., rows, :][..., columns]


def _keeps_pixels(func: Any, args: tuple[Any, ...]) -> bool:
    """True if a pixel of the result depends on that pixel of the first argument only."""
    aten = torch.ops.aten
    if not args or not isinstance(args[0], WindowMap):
        return False
    if func in (aten.conv2d.default, aten.convolution.default):
        transposed = func is aten.convolution.default and args[6]
        whole = isinstance(args[1], WindowMap)
        return not transposed and not whole and is_one_pixel(*args[1:5])
    return func in (aten._to_copy.default, aten.detach.default, aten.clone.default)


def _meet(
    func: Any, args: Any, kwargs: Any, tensors: list[Tensor], into: Tensor | None = None
) -> Tensor:
    """Run a pointwise operation on pixels and lazy maps without expanding these.

    Args:
        func, args, kwargs: the operation.
        tensors: the tensors among its arguments; the lazy maps among them have the same windows.
        into: the argument that an in-place operation changes.
    """
    maps = [t for t in tensors if isinstance(t, WindowMap)]
    if func is torch.ops.aten.mul.Tensor and len(maps) == 1 < len(tensors):
        gate, pixels = maps[0], next(t for t in tensors if t is not maps[0])
        if gate.shape == pixels.shape and native.takes(pixels) and gate.dtype == pixels.dtype:
            return native.multiply(pixels, gate.values, gate.axes)
    out = _result_of(func, args, kwargs, tensors) if into is None else into
    writes = out_overload(func)
    for pieces in zip(*(m.pieces() for m in maps), strict=True):
        found = {id(m): piece for m, (_, piece) in zip(maps, pieces, strict=True)}
        part = partial(_part, found, pieces[0][0], maps[0].axes)
        here = tree_map_only(Tensor, part, args)
        rest = tree_map_only(Tensor, part, kwargs)
        if into is not None:
            func(*here, **rest)
        elif writes is not None:
            writes(*here, **rest, out=part(out))
        else:
            part(out).copy_(func(*here, **rest))
    return out


def _part(
    found: dict[int, Tensor],
    area: tuple[slice, slice],
    axes: tuple[AxisWindows, AxisWindows],
    t: Tensor,
) -> Tensor:
    """The given piece of a lazy map, or the same area of a map of pixels."""
    if id(t) in found:
        return found[id(t)]
    for dim, place, axis in zip((-2, -1), area, axes, strict=True):
        if t.ndim >= -dim and t.shape[dim] == axis.size > 1:
            t = t.narrow(dim, place.start, place.stop - place.start)
    return t


def _result_of(func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> Tensor:
    """Allocate the result of a pointwise operation, in its largest argument's format."""
    shape = torch.broadcast_shapes(*(t.shape for t in tensors))
    empty, nothing = tree_map_only(Tensor, _emptied, (args, kwargs))
    dtype = func(*empty, **nothing).dtype
    like = max((t for t in tensors if not isinstance(t, WindowMap)), key=Tensor.numel)
    if like.shape == shape:
        return torch.empty_like(like, dtype=dtype)
    return like.new_empty(shape, dtype=dtype)


def _emptied(t: Tensor) -> Tensor:
    return torch.empty([0] * min(t.ndim, 1), dtype=t.dtype, device=t.device)


def _on_values(arguments: Any) -> Any:
    return tree_map_only(WindowMap, lambda m: m.values, arguments)


def _on_pixels(arguments: Any) -> Any:
    return tree_map_only(WindowMap, WindowMap.padded, arguments)

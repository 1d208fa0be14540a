"""Statistics of windows that become a map of the pixels only where pixels meet them.

A map of statistics says the same for every pixel near a border, and is smooth everywhere else.
Convolutions of 1×1 and pointwise operations need to see each window once, so a `WindowMap` keeps
one value a window and looks like the full map to whoever asks. What meets pixels is computed
region by region, and no map of full size is ever made; what knows nothing of all this gets one.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from glocal.ops.kernels import native
from glocal.ops.windows import AxisWindows

__all__ = ["WindowMap", "lay_out", "values_like", "values_of"]


STRIP_VALUES = 1 << 20  # of a strip that is interpolated at a time: it is to stay in cache


class WindowMap(Tensor):
    """A map (..., h, w) of which each window's value is kept once.

    Made by `lay_out`; without gradients, since only inference gains by it.

    Attributes:
        values: (..., windows down, windows along).
        axes: which windows the pixels have.
    """

    values: Tensor  # type: ignore[assignment]  # hides the method of sparse tensors
    axes: tuple[AxisWindows, AxisWindows]

    @staticmethod
    def __new__(cls, values: Tensor, axes: tuple[AxisWindows, AxisWindows]) -> "WindowMap":
        """(..., windows down, windows along) as a map of (..., h, w)."""
        shape = (*values.shape[:-2], axes[0].size, axes[1].size)
        like = torch.empty(shape, device="meta")
        if _is_channels_last(values):
            like = like.contiguous(memory_format=torch.channels_last)
        new: WindowMap = torch.Tensor._make_wrapper_subclass(
            cls, shape, like.stride(), dtype=values.dtype, device=values.device
        )
        new.values, new.axes = values, axes
        return new

    @property
    def interpolated(self) -> bool:
        """Whether there are pixels between the windows of which values are kept."""
        return any(axis.step > 1 for axis in self.axes)

    def padded(self) -> Tensor:
        """The full map as a plain tensor."""
        rows, columns = self.axes
        if self.interpolated:
            return _down(_weights(rows, self.values), self._along())
        if not self.is_floating_point():  # which replication does not know
            y, x = (_places(axis, self.device) for axis in self.axes)
            return self.values[..., y[:, None], x]
        ends = [n for a in (columns, rows) for n in (a.before, a.size - a.count - a.before)]
        flat = self.values if self.ndim == 4 else self.values.flatten(0, -3).unsqueeze(0)
        return F.pad(flat, ends, mode="replicate").view(self.shape) if any(ends) else self.values

    def pieces(self) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
        """The map piece by piece: where each lies, and a view or a small tensor of it."""
        rows, columns = self.axes
        if not self.interpolated:
            for y, i, high in rows.runs():
                for x, j, wide in columns.runs():
                    part = self.values[..., i, j]
                    yield (y, x), part.expand(*part.shape[:-2], high, wide)
            return
        weights, along = _weights(rows, self.values), self._along()
        strip = max(1, STRIP_VALUES * rows.size // max(1, self.numel()))
        for top in range(0, rows.size, strip):
            y = slice(top, min(top + strip, rows.size))
            yield (y, slice(0, columns.size)), _down(weights[y], along)

    def _along(self) -> Tensor:
        """(..., windows down, w): interpolated along one axis."""
        weights = _weights(self.axes[1], self.values)
        if _is_channels_last(self.values):
            return (weights @ self.values.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.values @ weights.mT

    def _spell_out(self) -> None:
        """Keep a value for every pixel, for who writes to them or looks at their memory."""
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
        """One aten operation: on windows' values, piece by piece, or on the full map."""
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        maps = [t for t in tensors if isinstance(t, WindowMap)]
        alike = _is_pointwise(func) and all(m.axes == maps[0].axes for m in maps)
        flat = all(_is_flat(t) for t in tensors if not isinstance(t, WindowMap))
        first = args[0] if args else None
        if not func._schema.is_mutable:
            if (alike and flat) or _keeps_places(func, args):
                made = func(*_on_values(args), **_on_values(kwargs))
                if made.is_floating_point() or not maps[0].interpolated:
                    return WindowMap(made, maps[0].axes)
            elif alike:
                return _meet(func, args, kwargs, tensors)
            elif isinstance(first, WindowMap) and _is_view(func):
                first._spell_out()
        elif alike and flat and isinstance(first, WindowMap):
            func(*_on_values(args), **_on_values(kwargs))
            return first
        elif alike and not isinstance(first, WindowMap):
            return _meet(func, args, kwargs, tensors, into=first)
        elif isinstance(first, WindowMap):
            first._spell_out()
            func(first.values, *_on_pixels(args[1:]), **_on_pixels(kwargs))
            return first
        # Inference mode leaves composite operations whole.
        made = func.decompose(*args, **kwargs)
        if made is NotImplemented:
            made = func(*_on_pixels(args), **_on_pixels(kwargs))
        return made


def lay_out(values: Tensor, axes: tuple[AxisWindows, AxisWindows]) -> Tensor:
    """Values of windows as a map: a `WindowMap`, or a plain tensor where gradients are asked for.

    Args:
        values: (..., windows down, windows along).
        axes: of the map.
    """
    made = WindowMap(values, axes)
    return made.padded() if torch.is_grad_enabled() or made.shape == values.shape else made


def values_of(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """What is kept of a map, and how other values of its windows become a map like it."""
    if isinstance(x, WindowMap):
        axes = x.axes
        return x.values, lambda values: WindowMap(values, axes)
    return x, lambda values: values


def _places(axis: AxisWindows, device: torch.device) -> Tensor:
    """Number of the window of each pixel, a fraction where it lies between two."""
    place = (torch.arange(axis.size, device=device) - axis.before).clamp_min(0)
    if axis.step > 1:
        place = place / axis.step
    return place.clamp_max(axis.count - 1)


def _weights(axis: AxisWindows, like: Tensor) -> Tensor:
    """(size, count): the share of each window's value in each pixel's; rows add up to 1."""
    number = torch.arange(axis.count, device=like.device)
    distance = (_places(axis, like.device)[:, None] - number).abs()
    return (1 - distance).clamp_min(0).to(like.dtype)


def _down(weights: Tensor, x: Tensor) -> Tensor:
    """Weighted sums of the rows of (..., rows, w), in the memory format of x."""
    if not _is_channels_last(x):
        return weights @ x
    rows = x.permute(0, 2, 3, 1)
    made: Tensor = (weights @ rows.flatten(2)).unflatten(2, rows.shape[2:])
    return made.permute(0, 3, 1, 2)


def _is_channels_last(x: Tensor) -> bool:
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


@cache
def _is_pointwise(func: Any) -> bool:
    """Whether one tensor comes out, of which each pixel is made of the same pixels."""
    returns = [str(r.type) for r in func._schema.returns]
    out = any(a.is_out for a in func._schema.arguments)
    return torch.Tag.pointwise in func.tags and returns == ["Tensor"] and not out


def values_like(x: Tensor, other: Tensor) -> Tensor:
    """What is kept of a map, or would be of a full one, of the windows of another map."""
    if isinstance(x, WindowMap) or not isinstance(other, WindowMap):
        return values_of(x)[0]
    rows, columns = (
        slice(a.before, a.before + (a.count - 1) * a.step + 1, a.step) for a in other.axes
    )
    return x[..., rows, columns]


def _keeps_places(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether each pixel is made of the same pixel of the first argument."""
    aten = torch.ops.aten
    if not args or not isinstance(args[0], WindowMap):
        return False
    if func in (aten.conv2d.default, aten.convolution.default):  # which begin alike
        transposed = func is aten.convolution.default and args[6]
        return not transposed and _sees_one_pixel(*args[1:5])
    return func in (aten._to_copy.default, aten.detach.default, aten.clone.default)


def _sees_one_pixel(
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
) -> bool:
    """Whether a convolution of these makes each pixel of the one at its place."""
    alone = weight.shape[2:] == (1, 1) and set(stride) == {1} and not any(padding)
    return alone and not isinstance(weight, WindowMap)


def _is_flat(t: Tensor) -> bool:
    """Whether a tensor is the same at all pixels."""
    return all(n == 1 for n in t.shape[-2:])


def _meet(
    func: Any, args: Any, kwargs: Any, tensors: list[Tensor], into: Tensor | None = None
) -> Tensor:
    """A pointwise operation on pixels and windows' values, without a map of full size.

    Args:
        func, args, kwargs: the operation.
        tensors: the tensors among its arguments; maps among them are of the same windows.
        into: the argument that the operation changes, if it is one that does.
    """
    maps = [t for t in tensors if isinstance(t, WindowMap)]
    if func is torch.ops.aten.mul.Tensor and len(maps) == 1 < len(tensors):
        gate, pixels = maps[0], next(t for t in tensors if t is not maps[0])
        if gate.shape == pixels.shape and native.takes(pixels) and gate.dtype == pixels.dtype:
            return native.multiply(pixels, gate.values, gate.axes)
    out = _result_of(func, args, kwargs, tensors) if into is None else into
    writes = _with_out(func)
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
    """A piece that was found for a map, and the same area of pixels."""
    if id(t) in found:
        return found[id(t)]
    for dim, place, axis in zip((-2, -1), area, axes, strict=True):
        if t.ndim >= -dim and t.shape[dim] == axis.size > 1:
            t = t.narrow(dim, place.start, place.stop - place.start)
    return t


def _result_of(func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> Tensor:
    """Memory for what a pointwise operation makes: as the largest of its arguments lies."""
    shape = torch.broadcast_shapes(*(t.shape for t in tensors))
    empty, nothing = tree_map_only(Tensor, _emptied, (args, kwargs))
    dtype = func(*empty, **nothing).dtype
    like = max((t for t in tensors if not isinstance(t, WindowMap)), key=Tensor.numel)
    if like.shape == shape:
        return torch.empty_like(like, dtype=dtype)
    return like.new_empty(shape, dtype=dtype)


@cache
def _is_view(func: Any) -> bool:
    """Whether what comes out shares its memory with what goes in."""
    return any(r.alias_info is not None for r in func._schema.returns)


@cache
def _with_out(func: Any) -> Any:
    """The overload of an operation that writes where it is told, if it has one."""
    if func._overloadname == "Tensor" and "out" in func._overloadpacket.overloads():
        return func._overloadpacket.out
    return None


def _emptied(t: Tensor) -> Tensor:
    return torch.empty([0] * min(t.ndim, 1), dtype=t.dtype, device=t.device)


def _on_values(arguments: Any) -> Any:
    return tree_map_only(WindowMap, lambda m: m.values, arguments)


def _on_pixels(arguments: Any) -> Any:
    return tree_map_only(WindowMap, WindowMap.padded, arguments)

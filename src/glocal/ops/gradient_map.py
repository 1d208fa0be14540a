"""A lazy map of statistics through which gradients flow.

`WindowMap` works below autograd, where a value per window has no gradient. A `GradientMap` works
above it: a function of maps alone runs on the values of the windows, if it computes each pixel from
that pixel; every other function gets the full map. Both decide alike, so that a network computes
the same with and without gradients.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from glocal.ops.aten import is_flat, is_one_pixel, is_pointwise
from glocal.ops.window_map import WindowMap
from glocal.ops.windows import AxisWindows

__all__ = ["GradientMap"]

_METADATA = frozenset(
    "size dim numel ndimension nelement stride is_contiguous is_floating_point is_complex "
    "element_size get_device __len__ is_inference".split()
)


class GradientMap(WindowMap):
    """A `WindowMap` whose values may want a gradient."""

    @classmethod
    def __torch_function__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function on the values of windows, or on full maps."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__get__" or name in _METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        maps = [t for t in tensors if isinstance(t, GradientMap)]
        axes = maps[0].axes
        alike = all(m.axes == axes for m in maps)
        if alike and all(isinstance(t, GradientMap) or _is_small(t) for t in tensors):
            made = _on_values(func, maps[0].values, args, kwargs)
            if made is not None and (made.is_floating_point() or not maps[0].interpolated):
                return type(maps[0])(made, axes)
        inner, named = tree_map_only(GradientMap, lambda m: m.padded(), (args, kwargs))
        made = func(*inner, **named)
        first = args[0] if args else None
        if isinstance(first, GradientMap) and made is inner[0]:  # pixels were written into it
            rows, columns = (AxisWindows(axis.size, axis.size) for axis in first.axes)
            first.values, first.axes = made, (rows, columns)
            return first
        return made


def _is_small(t: Tensor) -> bool:
    """True for a tensor without pixels, such as a value per channel."""
    return t.ndim < 3 or _has_size(t, (1, 1))


def _has_size(t: Tensor, size: Sequence[int]) -> bool:
    """True if a tensor is known to have this height and width; no program depends on the answer."""
    found = t.shape[-2:]
    return len(found) == 2 and all(
        statically_known_true(n == wanted) for n, wanted in zip(found, size, strict=True)
    )


def _on_values(func: Any, values: Tensor, args: Any, kwargs: Any) -> Tensor | None:
    """The function of the values; None if it may compute a pixel from others."""
    inner, named = tree_map_only(GradientMap, lambda m: m.values, (args, kwargs))
    check = _PixelByPixel(values.shape[-2:])
    try:
        with check:
            made = func(*inner, **named)
    except _MixesError:
        return None
    return made if isinstance(made, Tensor) and _has_size(made, values.shape[-2:]) else None


class _MixesError(Exception):
    """An operation mixes the pixels of a map."""


class _PixelByPixel(TorchDispatchMode):
    """Stops at an operation that may compute a pixel from others."""

    def __init__(self, size: torch.Size) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.size = size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        fits = all(_has_size(t, self.size) or is_flat(t) for t in tensors)
        allowed = (
            (is_pointwise(func) and fits)
            or func.namespace == "prim"  # asks for the device or the layout
            or func.overloadpacket in (aten.to, aten._to_copy, aten.detach, aten.clone)
            or (func is aten.conv2d.default and is_one_pixel(*args[1:5]))
            or (func is aten.convolution.default and not args[6] and is_one_pixel(*args[1:5]))
        )
        if not allowed:
            raise _MixesError
        return func(*args, **(kwargs or {}))

"""Compares a local module with its original on random inputs.

Both laws are checked in float64: where the window covers the map, the two must agree (equality);
where it does not, each pixel must be that of the original on its window (law of windows).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only, tree_unflatten

from glocal.conversion.rewrite.capture_errors import reason_of
from glocal.errors import GlocalError
from glocal.ops.windows import Size, start_of
from glocal.scanning.copying import own_tensors
from glocal.scanning.modules import clone, drop_hooks
from glocal.scanning.trace import Spec

__all__ = ["SINGLE_TOLERANCE", "TOLERANCE", "disagreement", "disagreement_on_windows"]

_COVERS_ALL = (1 << 30, 1 << 30)
TOLERANCE = 1e-8
"""Relative; float64 rounding of a block stays far below."""
SINGLE_TOLERANCE = 1e-4
"""For blocks that compute in single precision themselves."""
_ROUNDING = 1e-12  # of inputs of the size of 1, where a result is zero up to rounding


def disagreement(
    build: Callable[[nn.Module, Size], nn.Module],
    module: nn.Module,
    inputs: Sequence[tuple[Any, Any]],
    feature: Size,
    sizes: int = 1,
    tolerance: float = TOLERANCE,
) -> str | None:
    """Say how a replacement differs from a module under a window that covers the map.

    Original and replacement run in their mode, in float64 with random parameters on random inputs
    of the shapes that the module was called with. The map is shrunk to a few pixels where the
    module allows it.

    Args:
        build: makes the replacement from the module and a window.
        module: the original, which is not changed.
        inputs: (args, kwargs) of the module in the three runs of a scan, with `Spec`s for tensors.
        feature: (height, width) of the map at the training size.
        sizes: number of map sizes to compare; two sizes show a size that became a constant.
        tolerance: relative.

    Returns:
        None if they agree.
    """
    original = _randomised(module)
    problem, agreed = None, 0
    small = (min(feature[0], 16), min(feature[1], 24))
    turned = (min(feature[0], 24), min(feature[1], 16))
    higher = (2 * feature[0], feature[1])
    for size in dict.fromkeys([small, turned, feature, higher]):
        given = _random_inputs(inputs, feature, size, batch=sizes)
        before = own_tensors(original)  # a module may write to its own tensors
        try:
            wanted = _effects(original, given)
        except Exception as error:  # the module does not take maps this small
            problem = f"alone, {reason_of(error)}"
            continue
        try:
            got = _effects(build(before, _COVERS_ALL), given)
        except GlocalError:
            raise
        except Exception as error:
            return f"its local form does not run: {reason_of(error)}"
        difference = _difference(wanted, got, tolerance)
        agreed += 1
        if difference or agreed == sizes:
            return difference
    return problem


def disagreement_on_windows(
    build: Callable[[nn.Module, Size], nn.Module],
    module: nn.Module,
    inputs: Sequence[tuple[Any, Any]],
    feature: Size,
    tolerance: float = TOLERANCE,
) -> str | None:
    """Say how pixels of a replacement differ from the module on their windows.

    For modules that take and return maps (b, c, h, w) of one size and mix pixels by statistics of
    their inputs alone.

    Args:
        build, module, inputs, feature, tolerance: as in `disagreement`.

    Returns:
        None if they agree, or if the module cannot be compared at the small size that is used.
    """
    size, window = (9, 10), (4, 5)
    original = _randomised(module)
    local = build(own_tensors(original), window)
    args, kwargs = _random_inputs(inputs, feature, size, batch=2)
    shapes = [tuple(t.shape[-2:]) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    if any(shape != size for shape in shapes):
        return None
    with torch.no_grad():
        try:
            got = tree_leaves(local(*_copied(args), **_copied(kwargs)))
        except GlocalError:
            raise
        except Exception as error:
            return f"its local form does not run: {reason_of(error)}"
        for i, j in ((0, 0), (4, 4), (3, 9), (8, 2)):
            top, left = (start_of(p, k, n) for p, k, n in zip((i, j), window, size, strict=True))

            def crop(t: Tensor, top: int = top, left: int = left) -> Tensor:
                return t[..., top : top + window[0], left : left + window[1]].clone()

            cropped = tree_map_only(Tensor, crop, (args, kwargs))
            try:
                wanted = tree_leaves(original(*cropped[0], **cropped[1]))
            except Exception:
                return None
            for a, b in zip(wanted, got, strict=True):
                if tuple(b.shape[-2:]) != size or tuple(a.shape[-2:]) != window:
                    return None
                difference = _unequal([a[..., i - top, j - left]], [b[..., i, j]], tolerance)
                if difference:
                    return f"{difference} where the window is smaller than the map"
    return None


class _Effects(NamedTuple):
    """What a call of a module did.

    Attributes:
        results: the leaves of its result.
        arguments: the leaves of its arguments after the call.
        buffers: the buffers of the module after the call.
        aliases: for each tensor among the results, the arguments that share memory with it.
    """

    results: list[Any]
    arguments: list[Any]
    buffers: list[Any]
    aliases: list[list[int]]


def _effects(module: nn.Module, given: Any) -> _Effects:
    args, kwargs = _copied(given)
    with torch.no_grad():
        results = tree_leaves(module(*args, **kwargs))
    arguments = tree_leaves((args, kwargs))
    aliases = [
        [n for n, a in enumerate(arguments) if isinstance(a, Tensor) and _share_memory(a, b)]
        for b in results
        if isinstance(b, Tensor)
    ]
    running = {  # statistics that a norm stores in training mode, and its local form does not
        id(buffer)
        for part in module.modules()
        if isinstance(part, nn.modules.instancenorm._InstanceNorm)
        for buffer in part.buffers(recurse=False)
    }
    buffers = [buffer for buffer in module.buffers() if id(buffer) not in running]
    return _Effects(results, arguments, buffers, aliases)


def _share_memory(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def _copied(values: Any) -> Any:
    """Copy the tensors, for a module that writes to its arguments."""
    return tree_map_only(Tensor, torch.clone, values)


def _difference(wanted: _Effects, got: _Effects, tolerance: float) -> str | None:
    if problem := _unequal(wanted.results, got.results, tolerance):
        return problem
    if _unequal(wanted.arguments, got.arguments, tolerance):
        return "it writes to its argument in place, and its local form does not"
    if _unequal(wanted.buffers, got.buffers, tolerance):
        return "it writes to its own buffers, and its local form does not"
    if wanted.aliases != got.aliases:
        return "its result shares memory with its argument, and that of its local form does not"
    return None


def _unequal(wanted: list[Any], got: list[Any], tolerance: float) -> str | None:
    if len(wanted) != len(got):
        return "its local form returns another number of values"
    for a, b in zip(wanted, got, strict=True):
        if not isinstance(a, Tensor):
            if isinstance(a, (int, float, str)) and (type(a) is not type(b) or a != b):
                return "its local form returns another value"
            continue
        if not isinstance(b, Tensor) or a.shape != b.shape:
            return "its local form returns another shape"
        if a.dtype != b.dtype:
            return f"its local form returns {b.dtype} instead of {a.dtype}"
        largest = float(a.abs().max()) if a.numel() else 0.0
        if not torch.allclose(a, b, rtol=tolerance, atol=tolerance * largest + _ROUNDING):
            return "its local form computes other values"
    return None


def _randomised(module: nn.Module) -> nn.Module:
    """Copy a module in float64 with random parameters.

    Its own weights may be zero, which would hide a difference, or be on the meta device.
    """
    alone = own_tensors(drop_hooks(clone(module)))
    if any(t.is_meta for t in (*alone.parameters(), *alone.buffers())):
        alone.to_empty(device="cpu")
        for buffer in alone.buffers():
            buffer.data = torch.ones_like(buffer)
    alone = alone.cpu().double()
    generator = torch.Generator().manual_seed(0)
    for parameter in alone.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if parameter.ndim > 1:
            parameter.data = noise / max(1, parameter[0].numel()) ** 0.5
        else:
            parameter.data = 1 + 0.1 * noise
    return alone


def _random_inputs(inputs: Sequence[tuple[Any, Any]], feature: Size, size: Size, batch: int) -> Any:
    """Return random (args, kwargs) of the first run, scaled from `feature` to `size`."""
    generator = torch.Generator().manual_seed(1)

    def scale(sizes: Sequence[int]) -> int:
        first, higher, wider = sizes
        n = first
        if higher != first:
            n = max(1, n * size[0] // feature[0])
        if wider != first:
            n = max(1, n * size[1] // feature[1])
        return n

    made: list[Any] = []
    flat = [tree_flatten(run) for run in inputs]
    for leaves in zip(*(leaves for leaves, _ in flat), strict=True):
        first = leaves[0]
        if isinstance(first, Spec):
            shape = [scale(sizes) for sizes in zip(*(leaf.shape for leaf in leaves), strict=True)]
            if shape and first.shape[0] == 1:
                shape[0] = batch
            values = torch.randn(shape, generator=generator, dtype=torch.float64)
            made.append(values if first.dtype.is_floating_point else values.to(first.dtype))
        else:
            is_int = isinstance(first, int) and not isinstance(first, bool)
            made.append(scale(leaves) if is_int else first)
    return tree_unflatten(made, flat[0][1])

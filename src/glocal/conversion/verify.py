"""Compare a local module with its original where its window covers the map: they must agree."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only, tree_unflatten

from glocal.errors import GlocalError
from glocal.ops.windows import Size, start_of
from glocal.scanning.modules import clone, drop_hooks
from glocal.scanning.trace import Spec

__all__ = ["breaks_law_of_windows", "disagreement"]

_EVERYTHING = (1 << 30, 1 << 30)
_TOLERANCE = 1e-8  # relative, in float64


def disagreement(
    build: Callable[[nn.Module, Size], nn.Module],
    module: nn.Module,
    inputs: Sequence[tuple[Any, Any]],
    feature: Size,
    sizes: int = 1,
) -> str | None:
    """Why a replacement of a module is not the module's local form; None if it may be.

    Original and replacement run in float64, with random parameters, on random inputs of the
    shapes that the module was called with. The map is shrunk to a few pixels where the module
    allows it.

    Args:
        build: the replacement, from the module and a window.
        module: the original, which stays as it is.
        inputs: (args, kwargs) of the module in the three runs of a scan, tensors as `Spec`s.
        feature: (height, width) of the map at the training size.
        sizes: of how many maps the two must agree, so that no size is frozen in the replacement.
    """
    original = _as_float64(module)
    problem, agreed = None, 0
    small = (min(feature[0], 16), min(feature[1], 24))
    turned = (min(feature[0], 24), min(feature[1], 16))
    higher = (2 * feature[0], feature[1])
    for size in dict.fromkeys([small, turned, feature, higher]):
        args, kwargs = _random_inputs(inputs, feature, size, batch=sizes)
        try:
            with torch.no_grad():
                wanted = tree_leaves(original(*_copied(args), **_copied(kwargs)))
        except Exception as error:  # the module does not take maps this small
            problem = f"the module does not run alone: {error}"
            continue
        try:
            replacement = build(copy.deepcopy(original), _EVERYTHING)
            with torch.no_grad():
                got = tree_leaves(replacement(*args, **kwargs))
        except GlocalError:
            raise
        except Exception as error:
            return f"its local form fails: {' '.join(str(error).split())[:120]}"
        difference = _difference(wanted, got)
        agreed += 1
        if difference or agreed == sizes:
            return difference
    return problem


def breaks_law_of_windows(
    build: Callable[[nn.Module, Size], nn.Module],
    module: nn.Module,
    inputs: Sequence[tuple[Any, Any]],
    feature: Size,
) -> str | None:
    """Whether a local module is not, pixel by pixel, its original on the window of the pixel.

    For modules that map maps (b, c, h, w) to such maps, and mix pixels by statistics of their
    inputs alone. Where the module takes no small maps, nothing can be said, and nothing is.

    Args:
        build, module, inputs, feature: as in `disagreement`.
    """
    size, window = (9, 10), (4, 5)
    original = _as_float64(module)
    local = build(copy.deepcopy(original), window)
    args, kwargs = _random_inputs(inputs, feature, size, batch=2)
    shapes = [tuple(t.shape[-2:]) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    if any(shape != size for shape in shapes):
        return None
    with torch.no_grad():
        got = tree_leaves(local(*_copied(args), **_copied(kwargs)))
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
                difference = _difference([a[..., i - top, j - left]], [b[..., i, j]])
                if difference:
                    return f"{difference} where its window is smaller than the map"
    return None


def _copied(values: Any) -> Any:
    """Copies of the tensors, for a module that writes into what it is given."""
    return tree_map_only(Tensor, torch.clone, values)


def _difference(wanted: list[Any], got: list[Any]) -> str | None:
    if len(wanted) != len(got):
        return "its local form returns something else"
    for a, b in zip(wanted, got, strict=True):
        if not isinstance(a, Tensor):
            continue
        if not isinstance(b, Tensor) or a.shape != b.shape:
            return "its local form returns another shape"
        if not torch.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE * float(a.abs().max())):
            return "its local form computes something else"
    return None


def _as_float64(module: nn.Module) -> nn.Module:
    """A copy with random parameters: the weights at hand may be zero, or not be there yet."""
    alone = copy.deepcopy(drop_hooks(clone(module)))
    if any(t.is_meta for t in (*alone.parameters(), *alone.buffers())):
        alone.to_empty(device="cpu")
        for buffer in alone.buffers():
            buffer.data = torch.ones_like(buffer)
    alone = alone.cpu().double().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in alone.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if parameter.ndim > 1:
            parameter.data = noise / max(1, parameter[0].numel()) ** 0.5
        else:
            parameter.data = 1 + 0.1 * noise
    return alone


def _random_inputs(inputs: Sequence[tuple[Any, Any]], feature: Size, size: Size, batch: int) -> Any:
    """The first run's inputs with random values, scaled from the `feature` map to `size`."""
    generator = torch.Generator().manual_seed(1)

    def scale(sizes: Sequence[int]) -> int:
        n, tall, wide = sizes
        if tall != n:
            n = max(1, n * size[0] // feature[0])
        if wide != sizes[0]:
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
            number = isinstance(first, int) and not isinstance(first, bool)
            made.append(scale(leaves) if number else first)
    return tree_unflatten(made, flat[0][1])

"""Decompose composite functions during capture that would hide a size of the map.

Longer than 300 lines: one short function for each function that it replaces.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from glocal.conversion.rewrite import contractions
from glocal.conversion.rewrite.contractions import CONTRACTIONS

__all__ = ["Decompositions"]


class Decompositions(TorchFunctionMode):
    """Replaces functions by simpler ones that compute the same.

    - A pool whose kernel is the whole map becomes a mean or a maximum: a captured graph holds
      kernel sizes as constants, so it would be valid for one size only.
    - A product that sums over pixels becomes the sum of an elementwise product (`contractions`).
    - `std_mean`, `var_mean` and `aminmax` become two reductions.
    - A batch norm of one image whose channels hold a batch becomes the instance norm that it
      computes. Running statistics that it would update must not be buffers.

    Args:
        block: whose code runs.
    """

    def __init__(self, block: nn.Module | None = None) -> None:
        super().__init__()
        self._buffers = {id(b) for b in block.buffers()} if block is not None else set[int]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        decompose = _DECOMPOSITIONS.get(func)
        if func is F.batch_norm and any(id(a) in self._buffers for a in (*args, *kwargs.values())):
            decompose = None
        if decompose is not None:
            result = decompose(*args, **kwargs)  # None: func is not of the form it replaces
            if result is not None:
                return result
        return func(*args, **kwargs)


def _avg_pool(input: Tensor, kernel_size: Any, *args: Any, **kwargs: Any) -> Tensor | None:
    dims = _whole_dims(kernel_size, input)
    if len(dims) == 1 and not _is_plain(kernel_size, *args, **kwargs):
        return None
    return input.mean(dims, keepdim=True) if dims else None


def _adaptive_avg_pool(input: Tensor, output_size: Any) -> Tensor | None:
    dims = _dims_to_one(output_size, input)
    return input.mean(dims, keepdim=True) if dims else None


def _adaptive_max_pool(
    input: Tensor, output_size: Any, return_indices: bool = False
) -> Tensor | None:
    dims = _dims_to_one(output_size, input)
    return input.amax(dims, keepdim=True) if dims and not return_indices else None


def _max_pool(input: Tensor, kernel_size: Any, *args: Any, **kwargs: Any) -> Tensor | None:
    dims = _whole_dims(kernel_size, input)
    if kwargs.get("return_indices") or not dims:
        return None
    if len(dims) == 1 and not _is_plain(kernel_size, *args, **kwargs):
        return None
    return input.amax(dims, keepdim=True)


def _adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor | None:
    dims = _dims_to_one_of_three(output_size, input)
    return input.mean(dims, keepdim=True) if dims else None


def _adaptive_max_pool3d(
    input: Tensor, output_size: Any, return_indices: bool = False
) -> Tensor | None:
    dims = _dims_to_one_of_three(output_size, input)
    return input.amax(dims, keepdim=True) if dims and not return_indices else None


def _avg_pool3d(input: Tensor, kernel_size: Any, *_: Any, **__: Any) -> Tensor | None:
    whole = _is_whole_of_three(kernel_size, input)
    return input.mean((-3, -2, -1), keepdim=True) if whole else None


def _max_pool3d(input: Tensor, kernel_size: Any, *_: Any, **kwargs: Any) -> Tensor | None:
    if kwargs.get("return_indices") or not _is_whole_of_three(kernel_size, input):
        return None
    return input.amax((-3, -2, -1), keepdim=True)


def _lp_pool(
    input: Tensor, norm_type: float, kernel_size: Any, *_: Any, **__: Any
) -> Tensor | None:
    if not _is_whole(kernel_size, input):
        return None
    return input.pow(norm_type).sum((-2, -1), keepdim=True).pow(1 / norm_type)


def _is_whole(kernel: Any, x: Tensor) -> bool:
    """True if the kernel is the size of the map."""
    return _whole_dims(kernel, x) == (-2, -1)


def _whole_dims(kernel: Any, x: Tensor) -> tuple[int, ...]:
    """Return the dims that a kernel covers if it has size 1 along the others."""
    if not isinstance(kernel, (list, tuple)) or len(kernel) != 2:
        return ()
    whole = tuple(d for k, d in zip(kernel, (-2, -1), strict=True) if _is_same_size(k, x.shape[d]))
    others = [k for k, d in zip(kernel, (-2, -1), strict=True) if d not in whole]
    return whole if all(isinstance(k, int) and k == 1 for k in others) else ()


def _is_same_size(a: Any, b: Any) -> bool:
    """True if two sizes are the same expression.

    Comparing values would add a guard to the capture.
    """
    sizes = isinstance(a, torch.SymInt) and isinstance(b, torch.SymInt)
    return sizes and a.node.expr == b.node.expr


def _is_plain(
    kernel: Any, stride: Any = None, padding: Any = 0, *more: Any, **options: Any
) -> bool:
    """True if a pool along one axis has windows side by side and no padding."""
    steps = [stride] if stride is None or isinstance(stride, int) else list(stride)
    return (
        not more
        and padding in (0, (0, 0), [0, 0])
        and set(steps) <= {None, 1} | {n for n in kernel if isinstance(n, int)}
        and not options.get("ceil_mode")
    )


def _dims_to_one(output: Any, x: Tensor) -> tuple[int, ...]:
    """Return the axis that an adaptive pool reduces to 1 while it keeps the other.

    Where it reduces both, torch's own pool says so.
    """
    if not isinstance(output, (list, tuple)) or len(output) != 2:
        return ()
    reduced = tuple(d for n, d in zip(output, (-2, -1), strict=True) if _is_one(n))
    kept = [
        n is None or _is_same_size(n, x.shape[d])
        for n, d in zip(output, (-2, -1), strict=True)
        if d not in reduced
    ]
    return reduced if len(reduced) == 1 and all(kept) else ()


def _dims_to_one_of_three(output: Any, x: Tensor) -> tuple[int, ...]:
    """Return the dims that a 3-D adaptive pool reduces to 1, keeping the others."""
    sizes = [output] * 3 if isinstance(output, int) else list(output)
    kept = [
        n is None or _is_same_size(n, x.shape[d])
        for n, d in zip(sizes, (-3, -2, -1), strict=True)
        if not _is_one(n)
    ]
    return tuple(d for n, d in zip(sizes, (-3, -2, -1), strict=True) if _is_one(n) and all(kept))


def _is_whole_of_three(kernel: Any, x: Tensor) -> bool:
    """True if a 3-D kernel covers a map and its depth."""
    if not isinstance(kernel, (list, tuple)) or len(kernel) != 3:
        return False
    depth = x.shape[-3]
    return _is_whole(kernel[1:], x) and (
        _is_same_size(kernel[0], depth)
        or (isinstance(kernel[0], int) and isinstance(depth, int) and kernel[0] == depth)
    )


def _is_one(size: Any) -> bool:
    return isinstance(size, int) and size == 1


def _matmul(a: Any, b: Any, *_: Any, **__: Any) -> Tensor | None:
    """Write a product of one column and one row, which sums nothing, as broadcasting."""
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return None
    made = contractions.matmul(a, b)
    if made is None and a.ndim == b.ndim > 2 and _is_one(a.shape[-1]) and _is_one(b.shape[-2]):
        return a * b
    return made


def _adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor | None:
    rank = _pooled_dims(output_size)
    return input.mean(rank, keepdim=True) if rank else None


def _adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    rank = _pooled_dims(output_size)
    return input.amax(rank, keepdim=True) if rank and not return_indices else None


def _pooled_dims(output_size: Any) -> tuple[int, ...]:
    """Return the dims that a pool of one dim reduces to 1; none if it keeps more."""
    return (-1,) if output_size in (1, (1,), [1]) else ()


def _avg_pool1d(input: Tensor, kernel_size: Any, *_: Any, **__: Any) -> Tensor | None:
    kernel = kernel_size if isinstance(kernel_size, (list, tuple)) else [kernel_size]
    whole = len(kernel) == 1 and _is_same_size(kernel[0], input.shape[-1])
    return input.mean(-1, keepdim=True) if whole else None


def _std_mean(input: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    return input.std(*args, **kwargs), _mean_beside(input, *args, **kwargs)


def _var_mean(input: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    return input.var(*args, **kwargs), _mean_beside(input, *args, **kwargs)


def _mean_beside(
    input: Tensor,
    dim: Any = None,
    unbiased: Any = None,
    keepdim: bool = False,
    *,
    correction: Any = None,
    axis: Any = None,
) -> Tensor:
    """Return the mean that `std_mean` returns for the same arguments."""
    dim = axis if dim is None else dim
    if dim is None or isinstance(dim, bool):  # std_mean(x, unbiased)
        dim = list(range(input.ndim))
    return input.mean(dim, keepdim=keepdim)


def _linalg_norm(
    A: Tensor,
    ord: Any = None,
    dim: Any = None,
    keepdim: bool = False,
    **kwargs: Any,
) -> Tensor | None:
    """Return the root of the sum of squares that a norm of two dims is by default."""
    if kwargs or not (ord in (None, "fro") or (isinstance(dim, int) and ord == 2)):
        return None
    made: Tensor = torch.linalg.vector_norm(A, 2, dim, keepdim)
    return made


def _aminmax(input: Tensor, *, dim: Any = None, keepdim: bool = False) -> Any:
    dims = list(range(input.ndim)) if dim is None else dim
    pair = [f(dims, keepdim=keepdim) for f in (input.amin, input.amax)]
    return torch.return_types.aminmax(tuple(pair))  # type: ignore[arg-type]


def _broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    given = tensors[0] if isinstance(tensors[0], (list, tuple)) else tensors
    shape = torch.broadcast_shapes(*(t.shape for t in given))
    return tuple(t.expand(shape) for t in given)


def _cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    norms = [x.norm(dim=dim).clamp_min(eps) for x in (x1, x2)]
    similarity: Tensor = (x1 * x2).sum(dim) / (norms[0] * norms[1])
    return similarity


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if not training or input.ndim != 4:
        return None
    if any(
        isinstance(t, Tensor) and isinstance(t.shape[0], int) for t in (running_mean, running_var)
    ):
        return None  # buffers; those that are repeated for the batch are lost after the call
    if not isinstance(input.shape[0], int) or input.shape[0] != 1:
        return None
    x = input.squeeze(0)
    variance, mean = torch.var_mean(x, (-2, -1), correction=0, keepdim=True)
    x = (x - mean) / (variance + eps).sqrt()
    if weight is not None:
        x = x * weight.view(-1, 1, 1)
    if bias is not None:
        x = x + bias.view(-1, 1, 1)
    return x.unsqueeze(0)


_DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    F.avg_pool2d: _avg_pool,
    F.adaptive_avg_pool2d: _adaptive_avg_pool,
    F.adaptive_max_pool2d: _adaptive_max_pool,
    F.adaptive_avg_pool3d: _adaptive_avg_pool3d,
    F.adaptive_max_pool3d: _adaptive_max_pool3d,
    F.avg_pool3d: _avg_pool3d,
    F.max_pool3d: _max_pool3d,
    torch.max_pool3d: _max_pool3d,
    F.max_pool2d: _max_pool,
    torch.max_pool2d: _max_pool,
    F.lp_pool2d: _lp_pool,
    **CONTRACTIONS,
    **dict.fromkeys(
        (torch.matmul, torch.bmm, Tensor.matmul, Tensor.bmm, Tensor.__matmul__), _matmul
    ),
    F.avg_pool1d: _avg_pool1d,
    torch.avg_pool1d: _avg_pool1d,
    F.adaptive_avg_pool1d: _adaptive_avg_pool1d,
    torch.adaptive_avg_pool1d: _adaptive_avg_pool1d,
    F.adaptive_max_pool1d: _adaptive_max_pool1d,
    torch.std_mean: _std_mean,
    torch.var_mean: _var_mean,
    torch.linalg.norm: _linalg_norm,
    torch.aminmax: _aminmax,
    Tensor.aminmax: _aminmax,
    torch.broadcast_tensors: _broadcast_tensors,
    torch.functional.broadcast_tensors: _broadcast_tensors,
    torch.cosine_similarity: _cosine_similarity,
    F.batch_norm: _batch_norm,
}

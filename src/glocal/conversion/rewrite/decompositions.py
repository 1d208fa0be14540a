"""Decomposes composite functions during capture that would hide a size of the map."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from glocal.conversion.rewrite.contractions import CONTRACTIONS

__all__ = ["Decompositions"]


class Decompositions(TorchFunctionMode):
    """Replaces functions by simpler ones that compute the same.

    - A pool whose kernel is the whole map becomes a mean or a maximum: a captured graph holds
      kernel sizes as constants, so it would be valid for one size only.
    - A product that sums over pixels becomes the sum of an elementwise product (`contractions`).
    - `std_mean`, `var_mean` and `aminmax` become two reductions.
    - A batch norm of one image whose channels hold a batch becomes the instance norm that it
      computes.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        decompose = _DECOMPOSITIONS.get(func)
        if decompose is not None:
            result = decompose(*args, **kwargs)  # None: func is not of the form it replaces
            if result is not None:
                return result
        return func(*args, **kwargs)


def _avg_pool(input: Tensor, kernel_size: Any, *_: Any, **__: Any) -> Tensor | None:
    return input.mean((-2, -1), keepdim=True) if _is_whole(kernel_size, input) else None


def _max_pool(input: Tensor, kernel_size: Any, *_: Any, **kwargs: Any) -> Tensor | None:
    if kwargs.get("return_indices") or not _is_whole(kernel_size, input):
        return None
    return input.amax((-2, -1), keepdim=True)


def _lp_pool(
    input: Tensor, norm_type: float, kernel_size: Any, *_: Any, **__: Any
) -> Tensor | None:
    if not _is_whole(kernel_size, input):
        return None
    return input.pow(norm_type).sum((-2, -1), keepdim=True).pow(1 / norm_type)


def _is_whole(kernel: Any, x: Tensor, rank: int = 2) -> bool:
    """True if the kernel is the size of the map.

    Compares symbolic expressions: comparing their values would add a guard to the capture.
    """
    if not isinstance(kernel, (list, tuple)) or len(kernel) != rank:
        return False
    return all(
        isinstance(k, torch.SymInt) and isinstance(n, torch.SymInt) and k.node.expr == n.node.expr
        for k, n in zip(kernel, x.shape[-rank:], strict=True)
    )


def _adaptive_avg_pool(input: Tensor, output_size: Any) -> Tensor | None:
    rank = _pooled_dims(output_size)
    return input.mean(rank, keepdim=True) if rank else None


def _adaptive_max_pool(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    rank = _pooled_dims(output_size)
    return input.amax(rank, keepdim=True) if rank and not return_indices else None


def _pooled_dims(output_size: Any) -> tuple[int, ...]:
    """Return the dims that a pool of one dim reduces to 1; none if it keeps more."""
    return (-1,) if output_size in (1, (1,), [1]) else ()


def _avg_pool_1d(input: Tensor, kernel_size: Any, *_: Any, **__: Any) -> Tensor | None:
    kernel = kernel_size if isinstance(kernel_size, (list, tuple)) else [kernel_size]
    return input.mean(-1, keepdim=True) if _is_whole(kernel, input, 1) else None


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
    if not training or running_mean is not None or input.ndim != 4:
        return None
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
    F.max_pool2d: _max_pool,
    torch.max_pool2d: _max_pool,
    F.lp_pool2d: _lp_pool,
    F.avg_pool1d: _avg_pool_1d,
    torch.avg_pool1d: _avg_pool_1d,
    F.adaptive_avg_pool1d: _adaptive_avg_pool,
    torch.adaptive_avg_pool1d: _adaptive_avg_pool,
    F.adaptive_max_pool1d: _adaptive_max_pool,
    torch.std_mean: _std_mean,
    torch.var_mean: _var_mean,
    torch.linalg.norm: _linalg_norm,
    torch.aminmax: _aminmax,
    Tensor.aminmax: _aminmax,
    **CONTRACTIONS,
    torch.cosine_similarity: _cosine_similarity,
    F.batch_norm: _batch_norm,
}

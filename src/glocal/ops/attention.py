"""Transposed attention on overlapping windows."""

import torch
import torch.nn.functional as F
from torch import Tensor

from glocal.errors import ArgumentError
from glocal.ops import exported, operators
from glocal.ops.attention_by_cells import channel_attention
from glocal.ops.crops import mixed
from glocal.ops.kernels import attention as kernel
from glocal.ops.kernels.plain import is_transformed, wants_gradient
from glocal.ops.numerics import sum_dtype
from glocal.ops.programs import is_compiling, is_exporting, keeps_operators
from glocal.ops.windows import Crops, Window

__all__ = ["local_channel_attention"]


def local_channel_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    temperature: Tensor | float,
    window: Window,
    eps: float = 1e-12,
) -> Tensor:
    """Transposed (channel by channel) attention on overlapping windows, averaged.

    In each window, q and k are L2-normalised over its pixels, attention is
    softmax(q kᵀ · temperature) over the channels of k, and the output is attention · v.
    Source: Restormer (arXiv 2111.09881), equation 1, localised as in TLC (arXiv 2112.04491),
    section 4.

    >>> maps = [torch.rand(1, 2, 3, 8, 9) for _ in "qkv"]  # 2 heads of 3 channels
    >>> local_channel_attention(*maps, temperature=1.0, window=(4, 4)).shape
    torch.Size([1, 2, 3, 8, 9])

    Args:
        q, k: (b, heads, c, h, w), floating point.
        v: (b, heads, c, h, w), floating point.
        temperature: a number or a tensor that broadcasts to (heads, 1, 1).
        window: (height, width) in pixels of the map, or `CROPS`.
        eps: least norm, as in `torch.nn.functional.normalize`.

    Returns:
        (b, heads, c, h, w) in the dtype of `v`.

    Raises:
        ArgumentError: q, k and v differ in shape.
    """
    temperature = torch.as_tensor(temperature, device=q.device).expand(q.shape[1], 1, 1)
    if isinstance(window, Crops):
        return mixed(v, lambda: _attention(q, k, temperature, eps))
    compiling = is_compiling() or keeps_operators()
    if is_exporting() and not compiling:
        return exported.channel_attention(q, k, v, temperature, window, eps)
    if not compiling and not q.shape == k.shape == v.shape:
        raise ArgumentError(
            "q, k and v must have one shape (b, heads, c, h, w), got "
            f"{', '.join(str(tuple(t.shape)) for t in (q, k, v))}"
        )
    if compiling or _by_operator(q, k, v, temperature):
        made: Tensor = operators.channel_attention(q, k, v, temperature, window, eps)
        return made
    return channel_attention(q, k, v, temperature, window, eps)


def _by_operator(*inputs: Tensor) -> bool:
    """True if a gradient is wanted and C++ computes the products."""
    return (
        any(wants_gradient(t) for t in inputs)
        and not any(is_transformed(t) for t in inputs)
        and kernel.takes(*(t.detach() for t in inputs[:3]))
    )


def _attention(q: Tensor, k: Tensor, temperature: Tensor, eps: float) -> Tensor:
    """The attention matrices of whole maps, (b, heads, c, c)."""
    dtype = sum_dtype(q)
    q, k = (F.normalize(t.to(dtype).flatten(-2), dim=-1, eps=eps) for t in (q, k))
    return (q @ k.mT * temperature).softmax(-1)

"""The window primitives as operators of `torch.library`.

An operator has an implementation (C++ on a CPU where it is built, torch elsewhere), a fake
implementation that gives the shape of the result, a derivative made of these operators again, and
a decomposition into torch's own operators (`decompositions`). Results are full maps, in which no
shape depends on whether a window covers an axis: a branch on that would make `torch.compile`
compile anew for each outcome, and its fusion of the sums of doubling length would read every pixel
many times over.

`torch.compile` gets these operators, and so does eager mode where a gradient is wanted and C++
computes the values. Three things are not operators, each for a reason:

- Eager inference calls the functions below the operators. An operator costs 15 to 40 µs a call on
  a CPU; a whole gate of NAFNet takes about 140 µs. And its values stay one per window there
  (`window_map`), whose number an operator would have to compute from symbolic sizes.
- The gate, pixels × window values, exists in eager inference only. A compiler fuses the
  multiplication by a full map with its neighbours, which an operator would prevent.
- Exporters record the decompositions directly (`exported`): `torch.export` keeps an operator in
  its program, which then needs glocal where it is loaded, and neither `torch.jit.trace` nor the
  ONNX exporter decomposes an operator that has an implementation.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from glocal.ops import exported
from glocal.ops.operators.attention import channel_attention
from glocal.ops.operators.statistics import (
    affine,
    instance_norm,
    window_maxima,
    window_moments,
    window_sums,
)

__all__ = [
    "channel_attention",
    "decompositions",
    "instance_norm",
    "window_maxima",
    "window_moments",
    "window_sums",
]


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Each forward operator in torch's own operators, without a branch on sizes.

    For a program of `torch.export` that holds them:
    ``program.run_decompositions(decompositions())``.
    """

    def norm(
        x: Tensor, window: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        mean, variance = exported.window_moments(x, window, x.shape[1])
        return affine((x - mean) * (variance + eps).rsqrt(), weight, bias).to(x.dtype)

    namespace = torch.ops.glocal
    return {
        namespace.window_sums.default: exported.window_sums,
        namespace.window_maxima.default: exported.window_maxima,
        namespace.window_moments.default: exported.window_moments,
        namespace.instance_norm.default: norm,
        namespace.channel_attention.default: exported.channel_attention,
    }

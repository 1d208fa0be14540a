"""The window primitives as operators of `torch.library`.

An operator has an implementation (C++ on a CPU where it is built, torch elsewhere), a fake
implementation that gives the shape of the result, a derivative made of these operators again, and
a decomposition into torch's own operators (`decompositions`). Results are full maps, in which no
shape depends on whether a window covers an axis: a branch on that would make `torch.compile`
compile anew for each outcome. And a compiler fuses the sums of doubling length into one loop that
reads every pixel many times.

`torch.compile` gets these operators, and so does eager mode where a gradient is wanted and C++
computes the values. Four things are not operators, each for a reason:

- Eager inference calls the functions below the operators. An operator adds 15 µs to a call in
  inference mode and 40 µs with `no_grad`, and all of torch's dispatch in a gate of NAFNet takes
  140 µs. Its values stay one per window there (`window_map`); their number is a symbol for an
  operator, which compilers would branch on.
- The gate, pixels × window values, exists in eager inference only. A compiler fuses the
  multiplication by a full map with its neighbours, which an operator would prevent.
- Exporters record the decompositions directly (`exported`). `torch.export` and `torch.jit.trace`
  keep an operator in their program, which then needs glocal where it is loaded, and the ONNX
  exporter refuses it (torch 2.13).
- Forward-mode derivatives and transforms of `torch.func` run torch's own operations: an operator
  has a derivative for `backward` only.
"""

from collections.abc import Callable
from typing import Any

import torch

from glocal.ops import exported
from glocal.ops.operators.attention import channel_attention
from glocal.ops.operators.statistics import (
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

    namespace = torch.ops.glocal
    return {
        namespace.window_sums.default: exported.window_sums,
        namespace.window_maxima.default: exported.window_maxima,
        namespace.window_moments.default: exported.window_moments,
        namespace.instance_norm.default: exported.instance_norm,
        namespace.channel_attention.default: exported.channel_attention,
    }

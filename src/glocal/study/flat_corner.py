"""A flat, dark corner with slight noise, where local statistics may be extreme.

Whether a photograph has such a part is chance, and what a check finds on one is kept for others.
"""

import torch
from torch import Tensor

from glocal.ops.windows import Size

__all__ = ["with_flat_corner"]

LEVEL, NOISE = 10 / 255, 0.6 / 255
"""Brightness and deviation of the noise."""

CORE = 48
"""Least side in pixels of what has windows in the corner alone."""


def with_flat_corner(x: Tensor, window: Size, train: Size) -> Tensor:
    """Return an image with a flat dark corner, which windows fit into; itself if it is too small.

    >>> x = with_flat_corner(torch.ones(1, 3, 200, 200), (48, 48), (32, 32))
    >>> x[0, 0, 95, 95].item() < 0.1, x[0, 0, 96, 96].item()
    (True, 1.0)

    Args:
        x: (b, c, h, w) in [0, 1].
        window: of local operations, (height, width).
        train: size of the training crops.
    """
    height, width = (w + max(t // 4, CORE) for w, t in zip(window, train, strict=True))
    if height > 0.9 * x.shape[-2] or width > 0.9 * x.shape[-1]:
        return x
    noise = torch.randn(x.shape[1], height, width, generator=torch.Generator().manual_seed(0))
    corner = (255 * (LEVEL + NOISE * noise)).round() / 255
    x = x.clone()
    x[..., :height, :width] = corner.to(x)
    return x

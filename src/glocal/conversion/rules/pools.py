"""Global pooling layers, as in SE, CALayer, CBAM and NAFNet's channel attention."""

from torch import Tensor, nn

from glocal.conversion.rules.rule import Local, Rule
from glocal.ops.lazy import local_max, local_mean

__all__ = ["AVG_POOL", "MAX_POOL", "LocalAvgPool2d", "LocalMaxPool2d"]


class LocalAvgPool2d(Local, nn.AdaptiveAvgPool2d):
    """`AdaptiveAvgPool2d(1)` over the window of each pixel."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (b, c, h, w) to means, with size 1 on an axis that the window covers."""
        return local_mean(input, self.window, self.precision)


class LocalMaxPool2d(Local, nn.AdaptiveMaxPool2d):
    """`AdaptiveMaxPool2d(1)` over the window of each pixel."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (b, c, h, w) to maxima, with size 1 on an axis that the window covers."""
        return local_max(input, self.window)


def _to_one(module: nn.Module) -> bool:
    """True for a pool whose output has one pixel."""
    return getattr(module, "output_size", None) in (1, (1, 1), [1, 1])


AVG_POOL = Rule(
    "average pool",
    lambda module: isinstance(module, nn.AdaptiveAvgPool2d) and _to_one(module),
    LocalAvgPool2d.of,
    yields_map=True,
)
MAX_POOL = Rule(
    "max pool",
    lambda module: (
        isinstance(module, nn.AdaptiveMaxPool2d) and _to_one(module) and not module.return_indices
    ),
    LocalMaxPool2d.of,
    yields_map=True,
)

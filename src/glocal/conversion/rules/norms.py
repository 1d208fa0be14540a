"""Normalisation layers with statistics over the whole map."""

from typing import Any

from torch import Tensor, nn

from glocal.conversion.rules.rule import Local, Rule
from glocal.ops import lazy, local_group_norm, local_instance_norm, local_layer_norm
from glocal.ops.forms import covers_map
from glocal.ops.windows import CROPS, Size

__all__ = [
    "GROUP_NORM",
    "INSTANCE_NORM",
    "LAYER_NORM",
    "RESCALE_NORM",
    "LocalGroupNorm",
    "LocalInstanceNorm2d",
    "LocalLayerNorm",
    "LocalRescaleNorm",
]


class LocalInstanceNorm2d(Local, nn.InstanceNorm2d):
    """`InstanceNorm2d` by the mean and variance of each pixel's window."""

    def forward(self, input: Tensor) -> Tensor:
        """(b, c, h, w) or (c, h, w), normalised.

        A layer with running statistics uses them in eval mode, as the original does. In training
        mode it does not update them: local statistics are not the ones that they average.
        """
        if self.track_running_stats and not self.training:
            return super().forward(input)
        batched = input if input.ndim == 4 else input.unsqueeze(0)
        out = local_instance_norm(
            batched, self.window, self.weight, self.bias, self.eps, self.precision
        )
        return out.view_as(input)


class LocalGroupNorm(Local, nn.GroupNorm):
    """`GroupNorm` by the statistics of each pixel's window."""

    def forward(self, input: Tensor) -> Tensor:
        """(b, c, h, w), normalised."""
        return local_group_norm(
            input,
            self.num_groups,
            self.window,
            self.weight,
            self.bias,
            self.eps,
            self.precision,
        )


class LocalLayerNorm(Local):
    """A custom layer norm over channels, height and width, affine by channel.

    Attributes:
        affine: names of the weight and the bias.
        eps: added to the variance.
    """

    affine: tuple[str, str]
    eps: float

    def forward(self, input: Tensor) -> Tensor:
        """(b, c, h, w), normalised."""
        weight, bias = (getattr(self, name) for name in self.affine)
        return local_layer_norm(
            input, self.window, weight.flatten(), bias.flatten(), self.eps, self.precision
        )


class LocalRescaleNorm(LocalLayerNorm):
    """DehazeFormer's RLN, which also returns the scale and shift that undo it.

    Source: Vision Transformers for Single Image Dehazing (arXiv 2204.03883), section 3.2.

    Attributes:
        rescale: name of the 1×1 convolution of the standard deviation.
        rebias: name of the 1×1 convolution of the mean.
    """

    rescale: str
    rebias: str

    def forward(self, input: Tensor) -> Any:
        """(b, c, h, w) to the normalised map, and the maps of its scale and shift."""
        if self.window is not CROPS and covers_map(self.window, input):  # as the original does
            mean = input.mean((1, 2, 3), keepdim=True)
            variance = (input - mean).square().mean((1, 2, 3), keepdim=True)
        else:
            mean, variance = lazy.local_moments(
                input, self.window, groups=1, precision=self.precision
            )
        std = (variance + self.eps).sqrt()
        weight, bias = (getattr(self, name) for name in self.affine)
        normalised = ((input - mean) / std).to(input.dtype) * weight + bias
        rescale, rebias = getattr(self, self.rescale), getattr(self, self.rebias)
        return normalised, rescale(std.to(input.dtype)), rebias(mean.to(input.dtype))


def _affine(module: nn.Module) -> tuple[str, str] | None:
    """Return the names of weight and bias by channel, if there are no others."""
    own = dict(module.named_parameters(recurse=False))
    if set(own) != {"weight", "bias"} or own["weight"].shape != own["bias"].shape:
        return None
    shape = own["weight"].shape
    by_channel = (
        len(shape) in (1, 3, 4) and own["weight"].numel() == shape[-3 if len(shape) > 1 else 0]
    )
    return ("weight", "bias") if by_channel else None


def _eps(module: nn.Module) -> float:
    """The epsilon of a norm; torch's default if the module has no such attribute."""
    return next(
        (v for v in (getattr(module, n, None) for n in ("eps", "epsilon")) if isinstance(v, float)),
        1e-5,
    )


def _metas(module: nn.Module) -> list[str]:
    """Names of the 1×1 convolutions of one channel."""
    return [
        name
        for name, child in module.named_children()
        if isinstance(child, nn.Conv2d) and child.in_channels == 1 and child.kernel_size == (1, 1)
    ]


def _rescale_norm(module: nn.Module, window: Size) -> nn.Module:
    rescale, rebias = _metas(module)
    return LocalRescaleNorm.of(
        module, window, affine=_affine(module), eps=_eps(module), rescale=rescale, rebias=rebias
    )


INSTANCE_NORM = Rule(
    "instance norm", lambda module: isinstance(module, nn.InstanceNorm2d), LocalInstanceNorm2d.of
)
GROUP_NORM = Rule("group norm", lambda module: isinstance(module, nn.GroupNorm), LocalGroupNorm.of)
LAYER_NORM = Rule(
    "layer norm over C,H,W",
    lambda module: (
        _affine(module) is not None
        and not list(module.children())
        and not isinstance(module, nn.LayerNorm | nn.modules.batchnorm._NormBase)
    ),
    lambda module, window: LocalLayerNorm.of(
        module, window, affine=_affine(module), eps=_eps(module)
    ),
)
RESCALE_NORM = Rule(
    "rescale layer norm",
    lambda module: _affine(module) is not None and len(_metas(module)) == 2,
    _rescale_norm,
    yields_map=True,
)

"""Transposed self-attention, recognised by the shapes of its parameters.

With statistics from crops the second pass knows the attention: it computes no queries and keys.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from glocal.conversion.rules.rule import Local, Rule
from glocal.ops import local_channel_attention
from glocal.ops.crops import is_replaying
from glocal.ops.windows import CROPS, Size

__all__ = ["MDTA", "SPECTRAL_ATTENTION", "LocalMDTA", "LocalSpectralAttention"]


class LocalMDTA(Local):
    """Multi-Dconv head transposed attention (MDTA) on overlapping windows.

    Source: Restormer (arXiv 2111.09881), section 3.1; PromptIR and X-Restormer use the same.

    Attributes:
        parts: names of the temperature, the qkv convolution, its depthwise convolution and the
            output projection.
    """

    parts: tuple[str, str, str, str]

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) to (b, c, h, w)."""
        temperature, qkv, depthwise, project = (getattr(self, name) for name in self.parts)
        heads = temperature.shape[0]
        if self.window is CROPS and is_replaying() and _alone(qkv) and _alone(depthwise):
            v = _last_third(depthwise, _last_third(qkv, x)).unflatten(1, (heads, -1))
            q = k = v  # the attention is known
        else:
            q, k, v = (t.unflatten(1, (heads, -1)) for t in depthwise(qkv(x)).chunk(3, 1))
        out = local_channel_attention(q, k, v, temperature, self.window)
        projected: Tensor = project(out.flatten(1, 2))
        return projected


class LocalSpectralAttention(Local):
    """Transposed attention on maps (b, h, w, c), with position embedding.

    Source: MST++ (arXiv 2204.07908), section 3.2, and RetinexFormer (arXiv 2303.06705),
    section 3.3, which also multiplies the values by illumination features.

    Attributes:
        parts: names of the rescale parameter, the q, k and v layers, the projection and the
            position embedding.
    """

    parts: tuple[str, str, str, str, str, str]

    def forward(self, x: Tensor, *others: Tensor, **named: Tensor) -> Tensor:
        """Map (b, h, w, c) and optional illumination features to (b, h, w, c)."""
        illumination = next(iter((*others, *named.values())), None)
        rescale, to_q, to_k, to_v, project, positions = (getattr(self, n) for n in self.parts)
        heads = rescale.shape[0]

        def split(t: Tensor) -> Tensor:
            headed: Tensor = t.unflatten(-1, (heads, -1))
            return headed.permute(0, 3, 4, 1, 2)

        plain = to_v(x)
        v = split(plain) if illumination is None else split(plain) * split(illumination)
        known = self.window is CROPS and is_replaying()
        # In these networks keys attend to queries.
        k, q = (v, v) if known else (split(to_k(x)), split(to_q(x)))
        out = local_channel_attention(k, q, v, rescale, self.window)
        mixed: Tensor = project(out.flatten(1, 2).permute(0, 2, 3, 1))
        placed: Tensor = positions(plain.permute(0, 3, 1, 2))
        return mixed + placed.permute(0, 2, 3, 1)


def _alone(conv: nn.Module) -> bool:
    """True for a convolution that may run on a part of a map: zero padding, no hook."""
    hooked = conv._forward_hooks or conv._forward_pre_hooks
    return type(conv) is nn.Conv2d and not hooked and conv.padding_mode == "zeros"


def _last_third(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The last third of the channels of a convolution, dense or depthwise."""
    c = conv.out_channels // 3
    bias = None if conv.bias is None else conv.bias[-c:]
    groups = 1 if conv.groups == 1 else c
    return F.conv2d(x, conv.weight[-c:], bias, conv.stride, conv.padding, conv.dilation, groups)


def _per_head(module: nn.Module) -> str | None:
    """The name of the only parameter of shape (heads, 1, 1), or None."""
    own = [
        name
        for name, p in module.named_parameters(recurse=False)
        if p.ndim == 3 and p.shape[1:] == (1, 1)
    ]
    return own[0] if len(own) == 1 else None


def _mdta_parts(module: nn.Module) -> tuple[str, str, str, str] | None:
    temperature = _per_head(module)
    convs = {n: m for n, m in module.named_children() if isinstance(m, nn.Conv2d)}
    depthwise = [n for n, m in convs.items() if m.groups == m.in_channels > 1]
    if temperature is None or len(depthwise) != 1:
        return None
    wide = convs[depthwise[0]].in_channels
    plain = {
        name: (m.in_channels, m.out_channels)
        for name, m in convs.items()
        if m.kernel_size == (1, 1) and m.groups == 1
    }
    qkv = [name for name, channels in plain.items() if channels == (wide // 3, wide)]
    project = [name for name, channels in plain.items() if channels == (wide // 3, wide // 3)]
    if len(qkv) != 1 or len(project) != 1:
        return None
    return (temperature, qkv[0], depthwise[0], project[0])


def _spectral_parts(module: nn.Module) -> tuple[str, ...] | None:
    rescale = _per_head(module)
    linears = [name for name, m in module.named_children() if isinstance(m, nn.Linear)]
    positions = [
        name
        for name, m in module.named_children()
        if isinstance(m, nn.Sequential) and any(isinstance(c, nn.Conv2d) for c in m)
    ]
    if rescale is None or len(linears) != 4 or len(positions) != 1:
        return None
    return (rescale, *linears, positions[0])


def _mdta(module: nn.Module, window: Size) -> nn.Module:
    return LocalMDTA.of(module, window, parts=_mdta_parts(module))


def _spectral(module: nn.Module, window: Size) -> nn.Module:
    return LocalSpectralAttention.of(module, window, parts=_spectral_parts(module))


MDTA = Rule("transposed attention", lambda module: _mdta_parts(module) is not None, _mdta)
SPECTRAL_ATTENTION = Rule(
    "transposed attention, channels last",
    lambda module: _spectral_parts(module) is not None,
    _spectral,
)

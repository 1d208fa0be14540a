"""Blocks that gate a map by its pooled vector, and need more than a local pool."""

from torch import Tensor, nn

from glocal.conversion.rules.pools import AVG_POOL
from glocal.conversion.rules.rule import Local, Rule
from glocal.ops.lazy import local_mean
from glocal.ops.window_map import values_of
from glocal.ops.windows import Size

__all__ = ["LINEAR_SE", "SELECTIVE_FUSION", "LocalLinearSE", "LocalSelectiveFusion"]


class LocalLinearSE(Local):
    """Squeeze-and-excitation with `Linear` layers on the pooled vector.

    Source: SE-Net (arXiv 1709.01507), section 3, localised as in TLC (arXiv 2112.04491), section 4.

    Attributes:
        excitation: name of the `Sequential` of linear layers.
    """

    excitation: str

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) to (b, c, h, w)."""
        pooled, as_map = values_of(local_mean(x, self.window, self.precision))
        gate: Tensor = getattr(self, self.excitation)(pooled.permute(0, 2, 3, 1))
        return x * as_map(gate.permute(0, 3, 1, 2))


class LocalSelectiveFusion(Local):
    """Selective kernel feature fusion: weights branches by a softmax of pooled sums.

    Source: MIRNet (arXiv 2003.06792), section 3.2.

    Attributes:
        parts: names of the squeeze layer and of the list with one layer per branch.
    """

    parts: tuple[str, str]

    def forward(self, branches: list[Tensor]) -> Tensor:
        """A list of (b, c, h, w) to (b, c, h, w)."""
        squeeze, excite = (getattr(self, name) for name in self.parts)
        pooled = local_mean(sum(branches[1:], branches[0]), self.window, self.precision)
        squeezed = squeeze(pooled)
        weights = [layer(squeezed) for layer in excite]
        peak = weights[0]
        for weight in weights[1:]:
            peak = peak.maximum(weight)
        exps = [(weight - peak).exp() for weight in weights]
        total = sum(exps[1:], exps[0])
        parts = [branch * (e / total) for branch, e in zip(branches, exps, strict=True)]
        fused: Tensor = sum(parts[1:], parts[0])
        return fused


def _pools(module: nn.Module) -> bool:
    """True for a module with exactly one global average pool among its children."""
    return sum(AVG_POOL.matches(child) for child in module.children()) == 1


def _excitation(module: nn.Module) -> str | None:
    """Return the only child with parameters, if a `Sequential` of linear layers."""
    layers = [
        name
        for name, m in module.named_children()
        if isinstance(m, nn.Sequential) and any(isinstance(c, nn.Linear) for c in m)
    ]
    others = [m for m in module.children() if any(True for _ in m.parameters())]
    return layers[0] if len(layers) == len(others) == 1 and _pools(module) else None


def _fusion_parts(module: nn.Module) -> tuple[str, str] | None:
    """Names of the squeeze layer and of the list of branch layers."""
    squeeze = [n for n, m in module.named_children() if isinstance(m, nn.Sequential | nn.Conv2d)]
    excite = [n for n, m in module.named_children() if isinstance(m, nn.ModuleList)]
    if len(squeeze) != 1 or len(excite) != 1 or not _pools(module):
        return None
    return (squeeze[0], excite[0])


def _linear_se(module: nn.Module, window: Size) -> nn.Module:
    return LocalLinearSE.of(module, window, excitation=_excitation(module))


def _fusion(module: nn.Module, window: Size) -> nn.Module:
    return LocalSelectiveFusion.of(module, window, parts=_fusion_parts(module))


LINEAR_SE = Rule(
    "squeeze-and-excitation", lambda module: _excitation(module) is not None, _linear_se
)
SELECTIVE_FUSION = Rule(
    "selective fusion", lambda module: _fusion_parts(module) is not None, _fusion
)

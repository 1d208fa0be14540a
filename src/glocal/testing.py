"""The laws of local operations, to test rules and operations with, one's own included.

Every check runs in float64 and raises `AssertionError` with the place of the first difference.
"""

import copy
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from glocal.conversion.rules.rule import Rule
from glocal.ops import fold_windows, unfold_windows
from glocal.ops.windows import Size, start_of

__all__ = ["check_law_of_tiles", "check_law_of_windows", "check_rule"]

Operation = Callable[[Tensor], Tensor]

_SIZES: tuple[Size, ...] = ((9, 12), (7, 5), (1, 11), (6, 6))
_WINDOWS: tuple[Size, ...] = ((4, 5), (5, 4), (1, 2), (3, 20), (20, 3), (20, 20))


def check_law_of_windows(
    local: Operation, whole: Operation, x: Tensor, window: Size, tolerance: float = 1e-9
) -> None:
    """local(x)[p] == whole(x[window of p])[p] at every pixel p.

    Where `whole` returns one value for its map (a pool), that is the value at every p.

    >>> from glocal.ops import local_mean
    >>> x = torch.rand(1, 2, 5, 7, dtype=torch.float64)
    >>> check_law_of_windows(
    ...     lambda t: local_mean(t, (3, 4)), lambda t: t.mean((2, 3), keepdim=True), x, (3, 4)
    ... )

    Args:
        local: (b, c, h, w) to a map that broadcasts to (b, ?, h, w).
        whole: the same with the whole map for a window.
        x: (b, c, h, w), float64.
        window: (height, width) of the window that `local` uses.
        tolerance: of the difference, relative to the largest value.
    """
    h, w = x.shape[-2:]
    kh, kw = min(window[0], h), min(window[1], w)
    got = local(x)
    got = got.expand(*got.shape[:2], h, w)
    for i in range(h):
        for j in range(w):
            top, left = start_of(i, kh, h), start_of(j, kw, w)
            wanted = whole(x[..., top : top + kh, left : left + kw])
            pixel = wanted[
                ...,
                i - top if wanted.shape[-2] > 1 else 0,
                j - left if wanted.shape[-1] > 1 else 0,
            ]
            _same(got[..., i, j], pixel, tolerance, f"pixel ({i}, {j}) of {h}x{w}, window {window}")


def check_law_of_tiles(
    local: Operation, whole: Operation, x: Tensor, window: Size, tolerance: float = 1e-9
) -> None:
    """local(x) == the average of `whole` over the overlapping windows; as above."""
    wanted = fold_windows(whole(unfold_windows(x, window)), (x.shape[-2], x.shape[-1]))
    _same(local(x), wanted, tolerance, f"a map of {x.shape[-2]}x{x.shape[-1]}, window {window}")


def check_rule(
    rule: Rule,
    module: nn.Module,
    channels: int,
    *,
    law: Literal["windows", "tiles", "equality"] = "windows",
    tolerance: float = 1e-9,
) -> None:
    """Prove the laws for a rule on a module that takes one (b, channels, h, w) tensor.

    Odd and even maps and windows, windows beyond one axis and both, one-pixel rows, a batch of
    two. The local module must share the original's parameters under the same names.

    >>> from glocal.conversion.rules import DEFAULT_RULES
    >>> rule = next(rule for rule in DEFAULT_RULES if rule.name == "instance norm")
    >>> check_rule(rule, nn.InstanceNorm2d(3, affine=True), channels=3)

    Args:
        law: "windows" for statistics; "tiles" for operations that mix pixels; "equality" alone
            for a module in which the operation stands between convolutions, where neither
            other law holds of the module as a whole.
    """
    module = copy.deepcopy(module).double().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator).double()
    assert rule.matches(module), f"rule '{rule.name}' does not match {type(module).__name__}"
    for window in _WINDOWS:
        local = rule.build(module, window)
        for (name, ours), (other, theirs) in zip(
            local.state_dict(keep_vars=True).items(),
            module.state_dict(keep_vars=True).items(),
            strict=True,
        ):
            assert name == other, f"state-dict key {name!r} was {other!r}"
            assert ours is theirs, f"parameter {name!r} is a copy, not the original's"
        for h, w in _SIZES:
            x = torch.randn(2, channels, h, w, generator=generator, dtype=torch.float64)
            x = x + torch.linspace(0, 3, w)
            with torch.no_grad():
                if law == "windows":
                    check_law_of_windows(local, module, x, window, tolerance)
                elif law == "tiles":
                    check_law_of_tiles(local, module, x, window, tolerance)
                if window[0] >= h and window[1] >= w:
                    _same(local(x), module(x), tolerance, f"equality at {h}x{w}")


def _same(got: Tensor, wanted: Tensor, tolerance: float, where: str) -> None:
    assert got.shape == wanted.shape, f"{where}: shape {got.shape}, wanted {wanted.shape}"
    error = float((got - wanted).abs().max()) if got.numel() else 0.0
    scale = max(1.0, float(wanted.abs().max())) if got.numel() else 1.0
    assert error <= tolerance * scale, f"{where}: differs by {error:.3g}"

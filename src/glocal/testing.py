"""Checks of the laws of local operations, for rules and operations of your own.

- Law of windows: at each pixel, the local operation equals the whole operation on the window of
  that pixel. The window of a pixel is the nearest one that is wholly inside the map.
- Law of tiles, for operations that mix pixels: the local operation equals the whole operation on
  overlapping windows, averaged where windows overlap.
- Law of equality: where the window covers the map, the local operation equals the whole one.

Every check raises `AssertionError` at the first difference, with its place and size. Use float64,
so that float rounding does not hide errors.

Source: Chu et al., Improving Image Restoration by Revisiting Global Information Aggregation,
ECCV 2022 (arXiv 2112.04491), section 3, for windows of statistics.
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
"""An operation on a (b, c, h, w) tensor."""

# (height, width) of maps and windows: odd, even, one pixel, larger than the other on one axis or
# both.
_SIZES: tuple[Size, ...] = ((9, 12), (7, 5), (1, 11), (6, 6))
_WINDOWS: tuple[Size, ...] = ((4, 5), (5, 4), (1, 2), (3, 20), (20, 3), (20, 20))


def check_law_of_windows(
    local: Operation, whole: Operation, x: Tensor, window: Size, tolerance: float = 1e-9
) -> None:
    """Check that local(x) at each pixel p equals whole(window of p) at p.

    If `whole` returns size 1 along an axis (a pool), its value counts for every pixel.

    >>> from glocal.ops import local_mean
    >>> x = torch.rand(1, 2, 5, 7, dtype=torch.float64)
    >>> def mean(t):
    ...     return t.mean((2, 3), keepdim=True)
    >>> check_law_of_windows(lambda t: local_mean(t, (3, 4)), mean, x, window=(3, 4))
    >>> check_law_of_windows(lambda t: local_mean(t, (3, 3)), mean, x, window=(3, 4))
    Traceback (most recent call last):
    AssertionError: pixel (0, 0) of 5x7, window (3, 4): differs by ...

    Args:
        local: from (b, c, h, w) to a tensor that broadcasts to (b, c', h, w).
        whole: from (b, c, h, w) to (b, c', h, w), or to (b, c', 1, 1) for a pool. It runs once on
            the window of each pixel.
        x: (b, c, h, w), float64.
        window: (height, width) in pixels of the window that `local` uses; it may be larger than x.
        tolerance: largest accepted difference, relative to the largest absolute value of a pixel
            or to 1 if that is smaller.

    Raises:
        AssertionError: a pixel differs.
    """
    h, w = x.shape[-2:]
    kh, kw = min(window[0], h), min(window[1], w)
    got = local(x)
    got = got.expand(*got.shape[:2], h, w)
    for i in range(h):
        for j in range(w):
            top, left = start_of(i, kh, h), start_of(j, kw, w)
            expected = whole(x[..., top : top + kh, left : left + kw])
            pixel = expected[
                ...,
                i - top if expected.shape[-2] > 1 else 0,
                j - left if expected.shape[-1] > 1 else 0,
            ]
            place = f"pixel ({i}, {j}) of {h}x{w}, window {window}"
            _check_close(got[..., i, j], pixel, tolerance, place)


def check_law_of_tiles(
    local: Operation, whole: Operation, x: Tensor, window: Size, tolerance: float = 1e-9
) -> None:
    """Check that local(x) equals the average of `whole` over overlapping windows.

    The windows are those of `glocal.ops.unfold_windows` with the least overlap.

    >>> from glocal.ops import fold_windows, unfold_windows
    >>> def softmax(t):
    ...     return t.flatten(2).softmax(-1).view_as(t)
    >>> def local_softmax(t):
    ...     return fold_windows(softmax(unfold_windows(t, (4, 4))), (9, 6))
    >>> x = torch.rand(1, 2, 9, 6, dtype=torch.float64)
    >>> check_law_of_tiles(local_softmax, softmax, x, window=(4, 4))

    Args:
        local: from (b, c, h, w) to (b, c', h, w).
        whole: the same with the whole map as window; the windows are stacked on its batch dim.
        x: (b, c, h, w), float64.
        window: (height, width) in pixels of the windows that `local` uses.
        tolerance: largest accepted difference, relative to the largest absolute value of the
            result or to 1 if that is smaller.

    Raises:
        AssertionError: the results differ.
    """
    h, w = x.shape[-2:]
    expected = fold_windows(whole(unfold_windows(x, window)), (h, w))
    _check_close(local(x), expected, tolerance, f"a map of {h}x{w}, window {window}")


def check_rule(
    rule: Rule,
    module: nn.Module,
    channels: int,
    *,
    law: Literal["windows", "tiles", "equality"] = "windows",
    tolerance: float = 1e-9,
) -> None:
    """Check the laws for a rule, on a module from one (b, c, h, w) map to another.

    It runs on maps and windows of odd and even sizes, windows larger than the map along one axis
    or both, rows of one pixel, and a batch of two. Parameters get random values. The local module
    must have the parameters of the original, not copies, under the same names.

    >>> from glocal.conversion.rules import DEFAULT_RULES
    >>> rule = next(rule for rule in DEFAULT_RULES if rule.name == "instance norm")
    >>> check_rule(rule, nn.InstanceNorm2d(3, affine=True), channels=3)
    >>> check_rule(rule, nn.BatchNorm2d(3), channels=3)
    Traceback (most recent call last):
    AssertionError: rule 'instance norm' does not match BatchNorm2d

    Args:
        rule: the rule; it must match the module.
        module: an example of what the rule converts; it stays as it is, a float64 copy runs.
        channels: of the input.
        law: the law to check beside equality. "windows" for statistics; "tiles" for operations
            that mix pixels; "equality" for a module with convolutions around the operation, for
            which neither of the others holds.
        tolerance: as in `check_law_of_windows`.

    Raises:
        AssertionError: the rule does not match, a parameter is not shared, or a law is broken.
    """
    module = copy.deepcopy(module).double().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator).double()
    if not rule.matches(module):
        raise AssertionError(f"rule '{rule.name}' does not match {type(module).__name__}")
    for window in _WINDOWS:
        local = rule.build(module, window)
        _check_shared(local, module)
        for h, w in _SIZES:
            x = torch.randn(2, channels, h, w, generator=generator, dtype=torch.float64)
            x = x + torch.linspace(0, 3, w)  # no two windows have the same statistics
            with torch.no_grad():
                if law == "windows":
                    check_law_of_windows(local, module, x, window, tolerance)
                elif law == "tiles":
                    check_law_of_tiles(local, module, x, window, tolerance)
                if window[0] >= h and window[1] >= w:
                    _check_close(local(x), module(x), tolerance, f"equality at {h}x{w}")


def _check_shared(local: nn.Module, module: nn.Module) -> None:
    got, expected = (m.state_dict(keep_vars=True) for m in (local, module))
    if list(got) != list(expected):
        raise AssertionError(
            f"the local module has the state-dict keys {list(got)}, "
            f"the original has {list(expected)}"
        )
    for name in got:
        if got[name] is not expected[name]:
            raise AssertionError(f"{name!r} of the local module is a copy; share the original's")


def _check_close(got: Tensor, expected: Tensor, tolerance: float, place: str) -> None:
    if got.shape != expected.shape:
        raise AssertionError(f"{place}: shape {tuple(got.shape)}, expected {tuple(expected.shape)}")
    error = float((got - expected).abs().max()) if got.numel() else 0.0
    scale = max(1.0, float(expected.abs().max())) if got.numel() else 1.0
    if not error <= tolerance * scale:
        raise AssertionError(f"{place}: differs by {error:.3g}")

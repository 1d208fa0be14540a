"""Convert a random network and compare it with its slow reference."""

import time
import traceback
import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

import glocal
from random_networks.networks import Made

Verdict = Literal["right", "refused", "wrong", "crash"]

TOLERANCE = 1e-8
"""Largest difference, relative to the largest value of the result or to 1.

A norm after a norm multiplies float rounding; single blocks agree to 1e-12.
"""

LARGEST_REFERENCE = 30 * 30
"""Pixels of the largest window of which the reference is computed."""

LONGEST_STRIP = 1600
"""Pixels of the longest strip on which locality is checked."""

END = 16
"""Pixels at the end of a strip that are changed."""


@dataclass(frozen=True)
class Outcome:
    """What became of one network.

    Attributes:
        verdict: "right": converted, and equal to the references. "refused": glocal raised an error
            of its own. "wrong": converted, and not the local form. "crash": any other exception.
        detail: the reason, the difference, or the last line of the traceback.
        seconds: processor time of `localize`.
        trace: the traceback of a crash.
    """

    verdict: Verdict
    detail: str = ""
    seconds: float = 0.0
    trace: str = ""


class _WrongError(Exception):
    pass


def judge(made: Made, seed: int = 0) -> Outcome:
    """Convert a network, and check the laws that its spellings follow."""
    check_reference(made, seed)
    made.net(image(made.covered()[0], seed))  # with gradients: old weight norms keep what they made
    (height, width), start = made.sizes.train, time.process_time()
    try:
        local = glocal.localize(made.net, (height, width), window=made.sizes.window)
    except glocal.GlocalError as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return Outcome("refused", text, time.process_time() - start)
    except Exception as error:
        return _crash("localize", error, time.process_time() - start)
    seconds = time.process_time() - start
    step = "equality"
    try:
        _check_equality(made, local, seed)
        step = "a large size"
        got = _check_large(made, local, seed)
        step = "restore"  # under inference_mode
        if not made.net.training:
            restored = glocal.restore(local, image(made.large(), seed + 2))
            _close(restored, got, f"restore at {made.large()}")
        step = "locality"
        if "wraps" not in made.laws() and not _has_reference(made):
            _check_locality(made, local, seed)
    except _WrongError as error:
        return Outcome("wrong", str(error), seconds)
    except glocal.GlocalError as error:
        return Outcome("refused", f"when run: {type(error).__name__}: {error}", seconds)
    except Exception as error:
        return _crash(step, error, seconds)
    return Outcome("right", "", seconds)


def image(size: tuple[int, int], seed: int, batch: int = 2) -> Tensor:
    """Trends along both axes and noise: float64 (batch, 3, h, w), about [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    h, w = size

    def noise(*shape: int) -> Tensor:
        return torch.randn(batch, 3, *shape, generator=generator, dtype=torch.float64)

    smooth = torch.nn.functional.interpolate(
        noise(4, 5), size=size, mode="bilinear", align_corners=True
    )
    rows = torch.linspace(-1, 1, h, dtype=torch.float64)[:, None] * noise(1, 1)
    columns = torch.linspace(-1, 1, w, dtype=torch.float64) * noise(1, 1)
    fine = noise(h, w) * torch.linspace(0.02, 0.15, w, dtype=torch.float64)
    return 0.5 + 0.12 * (smooth + rows + columns) + fine


def check_reference(made: Made, seed: int) -> None:
    """Check that the slow form is the network itself where one window covers the map.

    Raises:
        AssertionError: the grammar is wrong, not the converter.
    """
    if made.loose():
        return
    first, second = made.covered()[1]
    x = image((min(first, 12), min(second, 13)), seed, batch=1)
    with torch.no_grad():
        difference = _difference(made.net.slow(x, made.sizes), made.net(x.clone()))
    assert difference <= TOLERANCE, f"the slow form of {made.spellings} differs by {difference}"


def _check_equality(made: Made, local: torch.nn.Module, seed: int) -> None:
    for size in made.covered():
        x = image(size, seed + 1)
        with torch.no_grad():
            wanted = made.net(x.clone())
        with torch.enable_grad():
            _close(local(x.clone()).detach(), wanted, f"equality at {size}, with gradients")
        with torch.no_grad():
            _close(local(x.clone()), wanted, f"equality at {size}")
        if not made.net.training:  # it restores in eval mode
            _close(glocal.restore(local, x.clone()), wanted, f"restore at {size}")


def _check_large(made: Made, local: torch.nn.Module, seed: int) -> Tensor:
    x = image(made.large(), seed + 2)
    with torch.no_grad():
        got = local(x.clone())
    if got.shape != x.shape or not got.isfinite().all():
        raise _WrongError(f"not finite, or of another size, at {made.large()}")
    if _has_reference(made):
        with torch.no_grad():
            wanted = made.net.slow(x, made.sizes)
        _close(got, wanted, f"the law of windows at {made.large()}")
    return got


def _has_reference(made: Made) -> bool:
    area = made.sizes.window[0] * made.sizes.window[1]
    return not made.loose() and area <= LARGEST_REFERENCE


def _check_locality(made: Made, local: torch.nn.Module, seed: int) -> None:
    reach = 2 * made.calls * made.sizes.window[1] + 2 * END  # tiles reach two windows far
    length = -(-(3 * reach + 2 * END) // 32) * 32  # half of it is farther than the reach
    if length > LONGEST_STRIP:
        return
    x = image((8, length), seed + 3, batch=1)
    y = x.clone()
    y[..., :END] = 1.5 * y[..., :END] + 0.3
    with torch.no_grad(), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        far = (local(x.clone()) - local(y))[..., END + reach :].abs().max()
    if any("runs global here" in str(each.message) for each in said):
        return  # its code takes another path at this size, and it says so
    if not far <= TOLERANCE:
        raise _WrongError(
            f"locality: a change of the first {END} columns of {length} changes "
            f"those beyond {END + reach} by {float(far):.2g}"
        )


def _close(got: Tensor, wanted: Tensor, what: str) -> None:
    difference = _difference(got, wanted)
    if not difference <= TOLERANCE:
        raise _WrongError(f"{what}: differs by {difference:.2g}")


def _difference(got: Tensor, wanted: Tensor) -> float:
    if got.shape != wanted.shape:
        return float("inf")
    return float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1))


def _crash(step: str, error: Exception, seconds: float) -> Outcome:
    text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    return Outcome("crash", f"{step}: {text}", seconds, traceback.format_exc())

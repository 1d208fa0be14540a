"""Say before a long run how long it will take, and how much memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glocal.cli.reporting import console, say
from glocal.errors import ImageError
from glocal.texts import duration_text, memory_text

if TYPE_CHECKING:
    from torch import nn

    from glocal.networks import LoadedNetwork

__all__ = ["say_comparison", "say_estimate", "say_passes"]

WORTH_SAYING_S = 10
"""Shorter runs begin without an estimate."""


SIDE = 256
"""Pixels a side of the part that is timed: some networks take seconds for more. The first run has
a quarter of its pixels; images of no more than that are quick."""


def say_estimate(loaded: "LoadedNetwork", sources: Sequence[Path], **options: Any) -> float | None:
    """Print what a pass of the network over the first photograph takes, if it is long.

    Args:
        loaded: the original network.
        sources: the photographs.
        options: those of `glocal.restore`.

    Returns:
        The seconds of the pass; None if the photograph is quick, or cannot be read, which the run
        reports.
    """
    import numpy as np

    from glocal.images.sample_files import read_header
    from glocal.inference.estimate import estimate
    from glocal.scanning.sandbox import isolated_copy

    try:
        header = read_header(sources[0])
    except ImageError:
        return None
    height, width = header.size
    if height * width <= (SIDE // 2) ** 2:
        return None
    with console(stderr=True).status("Estimating …"):
        found = estimate(
            isolated_copy(loaded.network),
            np.random.default_rng(0).random((SIDE, SIDE, header.channels), np.float32),
            side=SIDE,
            is_quick=lambda per_pixel_s: per_pixel_s * height * width < WORTH_SAYING_S,
            **options,
        )
    expected_s = 0.0 if found is None else found.seconds([header.size])
    if found is None or expected_s < WORTH_SAYING_S:
        return None
    about = duration_text(expected_s)
    if found.need is not None:
        about += f" and {memory_text(found.nbytes([header.size]))}"
    others = f", the first of {len(sources)}" if len(sources) > 1 else ""
    _say(f"about {about} for {sources[0].name} ({width} × {height} pixels){others}")
    return expected_s


def say_comparison(expected_s: float | None, passes: float) -> None:
    """Print how long a comparison of the ways takes, given in passes, if it is long."""
    if expected_s is not None:
        duration = duration_text(passes * expected_s)
        _say(f"about {duration} more to compare the ways first, once; --no-check skips that")


def say_passes(network: "nn.Module", expected_s: float | None, *, falls_back: bool) -> None:
    """Print what all passes over the first photograph take, if there are several and long ones.

    Args:
        network: the converted network.
        expected_s: of one pass, None if it is quick.
        falls_back: the original network runs as well.
    """
    from glocal.conversion.two_passes import two_passes_of

    if expected_s is None:
        return
    reasons = []
    if two_passes_of(network) is not None:
        reasons.append("statistics from crops take a second pass")
    if falls_back:
        reasons.append("the full-image result, to fall back on, takes another")
    if reasons:
        duration = duration_text((1 + len(reasons)) * expected_s)
        _say(f"about {duration} in all, as {' and '.join(reasons)}")


def _say(text: str) -> None:
    say(text, "cyan", "estimate")

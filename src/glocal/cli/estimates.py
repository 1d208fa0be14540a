"""Say before a long run how long it will take, and how much memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glocal.cli.reporting import console, say
from glocal.errors import ImageError
from glocal.texts import about_duration

if TYPE_CHECKING:
    from torch import nn

    from glocal.inference.estimate import Estimate
    from glocal.networks import LoadedNetwork

__all__ = ["say_comparison", "say_estimate", "say_passes"]

WORTH_SAYING_S = 10
"""Shorter runs begin without an estimate."""


def say_estimate(
    loaded: "LoadedNetwork", sources: Sequence[Path], **options: Any
) -> "Estimate | None":
    """Print what a pass of the network over the first photograph takes, if it is long.

    Args:
        loaded: the original network.
        sources: the photographs.
        options: those of `estimated`.

    Returns:
        The estimate; None if the photograph is quick or cannot be read, which the run reports.
    """
    from glocal.images.sample_files import read_header
    from glocal.inference.estimate import estimated

    try:
        header = read_header(sources[0])
    except ImageError:
        return None
    with console(stderr=True).status("Estimating …"):
        found = estimated(
            loaded.network, header.channels, header.size, least_s=WORTH_SAYING_S, **options
        )
    if found is not None:
        height, width = header.size
        others = f", the first of {len(sources)}" if len(sources) > 1 else ""
        _say(f"{found} for {sources[0].name} ({width} × {height} pixels){others}")
    return found


def say_comparison(expected: "Estimate | None", passes: float) -> None:
    """Print how long a comparison of the ways takes, given in passes, if it is long."""
    if expected is not None:
        duration = about_duration(passes * expected.seconds)
        _say(f"about {duration} more to compare the ways first, once; --no-check skips that")


def say_passes(network: "nn.Module", expected: "Estimate | None", *, falls_back: bool) -> None:
    """Print what all passes over the first photograph take, if there are several and long ones.

    Args:
        network: the converted network.
        expected: for one pass, None if it is quick.
        falls_back: the original network runs as well.
    """
    from glocal.conversion.two_passes import two_passes_of

    if expected is None:
        return
    reasons = []
    if two_passes_of(network) is not None:
        reasons.append("statistics from crops take a second pass")
    if falls_back:
        reasons.append("the full-image result, to fall back on, takes another")
    if reasons:
        duration = about_duration((1 + len(reasons)) * expected.seconds)
        _say(f"about {duration} in all, as {' and '.join(reasons)}")


def _say(text: str) -> None:
    say(text, "cyan", "estimate")

"""What a look at the first photograph of a run changes: the way, and the need of a fallback."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from glocal.errors import GlocalError, ImageError
from glocal.images.files import cache_folder
from glocal.images.image_files import read
from glocal.images.sample_files import read_header
from glocal.inference.settings import Settings
from glocal.inference.ways import CONVERTING
from glocal.study import harm
from glocal.study.harm import WayCheck
from glocal.study.options import RunOptions
from glocal.texts import one_line

__all__ = ["FirstLook", "look"]

MOST_PIXELS = 2**25
"""Larger photographs are not decoded for the comparison of ways."""


@dataclass(frozen=True)
class FirstLook:
    """Settings after a look at a photograph.

    Attributes:
        settings: with the way to take.
        found: what the comparison of ways says; None if nothing was compared.
        problem: why the ways could not be compared; empty if they were, or need not be.
    """

    settings: Settings
    found: WayCheck | None = None
    problem: str = ""

    @property
    def has_areas(self) -> bool:
        """True if areas of the photograph call for a full-image result to fall back on."""
        return self.found is not None and self.found.areas_of(self.settings.way) > 0


def look(
    model: nn.Module,
    settings: Settings,
    source: Path,
    *,
    is_chosen: bool,
    run: RunOptions,
    before: Callable[[float], None] = lambda passes: None,
) -> FirstLook:
    """Compare windows, crops and full image on a photograph, and take crops if windows do harm.

    Nothing is looked at if the way converts nothing, or if the photograph is very large or
    unreadable.

    Args:
        model: the original network.
        settings: that were chosen, with a training size.
        source: the photograph.
        is_chosen: keep the way whatever is found.
        run: how the network runs.
        before: as for `check_ways`.
    """
    if settings.way not in CONVERTING:
        return FirstLook(settings)
    try:
        if math.prod(read_header(source).size) > MOST_PIXELS:
            return FirstLook(settings)
        image, folder = read(source), cache_folder("checks")
        pixels = image.colours.seen(image.pixels)
        found = harm.check_ways(model, pixels, settings, run, folder, before)
    except ImageError:  # the run reports it
        return FirstLook(settings)
    except GlocalError as error:
        return FirstLook(settings, problem=one_line(error))
    if found is not None and found.windows_do_harm and not is_chosen:
        settings = settings.changed(way="crops")
    return FirstLook(settings, found)

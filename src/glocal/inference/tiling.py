"""Decide how an image is divided for a network: measure the network, then plan the tiles."""

import math
import warnings

from torch import nn

from glocal.conversion.inside import converted_network, own_plan
from glocal.errors import GlocalWarning
from glocal.inference.geometry import alignment
from glocal.inference.measure import blending_error, measure, pixels_that_fit
from glocal.inference.options import Tiles
from glocal.inference.plan import BOUND, BlendedTiles, TilePlan, plan
from glocal.inference.run import TiledImage
from glocal.inference.runner import ModelRunner
from glocal.ops.windows import Size
from glocal.scanning.plan import Plan
from glocal.texts import size_text

__all__ = ["local_window", "measured_plan"]


def measured_plan(
    runner: ModelRunner,
    image: TiledImage,
    window: Size,
    tiles: Tiles,
    memory: float | None,
    max_pixels: float = math.inf,
) -> TilePlan | BlendedTiles:
    """Measure the network on the image and plan the tiles; warn of inexact results.

    A network is measured on tiles that begin at multiples of its period, and again on `ALIGN` if
    that does not suffice: it may pad an image to larger multiples.

    Args:
        runner: of the network.
        image: the image.
        window: of the network's local operations, in pixels of the image.
        tiles: size and halo that the user wants.
        memory: bytes that the network may use, None if unknown.
        max_pixels: that the network may read at once, even if more fit into memory.

    Raises:
        GlocalError: not even the smallest tile fits into memory.
    """
    converted = _plan_of(runner.model)
    runner.learn(image.read, image.size)
    periods = (0,) if converted is None else (converted.period, 0)
    for align in dict.fromkeys(alignment(n, runner.accepted.multiple) for n in periods):
        least = align if converted and _only_crops(converted) else max(window)
        reach = measure(runner, image, window, memory, least, align)
        if reach.error <= BOUND:
            break
    found = plan(
        image.size,
        window,
        reach,
        tile_size=tiles.given_size,
        halo=tiles.halo,
        memory=memory,
        max_pixels=max_pixels,
    )
    text = ""
    if isinstance(found, BlendedTiles):
        apart = blending_error(runner, image, found, pixels_that_fit(runner, image, memory))
        by = "" if apart is None else f", by up to {255 * apart:.1f}/255 on the part compared"
        text = (
            f"{found.why}: tiles of {size_text(found.tile_size)} that overlap by half are blended, "
            f"and the result differs from that of the whole image{by}"
        )
    elif found.doubt and len(found.tiles) > 1:
        text = f"{found.doubt}: the result may differ from that of the whole image"
    if text:
        warnings.warn(text, GlocalWarning, stacklevel=3)
    return found


def local_window(model: nn.Module, halo: int | None = None) -> Size | None:
    """Return the window of a fully converted network in image pixels, or None.

    If all statistics come from crops, it is the crop.

    Args:
        model: the network.
        halo: given by a user who thereby says that a network is local by itself; it then counts
            as the window.
    """
    found = _plan_of(model)
    if found is not None and len(found.with_status("local")) == len(found.rows):
        return found.train_size if _only_crops(found) else found.window
    return None if halo is None else (max(1, halo), max(1, halo))


def _plan_of(model: nn.Module) -> Plan | None:
    network = converted_network(model)
    return None if network is None else own_plan(network)


def _only_crops(plan: Plan) -> bool:
    return bool(plan.rows) and all(row.source == "crops" for row in plan.rows)

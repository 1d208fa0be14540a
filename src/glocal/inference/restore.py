"""A network and an image of any size, layout and number type to the restored image.

The whole image goes through the network at once where memory is enough for it. Where it is not,
a converted network runs on tiles with a halo, whose result is that of the whole image
(`tiling`, `reach`); any other network runs on overlapping tiles that are blended.
With an *unconverted* network and ``tile`` at the training size this is the crop-and-stitch
inference that TLC is compared with.
"""

import math
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from glocal.errors import ArgumentError, GlocalWarning
from glocal.inference.blending import FALLBACK_TILES, blended, plans_for
from glocal.inference.geometry import BLENDS, Blend
from glocal.inference.memory import free_memory, give_back, kept_within
from glocal.inference.reach import Layout, lay_out
from glocal.inference.runner import (
    Runner,
    channels_of,
    device_of,
    eval_mode,
    is_out_of_memory,
    resolve_dtype,
)
from glocal.inference.samples import AnyImage, as_batch, finite, warn_of_values
from glocal.inference.tiling import Tiler, affordable, run_tile
from glocal.ops.windows import Size, covers
from glocal.scanning.plan import Plan

__all__ = ["FALLBACK_TILES", "local_window", "restore", "room_for"]

SHARE = 0.6
"""Of the memory that is free, or left of a given limit, that the network may take: large tiles take
up to 37 % more than small parts show, where the process keeps freed memory in pieces, and pages of
mapped files count as well."""

Progress = Callable[[int, int], None]


def restore(
    model: nn.Module,
    image: AnyImage,
    *,
    tile: int | tuple[int, int] | Literal["auto"] | None = "auto",
    halo: int | None = None,
    memory: int | None = None,
    overlap: int | None = None,
    blend: Blend | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    output: int | None = None,
    channels: int | None = None,
    progress: Progress | None = None,
    report: Callable[[str], None] | None = None,
) -> AnyImage:
    """Restore one image (or a batch of one size) with a network, converted or not.

    >>> import numpy as np
    >>> from torch import nn
    >>> photo = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    >>> restored = restore(nn.Identity(), photo, tile=16)
    >>> restored.dtype, restored.shape, bool((restored == photo).all())
    (dtype('uint8'), (37, 50, 3), True)

    Sizes the network refuses are reflected up to a multiple of 8, 16, 32 or 64 and cropped
    back. A super-resolution network's scale is read from its output. The network runs in eval
    mode under ``torch.inference_mode``; its training flags are as before afterwards.

    Args:
        model: takes and gives (b, c, h, w) in [0, 1].
        image: a floating tensor (c, h, w) or (b, c, h, w) in [0, 1], or an array (h, w) or
            (h, w, c) of uint8, uint16, or floats in [0, 1]. Integers are scaled to [0, 1] and
            back, rounded and clamped. Floats are not clamped: a metric may want the overshoot.
        tile: what the network sees at once, in pixels. "auto" is the whole image where memory is
            enough for it, as is measured on parts of large images, and else the largest tile
            that fits. None tries the whole image in any case. Whatever was asked for, "auto" and
            None go on in smaller tiles, and on the CPU, where memory is short, with a warning.
        halo: of the tiles of a network that was converted as a whole: pixels at the border of
            what a tile sees that are thrown away. By default it is measured on the image, so
            that the result is that of the whole image up to 1/255 at every pixel.
        memory: bytes that this process may have on the CPU, or its tensors on another device,
            for "auto"; by default what is free.
        overlap: asks for blended tiles, also of a converted network: their least overlap in
            pixels. Unconverted networks always get them, with an eighth of the tile by default.
        blend: asks for blended tiles: "linear" (the default) fades neighbouring tiles into each
            other, "mean" averages them where they overlap, "cut" takes each pixel from the tile
            in whose middle it lies.
        dtype: what the network computes in; its own parameters' type by default. A float32
            network runs in bfloat16 or float16 by autocast.
        device: where the network runs. It is moved there and stays there, or on the CPU if the
            device's memory was short; the result comes back to where the image is.
        output: which of several outputs to take, for networks that return a list.
        channels: channels the network takes, 1 or 3; read from its convolutions by default.
            A grey image is replicated for a 3-channel network and the result averaged.
        progress: called with (tiles done, tiles in all), beginning with none done.
        report: called with one line that says which tiles were chosen, where there are several.

    Returns:
        The restored image, of the kind, shape and number type of ``image`` (super-resolution
        networks: of scale times its height and width).

    Raises:
        ArgumentError: an argument cannot be used, or the network's output is no image.
        GlocalError: not even the smallest tiles fit into memory.
    """
    if blend is not None and blend not in BLENDS:
        raise ArgumentError(f"blend is one of {', '.join(BLENDS)}, got {blend!r}")
    if halo is not None and halo < 0:
        raise ArgumentError(f"halo={halo}; give pixels, 0 or more")
    source, back = as_batch(image)
    runner = Runner(model, resolve_dtype(model, dtype), device_of(model, device), output)
    grey = source.shape[1] == 1 and (channels or channels_of(model)) == 3
    size: Size = (source.shape[-2], source.shape[-1])
    tiler = Tiler(runner, lambda rows, columns: source[..., rows, columns], size, grey)
    tiler.finish = back
    given = None if tile is None or isinstance(tile, str) else _pair(tile)
    window = local_window(model, halo)
    blends = window is None or overlap is not None or blend is not None
    bound = kept_within(runner.device, memory)
    with eval_mode(model, runner.device), torch.inference_mode(), bound:
        room = room_for(runner.device, memory, source.nbytes) if tile == "auto" else None
        if window is None or blends or (given and covers(given, size)):
            plans = plans_for(tiler, given, room, overlap or 0)
            return back(blended(tiler, source, plans, overlap, blend or "linear", progress))
        most = math.inf
        if given is None and affordable(tiler, room) >= math.prod(size):
            try:
                return back(finite(_whole(tiler, source, progress)))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            # outside of the handler, whose traceback would keep the tensors alive
            most = math.prod(size) / 2
        layout = lay_out(tiler, window, given or "auto", halo, room, most)
        if most < math.inf:
            warnings.warn(
                f"not enough memory on {runner.device} for {size[0]}×{size[1]} pixels at once; "
                f"going on in tiles, {layout}",
                GlocalWarning,
                stacklevel=2,
            )
        if report is not None and len(layout.pieces) > 1:
            report(str(layout))
        return _assembled(tiler, layout, back, progress)


def _whole(tiler: Tiler, source: Tensor, progress: Progress | None) -> Tensor:
    report = progress or (lambda done, total: None)
    report(0, 1)
    restored, _ = run_tile(tiler.runner, source, tiler.grey)
    report(1, 1)
    return restored


def _assembled(
    tiler: Tiler,
    layout: Layout,
    back: Callable[[Tensor], AnyImage],
    progress: Progress | None,
) -> AnyImage:
    """The pieces, side by side, in the image's own number type."""
    report = progress or (lambda done, total: None)
    restored: AnyImage | None = None
    sound = True
    report(0, len(layout.pieces))
    for done, piece in enumerate(layout.pieces, start=1):
        core, scale = tiler(piece)
        sound = sound and bool(core.isfinite().all())
        samples: AnyImage = back(core)
        height, width = (n * scale for n in tiler.size)
        rows, columns = (
            slice(p.start * scale, p.stop * scale) for p in (piece.rows, piece.columns)
        )
        if isinstance(samples, Tensor):
            if restored is None:
                with torch.inference_mode(False):  # or it could not take part in autograd
                    restored = samples.new_empty((*samples.shape[:-2], height, width))
            restored[..., rows, columns] = samples
        else:
            if restored is None:
                restored = np.empty((height, width, *samples.shape[2:]), samples.dtype)
            restored[rows, columns] = samples
        give_back()
        report(done, len(layout.pieces))
    assert restored is not None
    if not sound:
        warn_of_values()
    return restored


def local_window(model: nn.Module, halo: int | None = None) -> Size | None:
    """The window of a network that was converted as a whole, in input pixels; None for others.

    Args:
        model: the network.
        halo: asked for by the user, who then says that the network is a local one.
    """
    plan = getattr(model, "glocal_plan", None)
    if isinstance(plan, Plan) and len(plan.with_status("local")) == len(plan.rows):
        return plan.window
    return None if halo is None else (max(1, halo), max(1, halo))


def room_for(device: torch.device, memory: int | None, held: int) -> float | None:
    """Bytes that a network may take beside a result as large as an image of ``held`` bytes."""
    free = free_memory(device, memory)
    if free is None:
        return None
    return max(0.0, free * SHARE - (held if device.type == "cpu" else 0))


def _pair(tile: int | Size) -> Size:
    return tile if isinstance(tile, tuple) else (tile, tile)

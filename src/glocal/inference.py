"""A network and an image of any size, layout and number type to the restored image.

The whole image goes through the network at once, or, where memory is short or ``tile`` is
given, in overlapping tiles whose overlaps are blended. With an *unconverted* network and
``tile`` at the training size this is the crop-and-stitch inference that TLC is compared with.
"""

import warnings
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from glocal.errors import ArgumentError, GlocalError, GlocalWarning
from glocal.runner import (
    Runner,
    channels_of,
    device_of,
    eval_mode,
    is_out_of_memory,
    resolve_dtype,
)
from glocal.tiles import BLENDS, Axis, Blend, grid

__all__ = ["FALLBACK_TILES", "restore"]

FALLBACK_TILES = (1024, 512, 256)
"""Tile sizes tried in turn when the whole image does not fit into memory."""

AnyImage = TypeVar("AnyImage", Tensor, np.ndarray)
Progress = Callable[[int, int], None]


def restore(
    model: nn.Module,
    image: AnyImage,
    *,
    tile: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    blend: Blend = "linear",
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    output: int | None = None,
    channels: int | None = None,
    progress: Progress | None = None,
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
        tile: tile size in pixels, or None for the whole image. When that does not fit into
            memory, the sizes of ``FALLBACK_TILES`` are tried in turn, with a warning.
        overlap: least overlap of neighbouring tiles in pixels, an eighth of the tile by default.
        blend: "linear" fades neighbouring tiles into each other, "mean" averages them where
            they overlap, "cut" takes each pixel from the tile in whose middle it lies.
        dtype: what the network computes in; its own parameters' type by default. A float32
            network runs in bfloat16 or float16 by autocast.
        device: where the network runs. It is moved there and stays there; the result comes
            back to where the image is.
        output: which of several outputs to take, for networks that return a list.
        channels: channels the network takes, 1 or 3; read from its convolutions by default.
            A grey image is replicated for a 3-channel network and the result averaged.
        progress: called with (tiles done, tiles in all), beginning with none done.

    Returns:
        The restored image, of the kind, shape and number type of ``image`` (super-resolution
        networks: of scale times its height and width).

    Raises:
        ArgumentError: an argument cannot be used, or the network's output is no image.
        GlocalError: not even the smallest tiles fit into memory.
    """
    if blend not in BLENDS:
        raise ArgumentError(f"blend is one of {', '.join(BLENDS)}, got {blend!r}")
    source, back = _as_batch(image)
    runner = Runner(model, resolve_dtype(model, dtype), device_of(model, device), output)
    grey = source.shape[1] == 1 and (channels or channels_of(model)) == 3
    size: tuple[int, int] = (source.shape[-2], source.shape[-1])
    if tile is None:
        plans = [size, *((t, t) for t in FALLBACK_TILES if t < max(size))]
    else:
        plans = [tile if isinstance(tile, tuple) else (tile, tile)]
    grids = [grid(size, plan, None if tile is None else overlap) for plan in plans]
    with eval_mode(model, runner.device), torch.inference_mode():
        for plan, axes in zip(plans, grids, strict=True):
            try:
                restored = _stitch(runner, source, axes, blend, grey, progress)
                break
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            # outside of the handler, whose traceback would keep the tensors alive
            if runner.device.type == "cuda":
                torch.cuda.empty_cache()
            if plan == plans[-1]:
                raise GlocalError(
                    f"not enough memory on {runner.device} for a tile of {plan[0]}×{plan[1]} "
                    "pixels; give a smaller tile, or a narrower dtype"
                )
            smaller = plans[plans.index(plan) + 1][0]
            warnings.warn(
                f"not enough memory for {plan[0]}×{plan[1]} pixels at once; "
                f"going on in blended tiles of {smaller}×{smaller}",
                GlocalWarning,
                stacklevel=2,
            )
    if not torch.isfinite(restored).all():
        warnings.warn(
            "the network gave values that are not finite; use dtype float32 if it is narrower",
            GlocalWarning,
            stacklevel=2,
        )
    return back(restored)


def _stitch(
    runner: Runner,
    source: Tensor,
    axes: tuple[Axis, Axis],
    blend: Blend,
    grey: bool,
    progress: Progress | None,
) -> Tensor:
    """Run the tiles one by one and add them up, weighted; in float32 or wider."""
    rows, columns = axes
    count = len(rows.starts) * len(columns.starts)
    report = progress or (lambda done, total: None)
    report(0, count)
    total: Tensor | None = None
    scale = 1
    for done in range(count):
        row, column = divmod(done, len(columns.starts))
        top, left = rows.starts[row], columns.starts[column]
        cut = source[..., top : top + rows.tile, left : left + columns.tile]
        x = _to_unit(cut.to(runner.device))
        result, tile_scale = runner(x.expand(-1, 3, -1, -1) if grey else x)
        result = result.to(torch.promote_types(result.dtype, torch.float32))
        if grey:
            result = result.mean(1, keepdim=True)
        result = result.to(source.device)
        if count == 1:
            report(1, 1)
            return result
        if total is None:
            scale = tile_scale
            weights = rows.weights(scale, blend), columns.weights(scale, blend)
            shape = (*result.shape[:2], rows.size * scale, columns.size * scale)
            total = result.new_zeros(shape)
        if tile_scale != scale or result.shape[1] != total.shape[1]:
            raise ArgumentError(
                f"the network gave {tuple(result.shape)} for one tile and a scale of {scale} "
                "for another; its tiles do not fit together"
            )
        weight = weights[0][row][:, None] * weights[1][column]
        place = total[
            ...,
            top * scale : (top + rows.tile) * scale,
            left * scale : (left + columns.tile) * scale,
        ]
        place += result * weight.to(result)
        report(done + 1, count)
    assert total is not None
    return total


def _as_batch(image: AnyImage) -> tuple[Tensor, Callable[[Tensor], AnyImage]]:
    """The image as (b, c, h, w) of its own number type, and the way back from floats."""
    kind = "array" if isinstance(image, np.ndarray) else "tensor"
    ndims = (2, 3) if kind == "array" else (3, 4)
    if image.ndim not in ndims or 0 in image.shape:
        raise ArgumentError(
            f"the image is a {kind} of shape {tuple(image.shape)}; expected "
            + ("(h, w) or (h, w, c)" if kind == "array" else "(c, h, w) or (b, c, h, w)")
        )
    if isinstance(image, Tensor):
        if not image.is_floating_point():
            raise ArgumentError(
                f"the image is a tensor of {image.dtype}; expected floats in [0, 1]"
            )
        shape = image.shape

        def to_tensor(x: Tensor) -> Tensor:
            # a clone made outside of inference mode may take part in autograd again
            return x.reshape(*shape[:-3], *x.shape[1:]).to(image.dtype).clone()

        return image.reshape(-1, *shape[-3:]), to_tensor

    native = image.dtype.newbyteorder("=")
    if native not in (np.uint8, np.uint16, np.float16, np.float32, np.float64):
        raise ArgumentError(
            f"the image is an array of {image.dtype}; expected uint8, uint16 or floats"
        )
    writable = np.require(image, native, ["C", "W"])
    source = torch.from_numpy(writable if image.ndim == 3 else writable[..., None])

    def to_array(x: Tensor) -> np.ndarray:
        if native.kind == "u":
            peak = np.iinfo(native).max
            x = x.nan_to_num().clamp(0, 1).mul(peak).round()
        pixels = x[0].permute(1, 2, 0).cpu().numpy().astype(native)
        return np.ascontiguousarray(pixels if image.ndim == 3 else pixels[..., 0])

    return source.permute(2, 0, 1)[None], to_array


def _to_unit(x: Tensor) -> Tensor:
    """Samples of any number type as floats in [0, 1]."""
    return x if x.is_floating_point() else x.to(torch.float32) / torch.iinfo(x.dtype).max

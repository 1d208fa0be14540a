"""Restore several images of one size in one call of the network."""

import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from glocal.engines.runtimes import Runtime
from glocal.errors import ArgumentError, GlocalWarning
from glocal.inference.any_image import restore
from glocal.inference.colours import Grey
from glocal.inference.measure import BYTES_PER_PIXEL
from glocal.inference.memory import memory_budget
from glocal.inference.options import as_tiles
from glocal.inference.placing import device_of
from glocal.inference.runtime import model_runner
from glocal.inference.tensors import as_batch
from glocal.scanning.modules import eval_mode
from glocal.shortages import is_out_of_memory
from glocal.texts import one_line, size_text

__all__ = ["AUTO_IMAGES", "AUTO_PIXELS_ON_CPU", "Batches", "restore_together"]

AUTO_IMAGES = 16
"""Maximum number of images in an automatic batch."""

AUTO_PIXELS_ON_CPU = 2**14
"""Maximum number of pixels in an automatic batch on the CPU. No measured network slows down at this
size; some do at four times as many pixels, when temporaries exceed the caches."""


def restore_together(
    model: nn.Module,
    images: Sequence[np.ndarray],
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    output: int | str | None = None,
    channels: int | None = None,
    grey: Grey = "channels",
    runtime: Runtime = "torch",
    strength: float = 1.0,
) -> list[np.ndarray]:
    """Restore images of one shape and dtype in one call, without tiles.

    Each result equals that of :func:`glocal.restore` up to float rounding, which may depend on the
    batch size.

    >>> photos = [np.full((9, 8, 3), value, np.uint8) for value in (10, 200)]
    >>> [int(restored[0, 0, 0]) for restored in restore_together(nn.Identity(), photos)]
    [10, 200]

    Args:
        model: maps (b, c, h, w) in [0, 1] to the same range.
        images: (h, w, c) arrays of uint8 or uint16.
        dtype, device, output, channels, grey, runtime, strength: as for :func:`glocal.restore`.

    Raises:
        ArgumentError: an argument is invalid, or the network's output is not an image.
        RuntimeError: the images together exceed memory.
    """
    sources, backs = zip(*map(as_batch, images), strict=True)
    size = sources[0].shape[-2], sources[0].shape[-1]
    runner = model_runner(
        model, sources[0].shape[1], size, dtype=dtype, device=device, output=output,
        channels=channels, grey=grey, runtime=runtime, strength=strength,
    )  # fmt: skip
    with eval_mode(model, runner.device), torch.inference_mode():
        restored = runner.restore(torch.cat(sources))[0]
        return [back(image[None]) for back, image in zip(backs, restored, strict=True)]


@dataclass
class Batches:
    """Chooses the batch size and runs batches; shrinks it after a failure.

    Attributes:
        model: the network.
        most: maximum number of images per call. "auto" is :data:`AUTO_IMAGES`, on the CPU with at
            most :data:`AUTO_PIXELS_ON_CPU` pixels in total; less if memory may be short.
        options: those of :func:`glocal.restore`. Images in tiles or turned are not batched,
            nor are those that fall back on a full-image result.
    """

    model: nn.Module
    most: int | Literal["auto"] = "auto"
    options: dict[str, Any] = field(default_factory=dict)
    _images: int = field(init=False, repr=False)
    _pixels: float = field(default=math.inf, init=False, repr=False)

    def __post_init__(self) -> None:
        """Derive the limits.

        Raises:
            ArgumentError: `most` is below 1.
        """
        if self.most != "auto" and self.most < 1:
            raise ArgumentError(f"batch must be at least 1 image or 'auto', got {self.most}")
        device = device_of(self.model, self.options.get("device"))
        tiles = as_tiles(self.options.get("tiles", "auto"))
        twice = self.options.get("ensemble", 1) != 1 or self.options.get("fallback") is not None
        in_tiles = tiles.given_size is not None or tiles.halo is not None or tiles.blended
        self._images = 1 if in_tiles or twice else AUTO_IMAGES if self.most == "auto" else self.most
        if self._images > 1:
            budget = memory_budget(device, self.options.get("memory"), 0)
            self._pixels = math.inf if budget is None else budget // BYTES_PER_PIXEL
        if self.most == "auto" and device.type == "cpu":
            self._pixels = min(self._pixels, AUTO_PIXELS_ON_CPU)

    @property
    def images(self) -> int:
        """Maximum number of images per call."""
        return self._images

    def group(self, image: np.ndarray) -> tuple[Hashable, int]:
        """Return the key that images of a batch share, and their maximum number."""
        fitting = self._pixels // math.prod(image.shape[:2])
        return (image.shape, image.dtype), int(max(1, min(self._images, fitting)))

    def restore(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Restore images of one group; a failed call makes later batches smaller.

        Raises:
            Exception: what the network raises.
        """
        if len(images) == 1:
            return [restore(self.model, images[0], **self.options)]
        names = ("dtype", "device", "output", "channels", "grey", "runtime", "strength")
        whole = {name: self.options[name] for name in names if name in self.options}
        try:
            return restore_together(self.model, images, **whole)
        except Exception as error:
            self._shrink(error, len(images), images[0].shape[:2])
            raise

    def _shrink(self, error: Exception, count: int, size: tuple[int, ...]) -> None:
        batch = f"a batch of {count} images of {size_text((size[0], size[1]))}"
        if is_out_of_memory(error):
            self._pixels = count * math.prod(size) // 2
            text = f"not enough memory for {batch}; continuing with smaller batches"
        else:  # usually a network that only takes single images
            self._images = 1
            why = one_line(error.__cause__ or error)
            text = f"the network failed on {batch} ({why}); continuing one by one"
        # without a cause, the same error comes again for the single image
        if error.__cause__ or not isinstance(error, ArgumentError):
            warnings.warn(text, GlocalWarning, stacklevel=4)

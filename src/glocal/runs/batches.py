"""Images of one size through a network in one call, where that is worth it and fits."""

import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from glocal.errors import ArgumentError, GlocalWarning
from glocal.inference.measure import BYTES_PER_PIXEL
from glocal.inference.memory import memory_budget
from glocal.inference.options import as_tiles
from glocal.inference.restore import restore
from glocal.inference.runner import device_of, eval_mode, is_out_of_memory, model_runner
from glocal.inference.tensors import as_batch, checked_finite
from glocal.texts import one_line, size_text

__all__ = ["AUTO_IMAGES", "AUTO_PIXELS_ON_CPU", "Batches", "restore_together"]

AUTO_IMAGES = 16
"""Images of an automatic batch, at most."""

AUTO_PIXELS_ON_CPU = 2**14
"""Pixels of all its images on the CPU: of the networks that were measured none is slower with as
many, and some are with four times as many, whose temporaries no longer fit caches and heap."""


def restore_together(
    model: nn.Module,
    images: Sequence[np.ndarray],
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    output: int | None = None,
    channels: int | None = None,
) -> list[np.ndarray]:
    """Restore images of one shape and dtype in one call of the network, each whole.

    What comes out is what :func:`glocal.restore` gives for each image, up to the float
    rounding of a network's kernels, which may depend on the size of the batch.

    >>> photos = [np.full((9, 8, 3), value, np.uint8) for value in (10, 200)]
    >>> [int(restored[0, 0, 0]) for restored in restore_together(nn.Identity(), photos)]
    [10, 200]

    Args:
        model: takes and gives (b, c, h, w) in [0, 1].
        images: (h, w, c) arrays of uint8 or uint16.
        dtype: as for :func:`glocal.restore`, and so are the other options.
        device: where the network runs.
        output: which of several outputs to take.
        channels: channels that the network takes.

    Raises:
        ArgumentError: an argument cannot be used, or the network's output is no image.
        RuntimeError: memory is short of all images at once; nothing smaller is tried.
    """
    sources, backs = zip(*map(as_batch, images), strict=True)
    runner = model_runner(
        model, sources[0].shape[1], dtype=dtype, device=device, output=output, channels=channels
    )
    with eval_mode(model, runner.device), torch.inference_mode():
        restored = checked_finite(runner.restore(torch.cat(sources))[0])
        return [back(image[None]) for back, image in zip(backs, restored, strict=True)]


@dataclass
class Batches:
    """How many images share a call, and the calls; it learns what does not fit.

    Attributes:
        model: the network.
        most: images of a call at most, or "auto": :data:`AUTO_IMAGES`, on the CPU of
            :data:`AUTO_PIXELS_ON_CPU` together. Fewer where they might take more memory than
            there is.
        options: those of :func:`glocal.restore`. Where they ask for tiles, images go alone.
    """

    model: nn.Module
    most: int | Literal["auto"] = "auto"
    options: dict[str, Any] = field(default_factory=dict)
    _images: int = field(init=False, repr=False)
    _pixels: float = field(default=math.inf, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse what is no number of images."""
        if self.most != "auto" and self.most < 1:
            raise ArgumentError(f"batch={self.most}; give a number of images, or 'auto'")
        device = device_of(self.model, self.options.get("device"))
        tiles = as_tiles(self.options.get("tiles", "auto"))
        in_tiles = tiles.given_size is not None or tiles.halo is not None or tiles.blended
        self._images = 1 if in_tiles else AUTO_IMAGES if self.most == "auto" else self.most
        if self._images > 1:
            budget = memory_budget(device, self.options.get("memory"), 0)
            self._pixels = math.inf if budget is None else budget // BYTES_PER_PIXEL
        if self.most == "auto" and device.type == "cpu":
            self._pixels = min(self._pixels, AUTO_PIXELS_ON_CPU)

    @property
    def images(self) -> int:
        """How many images share a call, at most."""
        return self._images

    def lot(self, image: np.ndarray) -> tuple[Hashable, int]:
        """What images that may share a call have in common, and how many of these may."""
        fitting = self._pixels // math.prod(image.shape[:2])
        return (image.shape, image.dtype), int(max(1, min(self._images, fitting)))

    def restore(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Restore images of one lot; after a call for several has failed, later lots are smaller.

        Raises:
            Exception: whatever the network raises.
        """
        if len(images) == 1:
            return [restore(self.model, images[0], **self.options)]
        whole = {name: self.options.get(name) for name in ("dtype", "device", "output", "channels")}
        try:
            return restore_together(self.model, images, **whole)
        except Exception as error:
            self._learn(error, len(images), images[0].shape[:2])
            raise

    def _learn(self, error: Exception, count: int, size: tuple[int, ...]) -> None:
        what = f"{count} images of {size_text((size[0], size[1]))} at once"
        if is_out_of_memory(error):
            self._pixels = count * math.prod(size) // 2
            said = f"not enough memory for {what}; going on with smaller batches"
        else:  # networks that take one image only, mostly
            self._images = 1
            said = f"the network failed on {what} ({one_line(error)}); going on one by one"
        if not isinstance(error, ArgumentError):  # which a single image will tell
            warnings.warn(said, GlocalWarning, stacklevel=4)

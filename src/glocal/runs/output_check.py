"""Check before a run that the format of a file can hold the result."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from glocal.images.limits import check_format, max_side
from glocal.images.sample_files import Header
from glocal.inference.restore import restore

__all__ = ["LARGEST_SCALE", "OutputCheck"]

LARGEST_SCALE = 16
"""No known network enlarges images by more. Only images that may exceed a format are worth a run of
the network on a small one, which tells its scale."""

_PROBED_SIDE = 64
_PROBED_OPTIONS = ("dtype", "device", "output", "channels", "grey")


class OutputCheck:
    """Checks the size of results before they are computed; callable with path and header.

    The scale of the network is measured at the first image that may become too large.
    """

    def __init__(self, model: nn.Module, options: Mapping[str, Any]) -> None:
        """Remember how the network runs.

        Args:
            model: the network, converted or not.
            options: those of `glocal.restore`.
        """
        self._model = model
        self._options = {n: options[n] for n in _PROBED_OPTIONS if n in options}
        self._scales: dict[int, int] = {}

    def __call__(self, destination: Path, header: Header) -> None:
        """Check that the format can hold the restored image.

        Raises:
            ImageError: the suffix is unknown, or the result is too large for the format.
        """
        check_format(destination, header.size)
        if max(header.size) * LARGEST_SCALE > max_side(destination):
            scale = self._scale(header.channels)
            height, width = header.size
            check_format(destination, (height * scale, width * scale))

    def _scale(self, channels: int) -> int:
        """How much the network enlarges images; 1 if it does not run on a small one."""
        if channels not in self._scales:
            small = np.full((_PROBED_SIDE, _PROBED_SIDE, channels), 128, np.uint8)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # the run on the image gives them again
                    restored = restore(self._model, small, tiles=None, **self._options)
                self._scales[channels] = math.ceil(restored.shape[0] / _PROBED_SIDE)
            except Exception:  # the run on the image says why
                self._scales[channels] = 1
        return self._scales[channels]

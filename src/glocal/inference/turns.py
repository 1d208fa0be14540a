"""Self-ensemble: the mean of the results on an image that is flipped and turned.

Source: Timofte et al., Seven Ways to Improve Example-Based Single Image Super Resolution,
CVPR 2016, section 3.6.
"""

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from glocal.errors import ArgumentError
from glocal.inference.inputs import InputValue
from glocal.inference.run import Progress
from glocal.inference.tensors import AnyImage, as_batch, as_floats

__all__ = ["TURNS", "Ensemble", "check_ensemble", "mean_over_turns"]

Ensemble: TypeAlias = Literal[1, 8]
"""Number of results that are averaged: 1 is the plain result, 8 that of all flips and turns."""

TURNS = tuple((quarters, flipped) for flipped in (False, True) for quarters in range(4))
"""The flips and quarter turns of a rectangle."""

Run: TypeAlias = Callable[[Tensor, Mapping[str, InputValue], Progress], Tensor]
"""Restores a (b, c, h, w) of floats, with its inputs and a report of its tiles."""


def check_ensemble(ensemble: int) -> None:
    """Check the number of results to average.

    Raises:
        ArgumentError: it is neither 1 nor 8.
    """
    if ensemble not in (1, len(TURNS)):
        raise ArgumentError(
            f"ensemble={ensemble}; give {len(TURNS)}, which averages all flips and turns, or 1"
        )


def mean_over_turns(
    image: AnyImage,
    inputs: Mapping[str, InputValue],
    progress: Progress | None,
    run: Run,
) -> AnyImage:
    """Return the mean of the restored flips and turns, each turned back, in the form of the image.

    Args:
        image: as for `as_batch`.
        inputs: beside the image; maps are turned with it.
        progress: called with tiles of all eight runs.
        run: the restoration.
    """
    source, convert = as_batch(image)
    source = as_floats(source)
    total = torch.zeros(())
    for number, turn in enumerate(TURNS):
        turned = {name: _turned_map(value, turn) for name, value in inputs.items()}
        result = run(_turned(source, turn), turned, _share(progress, number))
        total = total + _turned_back(result, turn)
    return convert(total / len(TURNS))


def _share(progress: Progress | None, number: int) -> Progress:
    """Report the tiles of one run as part of all."""

    def report(done: int, total: int) -> None:
        if progress is not None and (done or not number):
            progress(number * total + done, len(TURNS) * total)

    return report


def _turned(x: Tensor, turn: tuple[int, bool]) -> Tensor:
    quarters, flipped = turn
    x = torch.rot90(x, quarters, (-2, -1))
    return (x.flip(-1) if flipped else x).contiguous()


def _turned_back(x: Tensor, turn: tuple[int, bool]) -> Tensor:
    quarters, flipped = turn
    return torch.rot90(x.flip(-1) if flipped else x, -quarters, (-2, -1))


def _turned_map(value: InputValue, turn: tuple[int, bool]) -> InputValue:
    """A map beside the image, turned with it; numbers stay."""
    if isinstance(value, Tensor):
        return _turned(value, turn)
    if not isinstance(value, np.ndarray) or value.ndim < 2:
        return value
    quarters, flipped = turn
    value = np.rot90(value, quarters, (0, 1))
    return np.ascontiguousarray(value[:, ::-1] if flipped else value)

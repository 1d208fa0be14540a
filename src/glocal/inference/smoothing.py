"""Smooth the statistics of crops over the frames of a video.

Statistics of single frames change with the noise of each, and with them the picture, which
flickers. An exponential moving average changes slowly. It begins anew where the scene changes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from glocal.errors import ArgumentError
from glocal.ops.crops import CropStatistics, Record

__all__ = ["Smoother", "Smoothing"]


@dataclass(frozen=True)
class Smoothing:
    """How long the statistics of a frame count: its share falls to 1/e in this time.

    Attributes:
        length: of that time.
        unit: of the length, seconds or frames.
    """

    length: float
    unit: str

    @classmethod
    def of(cls, text: str) -> "Smoothing":
        """Read "0.5s", or a number of frames.

        >>> Smoothing.of("0.5s"), Smoothing.of("12")
        (Smoothing(length=0.5, unit='s'), Smoothing(length=12.0, unit='frames'))

        Raises:
            ArgumentError: it is neither.
        """
        number = text.strip().removesuffix("s")
        try:
            length = float(number)
        except ValueError:
            length = math.nan
        if not 0 < length < math.inf:
            raise ArgumentError(f"{text!r} is no time to smooth over; give 0.5s, or frames as 12")
        return cls(length, "s" if text.strip().endswith("s") else "frames")

    def decay(self, elapsed_s: float) -> float:
        """The share of the past that is left at the next frame."""
        return math.exp(-(elapsed_s if self.unit == "s" else 1) / self.length)

    def __str__(self) -> str:
        """In words."""
        return f"{self.length:g} {self.unit}"


class Smoother:
    """An exponential moving average over frames; call it with the statistics of each.

    The first frames of a scene have their plain mean. A frame may be computed again: until `begin`
    is called for the next, it counts once.
    """

    def __init__(self) -> None:
        self._before: tuple[Tensor, ...] = ()
        self._after: tuple[Tensor, ...] = ()
        self._frames = 0
        self._decay = 0.0

    def begin(self, decay: float, *, is_cut: bool) -> None:
        """Begin the next frame.

        Args:
            decay: share of the past that is left.
            is_cut: a new scene begins.
        """
        self._before = () if is_cut else self._after
        self._frames = self._frames + 1 if self._before else 0
        self._decay = decay

    def __call__(self, statistics: CropStatistics) -> CropStatistics:
        """Return the average of the statistics up to this frame."""
        values = [value for record in statistics.records for value in record.values]
        if self._before:
            share = max(1 - self._decay, 1 / (self._frames + 1))
            values = [torch.lerp(a, b, share) for a, b in zip(self._before, values, strict=True)]
        self._after = tuple(values)
        rest = iter(values)
        records = tuple(
            Record(record.size, tuple(next(rest) for _ in record.values))
            for record in statistics.records
        )
        return replace(statistics, records=records)

    def state(self) -> dict[str, Tensor]:
        """The average after this frame, by name, for `restore_state`."""
        named = {f"value-{n:04}": each.detach().cpu() for n, each in enumerate(self._after)}
        return {"frames": torch.tensor([self._frames]), **named}

    def restore_state(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Go on from a state."""
        names = sorted(name for name in state if name != "frames")
        self._after = tuple(state[name].to(device) for name in names)
        self._frames = int(state["frames"].item())

"""The result of `analyze`: distances, ranking and verdict."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glocal.ops.windows import Size
from glocal.scanning.plan import Status
from glocal.study.shift.distances import Values, distance, mean_shift, varying
from glocal.texts import size_text, text_table

__all__ = ["Shift", "StatisticsShift"]

_EQUAL = 1e-9
"""A smaller change of a distance is rounding."""


@dataclass(frozen=True, eq=False)
class Shift:
    """Samples of the statistic of one global operation.

    Attributes:
        path: module path of the operation.
        operation: its name, such as "instance_norm".
        line: "file.py:12", the line of the network's source that calls it.
        statistic: what is measured, such as "mean, inverse deviation".
        crops: (samples, channels) of the original network on training crops.
        full: (samples, channels) of the original network on full images, one sample for each.
        local: (samples, channels) under TLC on full images; 64 samples for each image if the
            operation is local.
        from_crops: (samples, channels) that pixels of full images take from crops; likewise.
        status: "local", "kept" or "global", see `Row`.
    """

    path: str
    operation: str
    line: str
    statistic: str
    crops: Values
    full: Values
    local: Values
    from_crops: Values
    status: Status = "local"

    @property
    def channels(self) -> int:
        """Number of channels: at most `statistic.CHANNELS`, evenly spaced."""
        return int(self.crops.shape[1])

    @property
    def constant_channels(self) -> int:
        """Number of channels that are constant over the crops; no distance includes them."""
        return self.channels - int(varying(self.crops).sum())

    def distance(self, values: Values) -> float:
        """Return the distance of `values` from the crops, in deviations over the crops.

        It is the mean over channels of Wasserstein-1 distance ÷ standard deviation over the crops.
        Constant channels are ignored; nan if all are constant.
        """
        return distance(self.crops, values)

    def mean_shift(self, values: Values) -> float:
        """Return the mean distance of a mean from that over crops, ÷ the deviation there."""
        return mean_shift(self.crops, values)

    def noise(self) -> float:
        """Return the distance of one half of the crops from the other, which no method can beat.

        It is that of samples of one distribution; nan if a half is constant.
        """
        return distance(self.crops[::2], self.crops[1::2]) if len(self.crops) > 3 else math.nan

    def standardised(self, values: Values) -> Values:
        """Return (`values` − mean over crops) ÷ deviation, without constant channels."""
        used = varying(self.crops)
        crops = self.crops[:, used]
        standard: Values = (values[:, used] - crops.mean(0)) / crops.std(0)
        return standard


@dataclass(frozen=True, eq=False)
class StatisticsShift:
    """The shift of all statistics of a network; print it for a table.

    Attributes:
        train_size: (height, width) of the training crops in pixels.
        window: (height, width) of the window in input pixels.
        image_count: number of full images.
        shifts: one for each global operation, in the order in which they run.
    """

    train_size: Size
    window: Size
    image_count: int
    shifts: tuple[Shift, ...]

    def ranking(self) -> tuple[Shift, ...]:
        """Return the shifts, largest distance on full images first, constant ones last."""
        distances = {id(shift): shift.distance(shift.full) for shift in self.shifts}

        def key(shift: Shift) -> float:
            far = distances[id(shift)]
            return math.inf if math.isnan(far) else -far

        return tuple(sorted(self.shifts, key=key))

    def mean_distances(self) -> tuple[float, float, float]:
        """Return the mean distance on full images, under TLC and from crops, or nan."""
        distances = self._distances(self.shifts)
        if not distances:
            return math.nan, math.nan, math.nan
        full, local, from_crops = np.mean(distances, axis=0)
        return float(full), float(local), float(from_crops)

    def noise(self) -> float:
        """Return the mean distance of two halves of the training crops; nan without any."""
        distances = [shift.noise() for shift in self.shifts]
        finite = [each for each in distances if not math.isnan(each)]
        return float(np.mean(finite)) if finite else math.nan

    def verdict(self) -> str:
        """Return one sentence: what brings the statistics closer to those of training?"""
        converted = [s for s in self.shifts if s.status == "local"]
        distances = self._distances(converted)
        if any(len(shift.crops) < 2 for shift in converted):
            return (
                "a single training crop has no deviation to measure distances in; take more crops"
            )
        if not distances:
            return "no local operation has a statistic that varies; TLC changes nothing"
        closer = sum(local < full - _EQUAL for full, local, _ in distances)
        farther = sum(local > full + _EQUAL for full, local, _ in distances)
        full, local, from_crops = self.mean_distances()
        change = f"mean distance {full:.2f} → {local:.2f}"
        crops, noise = f"; with statistics from crops {from_crops:.2f}", self.noise()
        if not math.isnan(noise):
            crops += f" (two halves of the training crops: {noise:.2f})"
        if not closer and not farther:
            return (
                f"TLC changes no statistic because the window covers the images ({change}){crops}"
            )
        count = f"{closer} of {len(distances)} operations"
        if local < full:
            return f"TLC brings the statistics of {count} closer to training: {change}{crops}"
        return (
            f"TLC does not help here; it brings the statistics of {count} closer to training "
            f"and of {farther} farther away: {change}{crops}"
        )

    def to_json(self) -> str:
        """Return the distances as JSON text; null for constant statistics."""
        full, local, from_crops = map(_number, self.mean_distances())
        data = {
            "train_size": self.train_size,
            "window": self.window,
            "image_count": self.image_count,
            "verdict": self.verdict(),
            "mean_distance": {
                "full": full,
                "local": local,
                "from_crops": from_crops,
                "noise": _number(self.noise()),
            },
            "operations": [_as_dict(shift) for shift in self.ranking()],
        }
        return json.dumps(data, indent=2, ensure_ascii=False)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the ranking as a table of text, headings first."""
        ways = ("TLC", "crops")
        head = ("module", "operation", "full image", *ways, "mean shift", *ways, "statistic")
        table: list[tuple[str, ...]] = [head]
        for shift in self.ranking():
            numbers = (
                f"{measure(values):.2f}"
                for measure in (shift.distance, shift.mean_shift)
                for values in (shift.full, shift.local, shift.from_crops)
            )
            name = shift.statistic + ("" if shift.status == "local" else " (global)")
            table.append((shift.path or "(the network)", shift.operation, *numbers, name))
        return table

    def __str__(self) -> str:
        head = (
            f"training size {size_text(self.train_size)}, window {size_text(self.window)} "
            f"(input pixels), {self.image_count} image{'s' * (self.image_count != 1)}\n"
        )
        if not self.shifts:
            return head + "the network has no global operations; there is nothing to analyze"
        return f"{head}{text_table(self.rows())}\n{self.verdict()}"

    @staticmethod
    def _distances(shifts: Sequence[Shift]) -> list[tuple[float, float, float]]:
        """Return distances on full images, under TLC and from crops, if not constant."""
        found = (
            tuple(map(shift.distance, (shift.full, shift.local, shift.from_crops)))
            for shift in shifts
        )
        return [(full, local, crops) for full, local, crops in found if not math.isnan(full)]


def _as_dict(shift: Shift) -> dict[str, Any]:
    samples = {"full": shift.full, "local": shift.local, "from_crops": shift.from_crops}
    return {
        "path": shift.path,
        "operation": shift.operation,
        "line": shift.line,
        "statistic": shift.statistic,
        "status": shift.status,
        "channels": shift.channels,
        "constant_channels": shift.constant_channels,
        "samples": {"crops": len(shift.crops)} | {name: len(v) for name, v in samples.items()},
        "distance": {name: _number(shift.distance(v)) for name, v in samples.items()},
        "mean_shift": {name: _number(shift.mean_shift(v)) for name, v in samples.items()},
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value

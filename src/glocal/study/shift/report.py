"""What an analysis of statistics has found: distances, ranking, verdict; printable, and JSON."""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from glocal.ops.windows import Size
from glocal.scanning.plan import Status
from glocal.study.shift.distances import Values, distance, mean_shift, varying
from glocal.texts import size_text, text_table

__all__ = ["Shift", "StatisticsShift"]

_EQUAL = 1e-9  # a smaller change of a distance is rounding


@dataclass(frozen=True, eq=False)
class Shift:
    """The statistic of one global operation, (samples, channels) each.

    Attributes:
        path, operation, line: module path, name and line of the network's source.
        how: what is measured ("adaptive_avg_pool2d", "mean, inverse deviation").
        crops: over training crops, the network global.
        full: over full images, the network global; one sample an image.
        local: over full images under TLC; 64 samples an image for a local operation.
        status: "local", "kept" or "global", as in the plan of the conversion.
    """

    path: str
    operation: str
    line: str
    how: str
    crops: Values
    full: Values
    local: Values
    status: Status = "local"

    @property
    def channels(self) -> int:
        """How many channels there are; `statistic.CHANNELS` at most, evenly spaced."""
        return int(self.crops.shape[1])

    @property
    def left_out(self) -> int:
        """How many of them do not vary over the crops, and are in no distance."""
        return self.channels - int(varying(self.crops).sum())

    def distance(self, values: Values) -> float:
        """How far `values` are from those over crops, in deviations over crops.

        Wasserstein-1 distance of each channel ÷ its standard deviation over crops, mean over
        the channels that vary over crops; nan if none does.
        """
        return distance(self.crops, values)

    def mean_shift(self, values: Values) -> float:
        """Mean over those channels of |mean − mean over crops| ÷ deviation over crops."""
        return mean_shift(self.crops, values)

    def standardised(self, values: Values) -> Values:
        """`values` of the channels that vary, less the mean over crops, in deviations."""
        used = varying(self.crops)
        crops = self.crops[:, used]
        standard: Values = (values[:, used] - crops.mean(0)) / crops.std(0)
        return standard


@dataclass(frozen=True, eq=False)
class StatisticsShift:
    """The shift of all statistics of a network; print it for a table.

    Attributes:
        train_size, window: (height, width) in input pixels.
        images: how many full images were measured.
        shifts: one for each global operation, in the order in which they run.
    """

    train_size: Size
    window: Size
    images: int
    shifts: tuple[Shift, ...]

    def ranking(self) -> tuple[Shift, ...]:
        """Largest distance on full images first; what does not vary over crops last."""
        distances = {id(shift): shift.distance(shift.full) for shift in self.shifts}

        def key(shift: Shift) -> float:
            far = distances[id(shift)]
            return math.inf if math.isnan(far) else -far

        return tuple(sorted(self.shifts, key=key))

    def mean_distances(self) -> tuple[float, float]:
        """Mean distance of all operations on full images, and under TLC; nan if none varies."""
        pairs = self._pairs(self.shifts)
        if not pairs:
            return math.nan, math.nan
        full, local = np.mean(pairs, axis=0)
        return float(full), float(local)

    def verdict(self) -> str:
        """One sentence: whether TLC brings the statistics nearer to those of training."""
        converted = [s for s in self.shifts if s.status == "local"]
        pairs = self._pairs(converted)
        if any(len(shift.crops) < 2 for shift in converted):
            return "one training crop has no deviation to measure distances in: take more crops"
        if not pairs:
            return "no local operation has a statistic that varies: TLC changes nothing"
        nearer = sum(local < full - _EQUAL for full, local in pairs)
        farther = sum(local > full + _EQUAL for full, local in pairs)
        full, local = self.mean_distances()
        change = f"mean distance {full:.2f} → {local:.2f}"
        if not nearer and not farther:
            return f"TLC changes no statistic: the window covers the images ({change})"
        count = f"{nearer} of {len(pairs)} operations"
        if local < full:
            return f"TLC brings the statistics of {count} nearer to training: {change}"
        return (
            f"TLC does not help here: it brings the statistics of {count} nearer to training "
            f"and of {farther} farther away: {change}"
        )

    def to_json(self) -> str:
        """The distances as JSON text, without the samples; null for what does not vary."""
        full, local = self.mean_distances()
        data = {
            "train_size": self.train_size,
            "window": self.window,
            "images": self.images,
            "verdict": self.verdict(),
            "mean_distance": {"full": _number(full), "local": _number(local)},
            "operations": [_as_dict(shift) for shift in self.ranking()],
        }
        return json.dumps(data, indent=2, ensure_ascii=False)

    def rows(self) -> list[tuple[str, ...]]:
        """The table of the ranking as text, its head first."""
        head = ("module", "operation", "full image", "TLC", "mean shift", "TLC", "how")
        table: list[tuple[str, ...]] = [head]
        for shift in self.ranking():
            numbers = (
                f"{measure(values):.2f}"
                for measure in (shift.distance, shift.mean_shift)
                for values in (shift.full, shift.local)
            )
            how = shift.how if shift.status == "local" else f"{shift.how} (global)"
            table.append((shift.path or "(the network)", shift.operation, *numbers, how))
        return table

    def __str__(self) -> str:
        head = (
            f"training size {size_text(self.train_size)}, window {size_text(self.window)} "
            f"(input pixels), {self.images} images\n"
        )
        if not self.shifts:
            return head + "no global operations: nothing to analyse"
        return f"{head}{text_table(self.rows())}\n{self.verdict()}"

    @staticmethod
    def _pairs(shifts: tuple[Shift, ...] | list[Shift]) -> list[tuple[float, float]]:
        """(distance on full images, under TLC) of the operations whose statistic varies."""
        pairs = [(shift.distance(shift.full), shift.distance(shift.local)) for shift in shifts]
        return [pair for pair in pairs if not math.isnan(pair[0])]


def _as_dict(shift: Shift) -> dict[str, Any]:
    ways = {"full": shift.full, "local": shift.local}
    return {
        "path": shift.path,
        "operation": shift.operation,
        "line": shift.line,
        "how": shift.how,
        "status": shift.status,
        "channels": shift.channels,
        "left_out": shift.left_out,
        "samples": {"crops": len(shift.crops)} | {way: len(v) for way, v in ways.items()},
        "distance": {way: _number(shift.distance(values)) for way, values in ways.items()},
        "mean_shift": {way: _number(shift.mean_shift(values)) for way, values in ways.items()},
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value

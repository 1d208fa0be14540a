"""What an evaluation measures, how, and what follows from it."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from glocal.metrics import metric_named
from glocal.ops.windows import Size
from glocal.study.evaluation.ways import FULL_IMAGE
from glocal.study.intervals import Interval, interval_of, paired

__all__ = ["DEGRADED", "Evaluation", "Failure", "Protocol", "Record"]

DEGRADED = "degraded"
"""Name of the row of the images as they came."""


@dataclass(frozen=True)
class Protocol:
    """Whatever decides the numbers of an evaluation.

    Attributes:
        network: what it is called.
        weights_sha256: of all parameters and buffers.
        train_size: (height, width) of the crops it was trained on.
        ways: name and what is done, of every way.
        plans: what became of each global operation, of every converted way.
        metrics: name and protocol, of every metric.
        round8, border: how images are prepared for the metrics, see `glocal.metrics`.
        data: folder of the data set.
        images: how many of its images.
        data_sha256: of their names and the sizes of their files.
        device, dtype: where the network runs and what it computes in.
        machine: processor, or graphics processor.
        threads: how many processor threads torch uses.
        versions: of glocal, Python and torch.
    """

    network: str
    weights_sha256: str
    train_size: Size
    ways: Mapping[str, str]
    plans: Mapping[str, str]
    metrics: Mapping[str, str]
    round8: bool
    border: int
    data: str
    images: int
    data_sha256: str
    device: str
    dtype: str
    machine: str
    threads: int
    versions: Mapping[str, str]

    def sentences(self) -> tuple[str, ...]:
        """The protocol in words, for below a table."""
        height, width = self.train_size
        crop = f", {self.border} pixels cut from each border" if self.border else ""
        rounded = "clamped and rounded to 8 bits" if self.round8 else "neither clamped nor rounded"
        count = "1 image" if self.images == 1 else f"{self.images} images"
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return (
            f"Network: {self.network}, trained on crops of {height}×{width} pixels, weights "
            f"{self.weights_sha256[:12]}. Data: {self.data}, {count}.",
            *(f"{name}: {text}." for name, text in self.ways.items()),
            *(f"{name}: {text}" for name, text in self.metrics.items()),
            f"For the metrics, restored image and target are {rounded}{crop}.",
            "Differences are paired image by image: their mean with Student's 95 % interval.",
            "Seconds: one run an image, after a warm-up, files not counted; the mean. Memory: the "
            "most that is taken beyond what was there before the run; the largest.",
            f"Run on {self.machine}, {self.device}, {self.dtype}, {threads}; {versions}.",
        )


@dataclass(frozen=True)
class Record:
    """One image, restored in one way.

    Attributes:
        image: its name in the data set.
        way: name of the way, or `DEGRADED`.
        size: (height, width) of the degraded image.
        metrics: value of each metric, empty where there is no target.
        seconds: for restoring it, None for the degraded image.
        peak_memory_mib: what that took at most, see `inference.memory`; None where not measured.
    """

    image: str
    way: str
    size: Size
    metrics: Mapping[str, float]
    seconds: float | None = None
    peak_memory_mib: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON has it, which knows no infinity."""
        values = {
            name: value if math.isfinite(value) else str(value)
            for name, value in self.metrics.items()
        }
        return {**asdict(self), "metrics": values}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> "Record":
        """What `to_json` made."""
        height, width = line["size"]
        metrics = {name: float(value) for name, value in line["metrics"].items()}
        return cls(**{**line, "size": (height, width), "metrics": metrics})


@dataclass(frozen=True)
class Failure:
    """An image that could not be read, or not be restored in one way.

    Attributes:
        image: its name in the data set.
        way: name of the way, empty where it failed before any.
        error: why, in one line.
    """

    image: str
    way: str
    error: str


@dataclass(frozen=True)
class Evaluation:
    """What was measured: records one by one, their means, and paired differences.

    Means and differences are of the images that every way restored, so that all rows of a table
    speak of the same images. (A way that fails on all images has none, and does not count.)

    Attributes:
        protocol: how.
        names: of all images, in order.
        records: of every image and way, image by image.
        failures: what went wrong.
    """

    protocol: Protocol
    names: tuple[str, ...]
    records: tuple[Record, ...]
    failures: tuple[Failure, ...] = ()

    @property
    def ways(self) -> tuple[str, ...]:
        """Names of the rows: `DEGRADED`, where it can be compared with a target, and the ways."""
        there = {record.way for record in self.records}
        return tuple(way for way in (DEGRADED, *self.protocol.ways) if way in there)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, none where no image has a target."""
        there = {name for record in self.records for name in record.metrics}
        return tuple(name for name in self.protocol.metrics if name in there)

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images that every way restored, in order."""
        ways = set(self.ways) - {DEGRADED}
        done: dict[str, set[str]] = {}
        for record in self.records:
            done.setdefault(record.image, set()).add(record.way)
        return tuple(image for image, there in done.items() if ways <= there)

    def of(self, way: str) -> list[Record]:
        """The records of a way that count for its mean."""
        images = set(self.images)
        return [each for each in self.records if each.way == way and each.image in images]

    def mean(self, way: str, metric: str) -> Interval | None:
        """Mean of a metric over the images, with the interval; None where there are no values."""
        values = list(self._values(way, metric).values())
        return interval_of(values) if values else None

    def paired(self, way: str, metric: str, other: str = FULL_IMAGE) -> Interval | None:
        """Mean of way − other over the images, with the interval; None where there are none."""
        first, second = self._values(way, metric), self._values(other, metric)
        common = [image for image in first if image in second]
        if not common:
            return None
        ours, theirs = [first[image] for image in common], [second[image] for image in common]
        if not all(map(math.isfinite, ours + theirs)):  # PSNR of equal images
            return Interval(math.nan, math.nan, len(common))
        return paired(ours, theirs)

    def better(self, way: str, metric: str, other: str = FULL_IMAGE) -> tuple[int, int]:
        """On how many images a way is better than another, and of how many."""
        sign = 1 if metric_named(metric).higher_is_better else -1
        first, second = self._values(way, metric), self._values(other, metric)
        common = [image for image in first if image in second]
        return sum(sign * first[image] > sign * second[image] for image in common), len(common)

    def seconds(self, way: str) -> float | None:
        """Mean seconds for an image."""
        values = [each.seconds for each in self.of(way) if each.seconds is not None]
        return statistics.fmean(values) if values else None

    def peak_memory_mib(self, way: str) -> float | None:
        """The largest peak of memory over the images."""
        values = [each.peak_memory_mib for each in self.of(way)]
        return max((value for value in values if value is not None), default=None)

    def to_json(self) -> dict[str, Any]:
        """Protocol, records and failures as JSON has them."""
        return {
            "protocol": asdict(self.protocol),
            "records": [record.to_json() for record in self.records],
            "failures": [asdict(failure) for failure in self.failures],
        }

    def _values(self, way: str, metric: str) -> dict[str, float]:
        return {each.image: each.metrics[metric] for each in self.of(way) if metric in each.metrics}

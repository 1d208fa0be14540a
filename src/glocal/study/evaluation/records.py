"""Measurements of an evaluation: protocol, records, means, differences.

A few lines above 300: the fields of the protocol, described.
"""

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from glocal.metrics import METRICS
from glocal.ops.windows import Size
from glocal.scanning.user_code import failure, full_traceback
from glocal.study.evaluation.methods import DEGRADED, FULL_IMAGE
from glocal.study.evaluation.perceptual import RELATIVE_ROUNDING
from glocal.study.intervals import FEWEST, Interval, interval_of, paired
from glocal.study.options import ScoreOptions
from glocal.texts import text_table

__all__ = ["DEGRADED", "Evaluation", "Failure", "Protocol", "Record", "Wins"]


@dataclass(frozen=True)
class Protocol:
    """Everything that determines the numbers of an evaluation.

    Attributes:
        network: its name.
        weights_sha256: of all parameters and buffers.
        train_size: (height, width) of its training crops.
        methods: what each method does, by name.
        plans: the plan of each converted method, as text.
        conversion: options of the conversion, as JSON values.
        metrics: protocol of each metric, by name.
        round8, border: how images are prepared for the metrics, see `ScoreOptions`.
        data: label of the data set.
        image_count: how many images are used.
        data_sha256: of their names and content.
        device, dtype, runtime: where the network runs, in which type, and what computes it.
        machine: processor, or graphics processor.
        threads: number of CPU threads of torch.
        versions: of glocal, Python and torch.
        lower_is_better: names of the metrics whose lower values mean better images.
    """

    network: str
    weights_sha256: str
    train_size: Size
    methods: Mapping[str, str]
    plans: Mapping[str, str]
    conversion: Mapping[str, Any]
    metrics: Mapping[str, str]
    round8: bool
    border: int
    data: str
    image_count: int
    data_sha256: str
    device: str
    dtype: str
    runtime: str
    machine: str
    threads: int
    versions: Mapping[str, str]
    lower_is_better: tuple[str, ...] = ()

    def sentences(self) -> tuple[str, ...]:
        """Return the protocol as sentences, to print below a table."""
        height, width = self.train_size
        preparation = ScoreOptions(round8=self.round8, border=self.border).preparation()
        count = "1 image" if self.image_count == 1 else f"{self.image_count} images"
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return (
            f"Network: {self.network}, trained on crops of {height}×{width} pixels, weights "
            f"{self.weights_sha256[:12]}. Data: {self.data}, {count}.",
            *(f"{name}: {text}." for name, text in self.methods.items()),
            *(f"{name}: {text}" for name, text in self.metrics.items()),
            f"For the metrics, {preparation[0].lower()}{preparation[1:]}",
            "Differences are means over images of paired differences, with Student's 95 % "
            f"interval; of fewer than {FEWEST} images, with their number n. Differences within "
            "float rounding count as equal.",
            "Seconds: mean over images of one run each, after a warm-up, without reading and "
            "writing files. Memory: largest peak over images, above what was in use before the "
            "run.",
            f"Run on {self.machine}, {self.device}, {self.dtype}, {self.runtime}, {threads}; "
            f"{versions}.",
        )


@dataclass(frozen=True)
class Record:
    """The measurements of one image, restored with one method.

    Attributes:
        image: its name in the data set.
        method: name of the method, or `DEGRADED`.
        size: (height, width) of the degraded image.
        metrics: value of each metric; empty without a target.
        seconds: of the restoration; None for the degraded image.
        peak_memory_mib: of the restoration, above what was in use before; None if not measured.
        data_sha256: of image and target.
        notes: how the images differ from their files, such as a target cropped to a multiple of
            the scale.
    """

    image: str
    method: str
    size: Size
    metrics: Mapping[str, float]
    seconds: float | None = None
    peak_memory_mib: float | None = None
    data_sha256: str = ""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values; infinity becomes a string."""
        values = {
            name: value if math.isfinite(value) else str(value)
            for name, value in self.metrics.items()
        }
        return {**asdict(self), "metrics": values}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Record":
        """Return the record that `to_dict` described."""
        height, width = data["size"]
        metrics = {name: float(value) for name, value in data["metrics"].items()}
        notes = tuple(data.get("notes", ()))
        return cls(**{**data, "size": (height, width), "metrics": metrics, "notes": notes})


@dataclass(frozen=True)
class Failure:
    """An image that could not be read, or not be restored with one method.

    Attributes:
        image: its name in the data set.
        method: name of the method; empty if the image failed before any method ran.
        error: the reason, in one line.
        trace: the traceback of the error, as text; no part of reports.
    """

    image: str
    method: str
    error: str
    trace: str = field(default="", repr=False, compare=False)

    @classmethod
    def of(cls, image: str, method: str, error: BaseException) -> "Failure":
        """The failure that an exception means."""
        return cls(image, method, failure(error), full_traceback(error))

    def to_dict(self) -> dict[str, str]:
        """Return image, method and error."""
        return {"image": self.image, "method": self.method, "error": self.error}


class Wins(NamedTuple):
    """On how many images one method is better than another, equal, and worse."""

    better: int
    equal: int
    worse: int


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`: records, their means, and paired differences.

    Means and differences are over the `compared` images, so that all rows of a table refer to the
    same images: an image that fails with one method leaves the means of all. A method that fails on
    all images does not count.

    Attributes:
        protocol: how the numbers were measured.
        images: names of all images, in order.
        records: of every image and method, image by image.
        failures: images that could not be read or restored.
    """

    protocol: Protocol
    images: tuple[str, ...]
    records: tuple[Record, ...]
    failures: tuple[Failure, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the table rows: the methods, after `DEGRADED` if that has metrics."""
        present = {record.method for record in self.records}
        return tuple(method for method in (DEGRADED, *self.protocol.methods) if method in present)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics; empty if no image has a target."""
        present = {name for record in self.records for name in record.metrics}
        return tuple(name for name in self.protocol.metrics if name in present)

    @property
    def compared(self) -> tuple[str, ...]:
        """Names of the images that every method restored, and that have not failed, in order."""
        present = set(self.methods)
        failed = {each.image for each in self.failures if each.method in ("", *present)}
        done: dict[str, set[str]] = {}
        for record in self.records:
            done.setdefault(record.image, set()).add(record.method)
        methods = present - {DEGRADED}
        return tuple(image for image, by in done.items() if methods <= by and image not in failed)

    def sentences(self) -> tuple[str, ...]:
        """Return the protocol, and what happened to single images, to print below a table."""
        compared, total = set(self.compared), len(self.images)
        found: list[str] = []
        if len(compared) < total:
            found.append(
                f"Means are over the {len(compared)} of {total} images that every method restored."
            )
        notes: dict[str, set[str]] = {}
        for record in self.records:
            for note in record.notes if record.image in compared else ():
                notes.setdefault(note, set()).add(record.image)
        found += (f"On {len(on)} of {len(compared)} images {note}." for note, on in notes.items())
        measured = {
            metric: sum(len(self._values(method, metric)) for method in self.methods[-1:])
            for metric in self.protocol.metrics
        }
        found += (
            f"{metric}: on {count} of {len(compared)} images; the others have no target."
            for metric, count in measured.items()
            if count < len(compared)
        )
        return *self.protocol.sentences(), *found

    def of(self, method: str) -> list[Record]:
        """Return the records of a method on the compared images."""
        images = set(self.compared)
        return [each for each in self.records if each.method == method and each.image in images]

    def mean(self, method: str, metric: str) -> Interval | None:
        """Return the mean of a metric with its interval; None without values."""
        values = list(self._values(method, metric).values())
        return interval_of(values) if values else None

    def best(self, metric: str) -> tuple[str, ...]:
        """Return the rows with the best mean of a metric, the degraded images among them.

        Means within float rounding share the place.
        """
        found = {method: self.mean(method, metric) for method in self.methods}
        means = {method: each.mean for method, each in found.items() if each is not None}
        if not means:
            return ()
        choose = min if metric in self.protocol.lower_is_better else max
        best = choose(means.values())
        return tuple(method for method, mean in means.items() if _equal(metric, mean, best))

    def paired(self, method: str, metric: str, other: str = FULL_IMAGE) -> Interval | None:
        """Return the mean of method − other with its interval; None without values."""
        first, second = self._values(method, metric), self._values(other, metric)
        common = [image for image in first if image in second]
        if not common:
            return None
        ours, theirs = [first[image] for image in common], [second[image] for image in common]
        if not all(map(math.isfinite, ours + theirs)):  # PSNR of equal images
            return Interval(math.nan, math.nan, len(common))
        return paired(ours, theirs)

    def wins(self, method: str, metric: str, other: str = FULL_IMAGE) -> Wins:
        """Return on how many images a method beats another.

        Values whose difference is within float rounding are equal.
        """
        sign = -1 if metric in self.protocol.lower_is_better else 1
        first, second = self._values(method, metric), self._values(other, metric)
        common = [(first[image], second[image]) for image in first if image in second]
        found = [0 if _equal(metric, *each) else sign * (each[0] - each[1]) for each in common]
        better, worse = sum(each > 0 for each in found), sum(each < 0 for each in found)
        return Wins(better, len(found) - better - worse, worse)

    def seconds(self, method: str) -> float | None:
        """Return the mean seconds for one image."""
        values = [each.seconds for each in self.of(method) if each.seconds is not None]
        return statistics.fmean(values) if values else None

    def peak_memory_mib(self, method: str) -> float | None:
        """Return the largest memory peak over the images."""
        values = [each.peak_memory_mib for each in self.of(method)]
        return max((value for value in values if value is not None), default=None)

    def __str__(self) -> str:
        from glocal.study.report.tables import summary_table  # which imports this module

        table = summary_table(self)
        return "\n".join([text_table([table.columns, *table.rows]), *self.sentences()])

    def to_json(self) -> str:
        """Return protocol, records and failures as JSON text."""
        data = {
            "protocol": asdict(self.protocol),
            "records": [record.to_dict() for record in self.records],
            "failures": [each.to_dict() for each in self.failures],
        }
        return json.dumps(data, indent=2, ensure_ascii=False)

    def _values(self, method: str, metric: str) -> dict[str, float]:
        values = {
            each.image: each.metrics[metric] for each in self.of(method) if metric in each.metrics
        }
        if method != DEGRADED:
            return values
        # a mean over other images than those of the methods could not be compared with theirs
        restored = (self._values(each, metric) for each in self.methods if each != DEGRADED)
        return values if all(each.keys() <= values.keys() for each in restored) else {}


def _equal(metric: str, first: float, second: float) -> bool:
    if metric in METRICS:
        rounding = METRICS[metric].rounding
    else:
        rounding = RELATIVE_ROUNDING * max(abs(first), abs(second))
    return first == second or abs(first - second) <= rounding

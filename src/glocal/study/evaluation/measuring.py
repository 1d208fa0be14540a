"""Measure one image after the other with each method: the work of an evaluation."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from glocal.errors import ArgumentError, GlocalError
from glocal.inference.memory import peak_memory
from glocal.metrics import Metric
from glocal.ops.windows import Size
from glocal.runs.executors.work import Opened, Work
from glocal.runs.stages import Limits, Outcome, Stages
from glocal.study.dataset import Sample
from glocal.study.evaluation.methods import Method
from glocal.study.evaluation.perceptual import metrics_named
from glocal.study.evaluation.pictures import TARGET, picture, write_picture
from glocal.study.evaluation.records import DEGRADED, Failure, Record
from glocal.study.options import ScoreOptions

__all__ = ["Measuring", "Task"]

Floats = NDArray[np.float32]


class Task(NamedTuple):
    """An image to measure.

    Attributes:
        sample: the image.
        digest: of it and its target.
        done: names of the methods whose records exist.
    """

    sample: Sample
    digest: str
    done: frozenset[str]


@dataclass
class Measuring(Work[Task, list[Record | Failure]]):
    """Measures images with several methods, and writes pictures.

    Attributes:
        methods: to compare.
        score: the metrics, and how images are prepared for them.
        device: where networks and metrics run.
        train_size: of the network; a part of this size warms the methods up.
        folders: of pictures, by the names of the images that have some.
        tile_progress: called for the tiles of an image, see `evaluate`.
    """

    methods: list[Method]
    score: ScoreOptions
    device: torch.device
    train_size: Size
    folders: Mapping[str, Path]
    tile_progress: Callable[[int, int], None] | None = None
    _metrics: list[Metric] = field(default_factory=list, init=False)
    _is_warm: bool = field(default=False, init=False)

    @contextmanager
    def opened(self) -> Iterator[Opened[Task]]:
        """Yield stages of which one does all; an image is not read while another is timed."""
        stages: Stages[Task, Any, Any, Any] = Stages(
            read=lambda task: task,
            compute=lambda tasks: [list(self.measured(task)) for task in tasks],
            write=lambda task, loaded, found: found,
            fatal=(Exception,),
        )
        yield Opened(stages, Limits(count=0))

    def result(self, outcome: Outcome[Task, list[Record | Failure]]) -> list[Record | Failure]:
        """Return the measurements of an image."""
        if outcome.result is None:
            error = outcome.error or RuntimeError()
            return [Failure.of(outcome.item.sample.name, "", error)]
        return outcome.result

    def is_failed(self, result: list[Record | Failure]) -> bool:
        """True if a method failed."""
        return any(isinstance(each, Failure) for each in result)

    def for_worker(self, name: str, device: str | None) -> Self:
        """Return the work for another process."""
        if device is None:
            return self
        methods = [
            replace(each, arguments={**each.arguments, "device": device}) for each in self.methods
        ]
        return replace(self, methods=methods, device=torch.device(device))

    def measured(self, task: Task) -> Iterator[Record | Failure]:
        """Measure an image with each method that is not done or whose picture is missing."""
        sample, digest, done = task
        folder = self.folders.get(sample.name)
        missing = [
            method
            for method in self.methods
            if method.name not in done or _lacks(folder, method.name)
        ]
        # a target is only looked for where its picture is missing: that may read the image
        if not missing and not (
            _lacks(folder, DEGRADED) or (_lacks(folder, TARGET) and sample.has_target)
        ):
            return
        try:
            degraded, target, notes = sample.read()
            if folder is not None:
                _write_pictures(folder, degraded, target)
        except GlocalError as error:
            yield Failure.of(sample.name, "", error)
            return
        size = (degraded.shape[0], degraded.shape[1])
        if DEGRADED not in done:
            own = target if target is not None and target.shape == degraded.shape else None
            try:
                if values := self._values(degraded, own):
                    yield Record(
                        sample.name, DEGRADED, size, values, data_sha256=digest, notes=notes
                    )
            except GlocalError as error:
                yield Failure.of(sample.name, DEGRADED, error)
        self._warm_up(degraded)
        for method in missing:
            try:
                with peak_memory(self.device) as peak:
                    started = time.perf_counter()
                    restored = method.restore(degraded, progress=self.tile_progress)
                    seconds = time.perf_counter() - started
                values = self._values(restored, target)
                if folder is not None:
                    write_picture(picture(folder, method.name), restored)
                yield Record(
                    sample.name, method.name, size, values, seconds, peak.mib, digest, notes
                )
            except Exception as error:  # a network may raise anything; the other images count
                yield Failure.of(sample.name, method.name, error)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what each process makes for itself."""
        return {**vars(self), "_metrics": []}

    def _values(self, restored: Floats, target: Floats | None) -> dict[str, float]:
        """Value of each metric; of those without reference if there is no target."""
        values = {}
        for each in self._loaded_metrics():
            if each.needs_target and target is None:
                continue
            second = restored if target is None else target
            value = each.function(
                restored, second, border=self.score.border, round8=self.score.round8
            )
            if math.isnan(value):
                raise ArgumentError(f"{each.name} is not a number: the image is not finite")
            values[each.name] = value
        return values

    def _loaded_metrics(self) -> list[Metric]:
        """The metrics; those of pyiqa cannot be sent to another process."""
        if not self._metrics:
            self._metrics = metrics_named(self.score.names, self.device)
        return self._metrics

    def _warm_up(self, image: Floats) -> None:
        """Run each method once on a small image: the first run of a network takes longer."""
        if self._is_warm:
            return
        self._is_warm = True
        small = image[: self.train_size[0], : self.train_size[1]]
        for method in self.methods:
            try:
                method.restore(small)
            except ArgumentError:  # would be raised for every image
                raise
            except Exception:  # may be due to the size; the images will show
                continue


def _lacks(folder: Path | None, name: str) -> bool:
    return folder is not None and not picture(folder, name).exists()


def _write_pictures(folder: Path, degraded: Floats, target: Floats | None) -> None:
    if target is not None:
        write_picture(picture(folder, TARGET), target)
    write_picture(picture(folder, DEGRADED), degraded)

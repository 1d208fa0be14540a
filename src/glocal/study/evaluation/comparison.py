"""Full image, crop-and-stitch and TLC side by side, on a paired data set.

Every image goes through all ways before the next one, so that a machine that grows slower does
so for all of them. With a log, an evaluation goes on where it was interrupted.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from glocal.data.datasets import pairs, read_pair
from glocal.data.pairing import Pair, check_names, data_label, data_sha256
from glocal.errors import ArgumentError, GlocalError
from glocal.inference.geometry import Blend
from glocal.inference.memory import peak_memory
from glocal.inference.runner import device_of, resolve_dtype
from glocal.metrics import Metric, metric_named
from glocal.ops.windows import Size, as_size
from glocal.runs.journal import Journal
from glocal.runs.provenance import machine_name, versions, weights_sha256
from glocal.study.evaluation.pictures import TARGET, Pictures, picture, write_picture
from glocal.study.evaluation.records import DEGRADED, Evaluation, Failure, Protocol, Record
from glocal.study.evaluation.ways import Way, ways
from glocal.texts import one_line

__all__ = ["evaluate"]

Floats = NDArray[np.float32]
Progress = Callable[[int, int], None]


def evaluate(
    model: nn.Module,
    data: str | Path | Sequence[Pair],
    train_size: int | Size,
    *,
    windows: Sequence[int | Size | None] = (None,),
    window_scale: float = 1.5,
    tile: int | Size | None = None,
    overlap: int | None = None,
    blend: Blend = "linear",
    keep_global: str | Iterable[str] = (),
    allow_global: bool = False,
    metrics: Sequence[str] = ("psnr", "ssim-3d"),
    round8: bool = True,
    border: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    output: int | None = None,
    name: str | None = None,
    log: Path | None = None,
    overwrite: bool = False,
    pictures: Pictures | None = None,
    progress: Progress | None = None,
    tiles: Progress | None = None,
) -> Evaluation:
    """Compare full image, crop-and-stitch and TLC: metrics, seconds and memory of every image.

    An image that cannot be read or restored is among the failures, and the others are measured.

    Args:
        model: the network, not converted.
        data: folder of a data set, see `glocal.data.datasets.pairs`, or its pairs.
        train_size: side or (height, width) of the crops it was trained on, in pixels.
        windows, window_scale, tile, overlap, blend, keep_global, allow_global: see `ways`.
        metrics: names, see `glocal.metrics.METRICS`.
        round8, border: how images are prepared for them, see `glocal.metrics`.
        device, dtype, output: see `glocal.restore`.
        name: what to call the network, its class by default.
        log: file of JSON lines, see `glocal.runs.journal`. What it holds is not measured again.
        overwrite: begin the log anew, whatever is there.
        pictures: which restored images to keep, and where.
        progress: called with (images done, images in all), beginning with none done.
        tiles: the same for the tiles of the image at work.

    Raises:
        ArgumentError: an argument cannot be used, the data does not fit, or the log was made by
            another evaluation.
        ScanError: the model does not run at the training size.
        ConversionError: an operation cannot be converted and `allow_global` is not set.
    """
    measures = [metric_named(each) for each in dict.fromkeys(metrics)]
    if isinstance(data, str | Path):
        root, found = data, pairs(data)
    else:
        root, found = None, list(data)
    check_names(found, "evaluate on")
    chosen = ways(
        model, train_size, windows=windows, window_scale=window_scale, tile=tile, overlap=overlap,
        blend=blend, keep_global=keep_global, allow_global=allow_global,
        device=device, dtype=dtype, output=output,
    )  # fmt: skip
    where = device_of(model, device)
    protocol = Protocol(
        network=name or type(model).__name__,
        weights_sha256=weights_sha256(model),
        train_size=as_size(train_size, "train_size"),
        ways={way.name: way.protocol for way in chosen},
        plans={way.name: way.plan for way in chosen if way.converted},
        metrics={metric.name: metric.protocol for metric in measures},
        round8=round8,
        border=border,
        data=data_label(found, root),
        images=len(found),
        data_sha256=data_sha256(found),
        device=str(where),
        dtype=str(resolve_dtype(model, dtype)).removeprefix("torch."),
        machine=machine_name(where),
        threads=torch.get_num_threads(),
        versions=versions(),
    )
    folders = pictures.folders([pair.name for pair in found]) if pictures else {}
    run = _Run(chosen, measures, round8, border, where, protocol.train_size, folders, tiles)
    return run(found, protocol, log, overwrite, progress or (lambda done, total: None))


@dataclass
class _Run:
    ways: list[Way]
    metrics: list[Metric]
    round8: bool
    border: int
    device: torch.device
    train_size: Size
    folders: dict[str, Path]
    tiles: Progress | None
    warm: bool = False

    def __call__(
        self,
        found: Sequence[Pair],
        protocol: Protocol,
        log: Path | None,
        overwrite: bool,
        progress: Progress,
    ) -> Evaluation:
        """Measure whatever the log does not hold."""
        records: dict[tuple[str, str], Record] = {}
        failures = []
        header = {"command": "evaluate", **asdict(protocol)}
        opened = None if log is None else Journal(log, header, overwrite=overwrite)
        with opened or nullcontext() as journal:
            for line in journal.lines if journal else ():
                record = Record.from_json(line)
                records[record.image, record.way] = record
            progress(0, len(found))
            for index, pair in enumerate(found):
                done = {way for image, way in records if image == pair.name}
                for result in self._measured(pair, done):
                    if isinstance(result, Failure):
                        failures.append(result)
                    # a record whose picture alone was missing stays as it was
                    elif (key := (result.image, result.way)) not in records:
                        records[key] = result
                        if journal:
                            journal.append(result.to_json())
                progress(index + 1, len(found))
        names = tuple(pair.name for pair in found)
        order = ((name, way) for name in names for way in (DEGRADED, *protocol.ways))
        kept = tuple(records[key] for key in order if key in records)
        return Evaluation(protocol, names, kept, tuple(failures))

    def _measured(self, pair: Pair, done: set[str]) -> Iterator[Record | Failure]:
        """Records of the ways that are not done, or whose picture is missing."""
        folder = self.folders.get(pair.name)
        missing = [way for way in self.ways if way.name not in done or _lacks(folder, way.name)]
        lacking = [] if pair.target is None else [TARGET]
        if not missing and not any(_lacks(folder, name) for name in (DEGRADED, *lacking)):
            return
        try:
            degraded, target = read_pair(pair)
            if folder is not None:
                _write_pictures(folder, degraded, target)
        except GlocalError as error:
            yield Failure(pair.name, "", one_line(error))
            return
        size = (degraded.shape[0], degraded.shape[1])
        if DEGRADED not in done and target is not None and target.shape == degraded.shape:
            try:
                yield Record(pair.name, DEGRADED, size, self._compared(degraded, target))
            except GlocalError as error:
                yield Failure(pair.name, DEGRADED, one_line(error))
        self._warm_up(degraded)
        for way in missing:
            try:
                with peak_memory(self.device) as peak:
                    started = time.perf_counter()
                    restored = way.restore(degraded, progress=self.tiles)
                    seconds = time.perf_counter() - started
                values = {} if target is None else self._compared(restored, target)
                if folder is not None:
                    write_picture(picture(folder, way.name), restored)
                yield Record(pair.name, way.name, size, values, seconds, peak.mib)
            except Exception as error:  # whatever one image does to a network, the others count
                yield Failure(pair.name, way.name, one_line(error))

    def _compared(self, restored: Floats, target: Floats) -> dict[str, float]:
        options: dict[str, Any] = {"border": self.border, "round8": self.round8}
        return {each.name: each.function(restored, target, **options) for each in self.metrics}

    def _warm_up(self, image: Floats) -> None:
        """Run every way once on a small image: the first run of a network takes longer."""
        if self.warm:
            return
        self.warm = True
        small = image[: self.train_size[0], : self.train_size[1]]
        for way in self.ways:
            try:
                way.restore(small)
            except ArgumentError:  # holds for every image
                raise
            except Exception:  # of this size maybe; the images will tell
                continue


def _lacks(folder: Path | None, name: str) -> bool:
    return folder is not None and not picture(folder, name).exists()


def _write_pictures(folder: Path, degraded: Floats, target: Floats | None) -> None:
    if target is not None:
        write_picture(picture(folder, TARGET), target)
    write_picture(picture(folder, DEGRADED), degraded)

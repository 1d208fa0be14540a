"""What a folder run does with one photograph: read it, restore it, write it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from glocal.errors import ArgumentError
from glocal.images.images import Image, enlarge, read, write
from glocal.images.raw import header
from glocal.inference.memory import allocating
from glocal.runs.batches import Batches
from glocal.runs.large import restore_streamed, streams
from glocal.runs.stages import Finished, Stages

__all__ = ["FilePair", "FileResult", "Large", "file_stages", "same_file", "save", "streamed"]

FilePair = tuple[Path, Path]
"""The file to read and the file to write."""


@dataclass(frozen=True)
class FileResult:
    """What became of one file.

    Attributes:
        source: the file read.
        target: the file written, or that would have been.
        status: "restored", "skipped" (the target was there) or "failed".
        size: (height, width) of the image read, None where it was not.
        elapsed_s: seconds for reading, restoring and writing, without waits in between; of a
            batch an equal share.
        notes: what the files' formats could not hold, one sentence each.
        error: why it failed, None where it did not.
    """

    source: Path
    target: Path
    status: Literal["restored", "skipped", "failed"]
    size: tuple[int, int] | None = None
    elapsed_s: float = 0.0
    notes: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Large:
    """A photograph that is not read as a whole, but streamed from its file to the other."""

    pair: FilePair


def file_stages(
    batches: Batches, quality: int, *, resume: bool, overwrite: bool
) -> Stages[FilePair, Image | Large, np.ndarray | FileResult, FileResult]:
    """The stages of a run, for :func:`glocal.runs.pipeline.run`.

    Args:
        batches: the network, and what shares its calls.
        quality: of JPEG and WebP files, 1 to 100.
        resume: leave targets that exist, and go on with streamed files that were interrupted.
        overwrite: replace targets that exist.
    """

    def load(pair: FilePair) -> Image | Large | Finished[FileResult]:
        source, target = pair
        if resume and not overwrite and target.exists():
            return Finished(FileResult(source, target, "skipped"))
        if same_file(source, target):
            raise ArgumentError(f"{target}: is the input itself; name another output")
        target.parent.mkdir(parents=True, exist_ok=True)
        if streams(batches.model, header(source), **batches.options):
            return Large(pair)
        with allocating():
            return read(source)

    def compute(loaded: list[Image | Large]) -> list[np.ndarray | FileResult]:
        whole = [image.pixels for image in loaded if isinstance(image, Image)]
        if len(whole) == len(loaded):
            return [*batches.restore(whole)]
        options = {**batches.options, "quality": quality, "resume": resume}
        large = (each.pair for each in loaded if isinstance(each, Large))
        return [streamed(batches.model, pair, **options) for pair in large]

    def finish(pair: FilePair, image: Image | Large, made: np.ndarray | FileResult) -> FileResult:
        if isinstance(image, Large) or isinstance(made, FileResult):
            assert isinstance(made, FileResult)
            return made
        with allocating():
            notes = save(pair[1], image, made, quality=quality)
        return FileResult(*pair, "restored", image.size, notes=notes)

    # a wrong argument holds for every file
    return Stages(
        load,
        compute,
        finish,
        lambda image: (image, 1) if isinstance(image, Large) else batches.lot(image.pixels),
        _nbytes,
        fatal=(ArgumentError,),
    )


def streamed(model: nn.Module, pair: FilePair, **options: Any) -> FileResult:
    """Restore a file tile by tile; options are those of `restore_streamed`, or None."""
    given = {name: value for name, value in options.items() if value is not None}
    size, notes = restore_streamed(model, *pair, **given)
    return FileResult(*pair, "restored", size, notes=notes)


def save(target: Path, image: Image, pixels: np.ndarray, *, quality: int) -> tuple[str, ...]:
    """Write restored pixels with what the image's file held besides; returns its notes and theirs.

    Alpha is enlarged with the image by a super-resolution network.
    """
    alpha, size = image.alpha, (pixels.shape[0], pixels.shape[1])
    if alpha is not None and alpha.shape != size:
        alpha = enlarge(alpha, size)
    restored = dataclasses.replace(image, pixels=pixels, alpha=alpha)
    return image.notes + write(target, restored, quality=quality)


def same_file(first: Path, second: Path) -> bool:
    """Whether both paths exist and lead to one file."""
    return second.exists() and first.exists() and first.samefile(second)


def _nbytes(held: Image | Large | np.ndarray | FileResult) -> int:
    if isinstance(held, np.ndarray):
        return held.nbytes
    if isinstance(held, Image):
        return held.pixels.nbytes + (0 if held.alpha is None else held.alpha.nbytes)
    return 0

"""Files and folders of photographs to restored files: resumable, and past a bad file."""

import dataclasses
import os
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, Self

from torch import nn

from glocal.errors import ArgumentError, ImageError
from glocal.images.images import SUFFIXES, list_images, read
from glocal.images.raw import header
from glocal.inference.restore import restore
from glocal.runs import pipeline
from glocal.runs.batches import Batches
from glocal.runs.large import streams
from glocal.runs.one_file import FilePair, FileResult, file_stages, same_file, save, streamed
from glocal.runs.stages import Limits, Outcome, Usage
from glocal.texts import one_line

__all__ = ["FileResult", "FolderRun", "pair_files", "restore_file", "restore_folder"]


def restore_file(
    model: nn.Module,
    source: Path,
    target: Path,
    *,
    quality: int = 95,
    stream: bool | None = None,
    resume: bool = True,
    **options: Any,
) -> FileResult:
    """Restore one image file; an existing target is replaced.

    Metadata and alpha are carried over, alpha enlarged with the image by a super-resolution
    network. ``options`` are those of :func:`glocal.restore`.

    Args:
        model: the network, converted or not.
        source: file to read.
        target: file to write.
        quality: of JPEG and WebP files, 1 to 100.
        stream: whether tiles are read from disk and written to disk one by one, see
            :mod:`glocal.runs.large`; by default where :func:`glocal.runs.large.streams` says so.
        resume: go on with a streamed run of the same file, network and options.
        options: those of :func:`glocal.restore`.

    Raises:
        ImageError: a file cannot be read or written.
        ArgumentError: the target is the source, or an option cannot be used.
    """
    started = time.perf_counter()
    if same_file(source, target):
        raise ArgumentError(f"{target}: is the input itself; name another output")
    if stream is None:
        stream = streams(model, header(source), **options)
    if stream:
        result = streamed(model, (source, target), quality=quality, resume=resume, **options)
    else:
        image = read(source)
        pixels = restore(model, image.pixels, **options)
        notes = save(target, image, pixels, quality=quality)
        result = FileResult(source, target, "restored", image.size, notes=notes)
    return dataclasses.replace(result, elapsed_s=time.perf_counter() - started)


class FolderRun(Iterator[FileResult]):
    """The results of a folder run, for each file in the order of their names.

    The run goes on while results are asked for: files are read ahead and written behind, in
    threads, while one is restored. Left early, it is to be closed, or used in a ``with``.

    Attributes:
        usage: how long the network was at work until now, and how long it waited.
    """

    def __init__(self, results: Generator[FileResult, None, None], usage: Usage) -> None:
        self._results, self.usage = results, usage

    def __next__(self) -> FileResult:
        """The next result, as soon as it is there."""
        return next(self._results)

    def __enter__(self) -> Self:
        """The run itself."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """End the run: what is being written is finished, what waits to be is dropped."""
        self._results.close()


def restore_folder(
    model: nn.Module,
    source: Path,
    target: Path,
    *,
    recursive: bool = True,
    suffix: str | None = None,
    resume: bool = True,
    overwrite: bool = False,
    quality: int = 95,
    batch: int | Literal["auto"] = "auto",
    ahead: int | None = None,
    **options: Any,
) -> FolderRun:
    """Restore every image of a folder into another, under the same relative names.

    Files are read and written while others are restored, images of one size may share calls of
    the network, and large ones are streamed (see :mod:`glocal.runs.large`). A file that cannot be
    restored is reported and the run goes on. Files are written whole or not at all, so an
    interrupted run is resumed by starting it again.

    Args:
        model: the network, converted or not.
        source: folder to read.
        target: folder to write; made where missing.
        recursive: read the folders inside ``source`` too.
        suffix: ending of the written names (".png"), that of each input by default.
        resume: leave targets that exist as they are.
        overwrite: replace targets that exist; goes before ``resume``.
        quality: of JPEG and WebP files, 1 to 100.
        batch: how many images of one size, channels and dtype share a call of the network at
            most, or "auto": up to 16, on the CPU of 16384 pixels together. Fewer where memory
            might be short; images in tiles go alone.
        ahead: how many images are read ahead, and how many written behind, at most; 4, or two
            batches, by default. 0 reads, restores and writes in turn, one by one.
        options: those of :func:`glocal.restore`.

    Returns:
        An iterator that gives the result for each file, in the order of their names.

    Raises:
        ArgumentError: as for :func:`pair_files`; an option cannot be used; or a target exists
            and neither ``resume`` nor ``overwrite`` says what to do with it.
        ImageError: there is no such folder, or it holds no images.
    """
    # not a generator itself: its arguments are judged at the call, not at the first file
    pairs = pair_files(source, target, recursive=recursive, suffix=suffix)
    if not resume and not overwrite:
        there = [path for _, path in pairs if path.exists()]
        if there:
            raise ArgumentError(
                f"{there[0]}: exists already, as do {len(there) - 1} other outputs; "
                "overwrite them, resume, or choose another folder"
            )
    if ahead is not None and ahead < 0:
        raise ArgumentError(f"ahead={ahead}; give a number of images, or 0 for none")
    batches = Batches(model, batch, options)
    limits = Limits(
        count=max(4, 2 * batches.images) if ahead is None else ahead,
        workers=min(4, os.cpu_count() or 1),
    )
    stages = file_stages(batches, quality, resume=resume, overwrite=overwrite)
    usage = Usage()
    return FolderRun(_results(pipeline.run(pairs, stages, limits, usage)), usage)


def pair_files(
    source: Path, target: Path, *, recursive: bool = True, suffix: str | None = None
) -> list[tuple[Path, Path]]:
    """The (input, output) paths of a folder run, sorted; nothing is read or written.

    Images inside ``target`` are not taken for inputs where it lies inside ``source``.

    Raises:
        ArgumentError: an output would be an input, two inputs would be written to one output,
            or the suffix is not one that can be written.
        ImageError: there is no such folder, or it holds no images.
    """
    if suffix is not None and suffix.lower() not in SUFFIXES:
        raise ArgumentError(f"cannot write files that end in {suffix!r}; use one of {SUFFIXES}")
    if same_file(source, target):
        raise ArgumentError(f"{target}: is the input folder itself; name another output folder")
    if target.exists() and not target.is_dir():
        raise ArgumentError(f"{target}: is a file; a folder's results need a folder")
    inside = target.resolve()
    inputs = [
        path
        for path in list_images(source, recursive=recursive)
        if not path.resolve().is_relative_to(inside) or source.resolve().is_relative_to(inside)
    ]
    if not inputs:
        raise ImageError(f"{source}: holds no images (files that end in {', '.join(SUFFIXES)})")
    pairs = []
    written: dict[Path, Path] = {}
    read_from = {path.resolve() for path in inputs}
    for path in inputs:
        output = target / path.relative_to(source)
        output = output if suffix is None else output.with_suffix(suffix)
        if output.resolve() in read_from:
            raise ArgumentError(f"{output}: would overwrite an input; name another output folder")
        if output in written:
            raise ArgumentError(f"{path} and {written[output]} would both be written to {output}")
        written[output] = path
        pairs.append((path, output))
    return pairs


def _results(
    outcomes: Generator[Outcome[FilePair, FileResult], None, None],
) -> Generator[FileResult, None, None]:
    with closing(outcomes):
        for outcome in outcomes:
            if outcome.done is None:  # whatever one file does to a network, the others go on
                error = one_line(outcome.error or RuntimeError())
                yield FileResult(*outcome.item, "failed", elapsed_s=outcome.elapsed_s, error=error)
            elif outcome.done.status == "skipped":
                yield outcome.done
            else:
                yield dataclasses.replace(outcome.done, elapsed_s=outcome.elapsed_s)

"""Files and folders of photographs to restored files: resumable, and past a bad file."""

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from glocal.errors import ArgumentError, ImageError
from glocal.images import SUFFIXES, Image, list_images, read, write
from glocal.inference import restore
from glocal.texts import one_line

__all__ = ["FileResult", "pair_files", "restore_file", "restore_folder"]


@dataclass(frozen=True)
class FileResult:
    """What became of one file.

    Attributes:
        source: the file read.
        target: the file written, or that would have been.
        status: "restored", "skipped" (the target was there) or "failed".
        size: (height, width) of the image read, None where it was not.
        elapsed_s: seconds for reading, restoring and writing.
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


def restore_file(
    model: nn.Module, source: Path, target: Path, *, quality: int = 95, **options: Any
) -> FileResult:
    """Restore one image file; an existing target is replaced.

    Metadata and alpha are carried over, alpha enlarged with the image by a super-resolution
    network. ``options`` are those of :func:`glocal.restore`.

    Raises:
        ImageError: a file cannot be read or written.
        ArgumentError: the target is the source, or an option cannot be used.
    """
    started = time.perf_counter()
    if _same_file(source, target):
        raise ArgumentError(f"{target}: is the input itself; name another output")
    image = read(source)
    pixels = restore(model, image.pixels, **options)
    restored = dataclasses.replace(image, pixels=pixels, alpha=_alpha_for(image, pixels))
    notes = image.notes + write(target, restored, quality=quality)
    elapsed_s = time.perf_counter() - started
    return FileResult(source, target, "restored", image.size, elapsed_s, notes)


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
    **options: Any,
) -> Iterator[FileResult]:
    """Restore every image of a folder into another, under the same relative names.

    A file that cannot be restored is reported and the run goes on. Files are written whole or
    not at all, so an interrupted run is resumed by starting it again.

    Args:
        model: the network, converted or not.
        source: folder to read.
        target: folder to write; made where missing.
        recursive: read the folders inside ``source`` too.
        suffix: ending of the written names (".png"), that of each input by default.
        resume: leave targets that exist as they are.
        overwrite: replace targets that exist; goes before ``resume``.
        quality: of JPEG and WebP files, 1 to 100.
        options: those of :func:`glocal.restore`.

    Yields:
        The result for each file, in the order of their names, as soon as it is there.

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
    skip_existing = resume and not overwrite
    return _run(model, pairs, skip_existing, {"quality": quality, **options})


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
    if _same_file(source, target):
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


def _run(
    model: nn.Module, pairs: list[tuple[Path, Path]], skip_existing: bool, options: dict[str, Any]
) -> Iterator[FileResult]:
    for source, target in pairs:
        if skip_existing and target.exists():
            yield FileResult(source, target, "skipped")
            continue
        started = time.perf_counter()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            result = restore_file(model, source, target, **options)
        except ArgumentError:  # holds for every file
            raise
        except Exception as error:  # whatever one file does to a network, the others are restored
            elapsed_s = time.perf_counter() - started
            result = FileResult(
                source, target, "failed", elapsed_s=elapsed_s, error=one_line(error)
            )
        yield result


def _same_file(first: Path, second: Path) -> bool:
    return second.exists() and first.exists() and first.samefile(second)


def _alpha_for(image: Image, pixels: np.ndarray) -> np.ndarray | None:
    if image.alpha is None or image.alpha.shape == pixels.shape[:2]:
        return image.alpha
    alpha = torch.from_numpy(image.alpha.astype(np.float32))[None, None]
    size = list(pixels.shape[:2])
    enlarged = torch.nn.functional.interpolate(alpha, size, mode="bilinear", antialias=True)
    return enlarged[0, 0].round().numpy().astype(image.alpha.dtype)

"""The stages of a folder run: read, restore and write one image file."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from glocal.errors import ArgumentError
from glocal.images.image_files import Image, enlarge, read, write
from glocal.images.sample_files import read_header
from glocal.inference.memory import allocating
from glocal.inference.restore import restore
from glocal.runs.batches import Batches
from glocal.runs.inputs import InputSource, read_inputs
from glocal.runs.jobs import FileResult, Job, check_distinct
from glocal.runs.stages import Skip, Stages
from glocal.runs.streaming import restore_streamed, should_stream

__all__ = ["file_stages", "restore_job", "save"]


def file_stages(
    batches: Batches, quality: int, *, resume: bool, overwrite: bool
) -> Stages[Job, Image | Job, np.ndarray | FileResult, FileResult]:
    """Return the stages of a folder run, for :func:`glocal.runs.pipeline.run`.

    The read stage returns the image, or the job itself if the file will be streamed or has inputs
    beside it.

    Args:
        batches: the network, and which images share a call.
        quality: of JPEG and WebP files, 1 to 100.
        resume: skip jobs whose destination exists, and continue interrupted streamed jobs.
        overwrite: replace existing destinations; takes precedence over `resume`.
    """

    has_inputs = bool(batches.options.get("inputs"))

    def load(job: Job) -> Image | Job | Skip[FileResult]:
        if resume and not overwrite and job.destination.exists():
            return Skip(FileResult(*job, "skipped"))
        check_distinct(job)
        job.destination.parent.mkdir(parents=True, exist_ok=True)
        if has_inputs or should_stream(batches.model, read_header(job.source), **batches.options):
            return job
        with allocating():
            return read(job.source)

    def compute(loaded: list[Image | Job]) -> list[np.ndarray | FileResult]:
        pixels = [image.pixels for image in loaded if isinstance(image, Image)]
        if len(pixels) == len(loaded):
            return [*batches.restore(pixels)]
        options = {**batches.options, "quality": quality, "resume": resume}
        jobs = (job for job in loaded if isinstance(job, Job))
        return [restore_job(batches.model, job, **options) for job in jobs]

    def finish(job: Job, image: Image | Job, computed: np.ndarray | FileResult) -> FileResult:
        if isinstance(image, Job) or isinstance(computed, FileResult):
            assert isinstance(computed, FileResult)
            return computed
        with allocating():
            notes = save(job.destination, image, computed, quality=quality)
        return FileResult(*job, "restored", image.size, notes=notes)

    return Stages(
        load,
        compute,
        finish,
        lambda image: (image, 1) if isinstance(image, Job) else batches.group(image.pixels),
        _nbytes,
        fatal=(ArgumentError,),  # a wrong option fails on every file
    )


def restore_job(
    model: nn.Module,
    job: Job,
    *,
    quality: int = 95,
    stream: bool | None = None,
    resume: bool = True,
    inputs: Mapping[str, InputSource] | None = None,
    **options: Any,
) -> FileResult:
    """Restore a file at once or tile by tile, with the options of `restore_file`."""
    if inputs:
        options["inputs"] = read_inputs(inputs, job.source)
    if stream is None:
        stream = should_stream(model, read_header(job.source), **options)
    if stream:
        given = {name: value for name, value in options.items() if value is not None}
        size, notes = restore_streamed(model, *job, quality=quality, resume=resume, **given)
        return FileResult(*job, "restored", size, notes=notes)
    image = read(job.source)
    pixels = restore(model, image.pixels, **options)
    notes = save(job.destination, image, pixels, quality=quality)
    return FileResult(*job, "restored", image.size, notes=notes)


def save(destination: Path, image: Image, pixels: np.ndarray, *, quality: int) -> tuple[str, ...]:
    """Write restored pixels with the metadata and alpha of the source.

    Alpha is resized to the size of `pixels`, which super-resolution networks enlarge.

    Returns:
        Notes from reading the source and from writing the result.
    """
    alpha, size = image.alpha, (pixels.shape[0], pixels.shape[1])
    if alpha is not None and alpha.shape != size:
        alpha = enlarge(alpha, size)
    restored = dataclasses.replace(image, pixels=pixels, alpha=alpha)
    return image.notes + write(destination, restored, quality=quality)


def _nbytes(value: Image | Job | np.ndarray | FileResult) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Image):
        return value.pixels.nbytes + (0 if value.alpha is None else value.alpha.nbytes)
    return 0

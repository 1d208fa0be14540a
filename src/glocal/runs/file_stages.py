"""The stages of a folder run: read, restore and write one image file."""

import dataclasses
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from glocal.errors import ArgumentError, ImageError
from glocal.images.files import make_folder
from glocal.images.formats import DAMAGED
from glocal.images.image_files import Image, check_pages, enlarge, read, write, write_pages
from glocal.images.limits import check_format
from glocal.images.metadata import Strip, stripped
from glocal.images.sample_files import Header, read_header
from glocal.inference.any_image import restore
from glocal.inference.areas import Areas
from glocal.inference.fallback import Fallback, fallback_text
from glocal.inference.memory import allocating
from glocal.runs.batches import Batches
from glocal.runs.executors.work import Executor
from glocal.runs.inputs import InputSource, read_inputs
from glocal.runs.jobs import FileResult, Job, check_distinct
from glocal.runs.locks import BusyError, Locks
from glocal.runs.output_check import OutputCheck
from glocal.runs.records import Found, Records
from glocal.runs.region import Region, restored_region
from glocal.runs.stages import Skip, Stages
from glocal.runs.streaming import restore_streamed, should_stream

__all__ = ["FOREIGN", "Loaded", "file_stages", "restore_job", "save"]


_FIRST_PAGE = "all pages were restored; metadata is that of the first page"
FOREIGN = (
    "{} exists, and nothing tells that glocal made it as it is; it stays: overwrite it, or choose "
    "another folder"
)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A file on its way through the stages.

    Attributes:
        job: what to read and write.
        header: of the source.
        image: decoded; None if the file will be streamed, has inputs beside it or pages, or falls
            back on a full-image result.
        seen: its pixels as the network sees them, or None.
        again: how the result was made that will be replaced; empty if there is none.
    """

    job: Job
    header: Header
    image: Image | None = None
    seen: np.ndarray | None = None
    again: str = ""


def file_stages(
    batches: Batches,
    quality: int,
    records: Records,
    locks: Locks,
    *,
    resume: bool,
    overwrite: bool,
    strip: Strip | None = None,
    accept_damaged: bool = False,
) -> Stages[Job, Loaded, np.ndarray | FileResult, FileResult]:
    """Return the stages of a folder run, for :func:`glocal.runs.pipeline.run`.

    Args:
        batches: the network, and which images share a call.
        quality: of JPEG and WebP files, 1 to 100.
        records: of the folder of results; its new results are added.
        locks: of the results; those that another process writes are skipped.
        resume: skip jobs whose result exists as this run would make it, make others of glocal
            again, leave files of the user, and continue interrupted streamed jobs.
        overwrite: replace existing destinations; takes precedence over `resume`.
        strip: metadata that is left out of the results.
        accept_damaged: restore the readable parts of damaged files.
    """

    check = OutputCheck(batches.model, batches.options)
    is_alone = bool(batches.options.get("inputs")) or batches.options.get("fallback") is not None

    def load(job: Job) -> Loaded | Skip[FileResult]:
        check_distinct(job)
        try:
            locks.acquire(job.destination)  # until the outcome is known
        except BusyError as error:
            return Skip(FileResult(*job, "skipped", notes=(str(error),)))
        found = records.find(job) if resume and not overwrite else Found("nothing")
        if found.kind == "same":
            return Skip(FileResult(*job, "skipped"))
        if found.kind == "foreign":
            return Skip(FileResult(*job, "left", error=FOREIGN.format(job.destination)))
        header = read_header(job.source, accept_damaged=accept_damaged)
        check_format(job.destination, header.size)
        make_folder(job.destination.parent, ImageError)
        if is_alone or header.pages > 1 or should_stream(batches.model, header, **batches.options):
            return Loaded(job, header, again=found.why)
        with allocating():
            image = read(job.source, accept_damaged=accept_damaged)
            return Loaded(job, header, image, _seen(image, job.source), found.why)

    def compute(batch: list[Loaded]) -> list[np.ndarray | FileResult]:
        for each in batch:  # here, because the network runs in this thread only
            check(each.job.destination, each.header)
        pixels = [each.seen for each in batch if each.seen is not None]
        if len(pixels) == len(batch):
            return [*batches.restore(pixels)]
        options = {
            **batches.options, "quality": quality, "resume": resume, "strip": strip,
            "accept_damaged": accept_damaged,
        }  # fmt: skip
        jobs = (each.job for each in batch if each.image is None)
        return [restore_job(batches.model, job, **options) for job in jobs]

    def finish(job: Job, loaded: Loaded, computed: np.ndarray | FileResult) -> FileResult:
        if loaded.image is None or isinstance(computed, FileResult):
            assert isinstance(computed, FileResult)
            result = computed
        else:
            with allocating():
                notes = save(job.destination, loaded.image, computed, quality=quality, strip=strip)
            result = FileResult(*job, "restored", loaded.image.size, notes=notes)
        records.add(job, is_damaged=DAMAGED in result.notes)
        return dataclasses.replace(result, again=loaded.again)

    def group(loaded: Loaded) -> tuple[Hashable, int]:
        return (loaded, 1) if loaded.seen is None else batches.group(loaded.seen)

    return Stages(
        load,
        compute,
        finish,
        group,
        _nbytes,
        fatal=(ArgumentError,),  # a wrong option fails on every file
    )


def restore_job(
    model: nn.Module, job: Job, *, fallback: nn.Module | None = None, **options: Any
) -> FileResult:
    """Restore a file, or a region, at once or tile by tile, with the options of `restore_file`."""
    if fallback is None:
        return _restore_job(model, job, **options)
    found: list[Areas | None] = []  # one for each page
    result = _restore_job(model, job, fallback=Fallback(fallback, found.append), **options)
    missing = (fallback_text(None),) if None in found else ()
    texts = {n: fallback_text(areas) for n, areas in enumerate(found, 1) if areas is not None}
    said = [f"page {n}: {text}" if len(found) > 1 else text for n, text in texts.items() if text]
    notes = result.notes + missing
    return dataclasses.replace(result, notes=notes, fallback="; ".join(said))


def _restore_job(
    model: nn.Module,
    job: Job,
    *,
    quality: int = 95,
    stream: bool | None = None,
    resume: bool = True,
    region: Region | None = None,
    inputs: Mapping[str, InputSource] | None = None,
    strip: Strip | None = None,
    fallback: Fallback | None = None,
    accept_damaged: bool = False,
    executor: Executor | None = None,
    **options: Any,
) -> FileResult:
    if executor is not None and (region is not None or inputs):
        raise ArgumentError("workers share whole photographs without inputs beside them")
    if region is not None:
        if fallback is not None:
            fallback.found(None)
        if inputs:
            raise ArgumentError("a region has no inputs beside it: restore the whole photograph")
        image, pixels = restored_region(
            model, read(job.source, accept_damaged=accept_damaged), region, **options
        )
        notes = save(job.destination, image, pixels, quality=quality, strip=strip)
        return FileResult(*job, "restored", image.size, notes=notes)
    if inputs:
        options["inputs"] = read_inputs(inputs, job.source)
    header = read_header(job.source, accept_damaged=accept_damaged)
    whole = {**options, "fallback": fallback}
    if header.pages > 1 and not stream:
        notes = _restore_pages(model, job, header.pages, quality, strip, accept_damaged, whole)
        return FileResult(*job, "restored", header.size, notes=notes)
    if stream is None:
        stream = should_stream(model, header, **whole)
    if stream:
        if fallback is not None:
            fallback.found(None)
        given = {name: value for name, value in options.items() if value is not None}
        if given.pop("ensemble", 1) != 1:
            raise ArgumentError("flips and turns are not streamed: leave out stream or ensemble")
        size, notes = restore_streamed(
            model,
            *job,
            quality=quality,
            resume=resume,
            strip=strip,
            accept_damaged=accept_damaged,
            executor=executor,
            **given,
        )
        return FileResult(*job, "restored", size, notes=notes)
    if executor is not None:
        raise ArgumentError(
            f"{job.source}: workers share the tiles of a large photograph and a converted network; "
            "restore this one without them"
        )
    image = read(job.source, accept_damaged=accept_damaged)
    pixels = restore(model, _seen(image, job.source), **whole)
    notes = save(job.destination, image, pixels, quality=quality, strip=strip)
    return FileResult(*job, "restored", image.size, notes=notes)


def save(
    destination: Path,
    image: Image,
    pixels: np.ndarray,
    *,
    quality: int,
    strip: Strip | None = None,
) -> tuple[str, ...]:
    """Write restored pixels with the metadata, colours and alpha of the source.

    Alpha is resized to the size of `pixels`, which super-resolution networks enlarge.

    Returns:
        Notes from reading the source and from writing the result.
    """
    notes = image.notes + write(destination, _restored(image, pixels, strip), quality=quality)
    return tuple(dict.fromkeys(notes))


def _restore_pages(
    model: nn.Module,
    job: Job,
    number: int,
    quality: int,
    strip: Strip | None,
    accept_damaged: bool,
    options: Mapping[str, Any],
) -> tuple[str, ...]:
    """Restore the pages of a TIFF file one by one."""
    pages = [read(job.source, page, accept_damaged=accept_damaged) for page in range(number)]
    check_pages(job.destination, pages)
    restored = [
        _restored(page, restore(model, _seen(page, job.source), **options), strip) for page in pages
    ]
    notes = [note for page in pages for note in page.notes]
    notes += [*write_pages(job.destination, restored, quality=quality), _FIRST_PAGE]
    return tuple(dict.fromkeys(notes))


def _restored(image: Image, pixels: np.ndarray, strip: Strip | None) -> Image:
    """Restored pixels in the colours of their source, with its metadata and alpha."""
    alpha, size = image.alpha, (pixels.shape[0], pixels.shape[1])
    if alpha is not None and alpha.shape != size:
        alpha = enlarge(alpha, size)
    kept = {**vars(stripped(image.metadata, strip)), "alpha": alpha}
    return Image(pixels=image.colours.carried_back(image.pixels, pixels), **kept)


def _seen(image: Image, source: Path) -> np.ndarray:
    """The pixels of an image as the network sees them.

    Raises:
        ImageError: some are not finite.
    """
    try:
        return image.colours.seen(image.pixels)
    except ImageError as error:
        raise ImageError(f"{source}: {error}") from None


def _nbytes(value: Loaded | np.ndarray | FileResult) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Loaded) and value.image is not None:
        alpha, pixels = value.image.alpha, value.image.pixels
        own = value.seen is not None and value.seen is not pixels
        return (
            pixels.nbytes
            + (0 if alpha is None else alpha.nbytes)
            + (value.seen.nbytes if own and value.seen is not None else 0)
        )
    return 0

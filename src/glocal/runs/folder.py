"""Restore image files and folders.

A folder run resumes after an interruption and continues after a file that fails."""

import dataclasses
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from torch import nn

from glocal.errors import ArgumentError
from glocal.images.metadata import Strip
from glocal.images.sample_files import read_header
from glocal.runs.executors.local import LocalExecutor
from glocal.runs.executors.work import Executor
from glocal.runs.file_stages import restore_job
from glocal.runs.folder_work import FolderWork
from glocal.runs.jobs import FileResult, Job, check_distinct, folder_jobs
from glocal.runs.locks import Locks
from glocal.runs.output_check import OutputCheck
from glocal.runs.region import Region
from glocal.runs.remote import RemoteFolder
from glocal.runs.remote_work import RemoteWork
from glocal.runs.stages import Usage

__all__ = ["FileResult", "FolderRun", "restore_file", "restore_folder", "restore_jobs"]


def restore_file(
    model: nn.Module,
    source: Path,
    destination: Path,
    *,
    quality: int = 95,
    stream: bool | None = None,
    resume: bool = True,
    region: Region | None = None,
    strip: Strip | None = None,
    accept_damaged: bool = False,
    executor: Executor | None = None,
    **options: Any,
) -> FileResult:
    """Restore one image file; an existing destination is replaced.

    Metadata and alpha are copied. Super-resolution networks enlarge alpha with the image.

    Args:
        model: the network, converted or not.
        source: file to read.
        destination: file to write.
        quality: of JPEG and WebP files, 1 to 100.
        stream: read and write tiles on disk, see :mod:`glocal.runs.streaming`; by default as
            :func:`glocal.runs.streaming.should_stream` decides.
        resume: continue an interrupted streamed run of the same file, network and options.
        region: the part to restore and write, by default all of it. It is never streamed.
        strip: leave out metadata: "gps" the place, "all" everything but colours and resolution.
        accept_damaged: restore the readable parts of a damaged file; a note says so.
        executor: whose workers restore the tiles of a large image; this process by default.
        options: those of :func:`glocal.restore`. An input may be a file, or a folder that has a
            file of the same name.

    Raises:
        ImageError: a file cannot be read or written, or the format of the destination cannot hold
            the result, which is checked before the network restores the image.
        ArgumentError: the destination is the source, or an option is invalid.
        BusyError: another process writes the destination.
    """
    started = time.perf_counter()
    job = Job(source, destination)
    check_distinct(job)
    header = read_header(source, accept_damaged=accept_damaged)
    OutputCheck(model, options)(destination, header)
    with Locks() as locks:
        locks.acquire(destination)
        result = restore_job(
            model,
            job,
            quality=quality,
            stream=stream,
            resume=resume,
            region=region,
            strip=strip,
            accept_damaged=accept_damaged,
            executor=executor,
            **options,
        )
    return dataclasses.replace(result, elapsed_s=time.perf_counter() - started)


class FolderRun(Iterator[FileResult]):
    """Iterator over the results of a folder run, sorted by source where this process restores.

    Iterating drives the run: threads read ahead and write behind while one file is restored. Call
    :meth:`close`, or use it in a ``with`` statement, to stop early.

    Attributes:
        usage: how long the network computed so far, and how long it waited.
    """

    def __init__(self, results: Generator[FileResult, None, None], usage: Usage) -> None:
        self._results, self.usage = results, usage

    def __next__(self) -> FileResult:
        """Return the next result; blocks until it is available."""
        return next(self._results)

    def __enter__(self) -> Self:
        """Return the run itself."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Close the run."""
        self.close()

    def close(self) -> None:
        """Stop the run: complete the writes in progress and drop the queued ones."""
        self._results.close()


def restore_folder(
    model: nn.Module,
    source: Path,
    destination: Path,
    *,
    recursive: bool = True,
    suffix: str | None = None,
    resume: bool = True,
    overwrite: bool = False,
    quality: int = 95,
    batch: int | Literal["auto"] = "auto",
    ahead: int | None = None,
    strip: Strip | None = None,
    accept_damaged: bool = False,
    **options: Any,
) -> FolderRun:
    """Restore every image of a folder into another folder, keeping relative names.

    Files are read and written while others are restored. Images of one size may share calls of
    the network. Large images are streamed (see :mod:`glocal.runs.streaming`). A file that cannot
    be restored is reported, and the run continues. Files are written atomically: to resume an
    interrupted run, start it again.

    Args:
        model: the network, converted or not.
        source: folder to read.
        destination: folder to write; created if missing.
        recursive: include subfolders of `source`.
        suffix: suffix of all written files, such as ".png"; by default that of each source.
        resume: skip files whose result exists already: made by glocal with this network, these
            options and this file, see :mod:`glocal.runs.records`. Results that glocal made
            otherwise are made again; files that it did not make are left.
        overwrite: replace existing destinations; takes precedence over `resume`.
        quality: of JPEG and WebP files, 1 to 100.
        batch: maximum number of images of one size, channel count and dtype per call. "auto" is
            16, on the CPU with at most 16384 pixels in total; less if memory may be short. Images
            in tiles are not batched.
        ahead: maximum number of images to read ahead, and to write behind; by default 4, or two
            batches. 0 reads, restores and writes one image at a time, without threads.
        strip, accept_damaged: as for :func:`restore_file`.
        options: those of :func:`glocal.restore`; inputs as for :func:`restore_file`.

    Returns:
        An iterator over the results, sorted by source.

    Raises:
        ArgumentError: as :func:`glocal.runs.jobs.folder_jobs`; an option is invalid; or a
            destination exists, and neither `resume` nor `overwrite` is set.
        ImageError: `source` does not exist or has no images.
    """
    jobs = folder_jobs(source, destination, recursive=recursive, suffix=suffix)
    return restore_jobs(
        model, jobs, destination, resume=resume, overwrite=overwrite, quality=quality,
        batch=batch, ahead=ahead, strip=strip, accept_damaged=accept_damaged, **options,
    )  # fmt: skip


def restore_jobs(
    model: nn.Module,
    jobs: Sequence[Job],
    destination: Path,
    *,
    resume: bool = True,
    overwrite: bool = False,
    quality: int = 95,
    batch: int | Literal["auto"] = "auto",
    ahead: int | None = None,
    strip: Strip | None = None,
    accept_damaged: bool = False,
    executor: Executor | None = None,
    writer: str = "",
    root: Path | None = None,
    **options: Any,
) -> FolderRun:
    """Restore files into one folder, like `restore_folder`, which describes the options.

    Args:
        model: the network, converted or not.
        jobs: see `glocal.runs.jobs.jobs_into`.
        destination: folder that contains all results.
        resume, overwrite, quality, batch, ahead, strip, accept_damaged, options: as for
            `restore_folder`.
        executor: who does the work; this process by default. Others yield results as they come.
        writer: name of this process, if others write into the folder, on other machines too.
        root: folder of the photographs, if that or `destination` is behind a URL.

    Raises:
        ArgumentError: an option is invalid, or a destination exists, and neither `resume` nor
            `overwrite` is set.
    """
    # not a generator, so that arguments are checked at the call
    if not resume and not overwrite:
        existing = _existing(jobs, destination, is_remote=root is not None)
        if existing:
            others = f" and {len(existing) - 1} other outputs" if len(existing) > 1 else ""
            raise ArgumentError(
                f"{existing[0]}{others} exist already; overwrite them, resume, or choose another "
                "output folder"
            )
    work = FolderWork(
        model, destination, resume, overwrite, quality, batch, ahead, strip, accept_damaged,
        options, writer,
    )  # fmt: skip
    usage, executor = Usage(), executor or LocalExecutor()
    whole = work if root is None else RemoteWork(work, root)
    return FolderRun(executor.run(whole, jobs, usage), usage)


def _existing(jobs: Sequence[Job], destination: Path, *, is_remote: bool) -> list[Path]:
    """Return the results that exist."""
    if not is_remote:
        return [job.destination for job in jobs if job.destination.exists()]
    names = RemoteFolder(str(destination)).files()
    found = [job.destination for job in jobs]
    return [each for each in found if each.relative_to(destination).as_posix() in names]

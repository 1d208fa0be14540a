"""Jobs of a run: source, destination and result of each file."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from glocal.errors import ArgumentError, ImageError
from glocal.images.image_files import SUFFIXES, list_images, list_unreadable
from glocal.images.limits import WRITTEN, written_suffix
from glocal.texts import few_names

__all__ = ["FileResult", "Job", "check_distinct", "folder_jobs", "is_same_file", "unreadable_files"]


class Job(NamedTuple):
    """One file to restore.

    Attributes:
        source: file to read.
        destination: file to write.
    """

    source: Path
    destination: Path


@dataclass(frozen=True)
class FileResult:
    """The result of one file.

    Attributes:
        source: file that was read.
        destination: file that was written, or would have been.
        status: "restored", "skipped" (the destination exists) or "failed".
        size: (height, width) of the source in pixels; None if it was not read.
        elapsed_s: seconds for reading, restoring and writing, without waiting in between. Images
            of a batch have equal shares of its time.
        notes: what the file formats could not hold, one sentence each.
        error: the reason for status "failed", else None.
        trace: the traceback of that error, as text; empty otherwise.
    """

    source: Path
    destination: Path
    status: Literal["restored", "skipped", "failed"]
    size: tuple[int, int] | None = None
    elapsed_s: float = 0.0
    notes: tuple[str, ...] = ()
    error: str | None = None
    trace: str = field(default="", repr=False, compare=False)


def folder_jobs(
    source: Path, destination: Path, *, recursive: bool = True, suffix: str | None = None
) -> list[Job]:
    """Return the jobs of a folder run, sorted by source. Reads and writes no files.

    A destination inside `source` is allowed: images in it are not jobs.

    Args:
        source: folder to read.
        destination: folder to write.
        recursive: include subfolders of `source`.
        suffix: suffix of all written files, such as ".png"; by default that of each source, or
            another one if its format is only read.

    Raises:
        ArgumentError: a job would overwrite a source, two jobs have one destination, or files
            with this suffix cannot be written.
        ImageError: `source` does not exist or has no images.
    """
    if suffix is not None and suffix.lower() not in WRITTEN:
        raise ArgumentError(f"cannot write {suffix!r} files; use one of {', '.join(WRITTEN)}")
    if is_same_file(source, destination):
        raise ArgumentError(f"{destination} is the input folder; choose another output folder")
    if destination.exists() and not destination.is_dir():
        raise ArgumentError(f"{destination} is a file; the output of a folder must be a folder")
    inside = destination.resolve()
    sources = [
        path
        for path in list_images(source, recursive=recursive)
        if not path.resolve().is_relative_to(inside) or source.resolve().is_relative_to(inside)
    ]
    if not sources:
        raise ImageError(f"{source} has no images (suffixes: {few_names(SUFFIXES, len(WRITTEN))})")
    resolved = {path.resolve() for path in sources}
    jobs: dict[Path, Job] = {}
    for path in sources:
        output = destination / path.relative_to(source)
        output = output.with_suffix(suffix or written_suffix(path.suffix))
        if output.resolve() in resolved:
            raise ArgumentError(f"{output} is an input file; choose another output folder")
        if output in jobs:
            raise ArgumentError(
                f"{path} and {jobs[output].source} would both be written to {output}; "
                "rename one of them"
            )
        jobs[output] = Job(path, output)
    return list(jobs.values())


def unreadable_files(source: Path, destination: Path, *, recursive: bool = True) -> list[Path]:
    """The pictures that a folder run passes over, because nothing reads their formats."""
    inside = destination.resolve()
    return [
        path
        for path in list_unreadable(source, recursive=recursive)
        if not path.resolve().is_relative_to(inside) or source.resolve().is_relative_to(inside)
    ]


def check_distinct(job: Job) -> None:
    """Check that the destination is not the source, even under another name.

    Raises:
        ArgumentError: both paths name one file.
    """
    if is_same_file(*job):
        raise ArgumentError(f"{job.destination} is the input file; choose another output name")


def is_same_file(first: Path, second: Path) -> bool:
    """True if both paths exist and name the same file or folder."""
    return second.exists() and first.exists() and first.samefile(second)

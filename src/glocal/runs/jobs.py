"""Jobs of a run: source, destination and result of each file."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from glocal.errors import ArgumentError, ImageError
from glocal.images.folders import list_images, list_unreadable
from glocal.images.limits import SUFFIXES, WRITTEN, written_suffix
from glocal.texts import few_names
from glocal.video.formats import VIDEO_SUFFIXES

__all__ = [
    "FileResult",
    "Job",
    "check_distinct",
    "folder_jobs",
    "is_same_file",
    "jobs_into",
    "unreadable_files",
    "video_files",
]


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
        status: "restored"; "skipped" (this run's result exists already); "left" (the destination is
            a file that glocal did not make, and stays); or "failed".
        size: (height, width) of the source in pixels; None if it was not read.
        elapsed_s: seconds for reading, restoring and writing, without waiting in between. Images
            of a batch have equal shares of its time.
        notes: what the file formats could not hold, one sentence each.
        error: the reason for status "failed" or "left", else None.
        trace: the traceback of that error, as text; empty otherwise.
        again: how the result was made that this one replaced; empty if there was none.
        fallback: the areas that are as the full-image result, in words; empty if there are none.
    """

    source: Path
    destination: Path
    status: Literal["restored", "skipped", "left", "failed"]
    size: tuple[int, int] | None = None
    elapsed_s: float = 0.0
    notes: tuple[str, ...] = ()
    error: str | None = None
    trace: str = field(default="", repr=False, compare=False)
    again: str = ""
    fallback: str = ""


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
    if not source.is_dir():
        raise ImageError(f"{source}: no such folder")
    return jobs_into([source], destination, recursive=recursive, suffix=suffix)


def jobs_into(
    sources: Iterable[Path],
    destination: Path,
    *,
    recursive: bool = True,
    suffix: str | None = None,
) -> list[Job]:
    """Return the jobs that write files, and the images of folders, into one folder.

    Reads and writes no files. A folder keeps the relative names of its images; a file keeps its
    own. A file that is named twice is one job.

    Args:
        sources: files and folders, in the order of the jobs.
        destination: folder to write. Images in it are no jobs of a folder around it.
        recursive: include subfolders.
        suffix: as for `folder_jobs`.

    Raises:
        ArgumentError: as `folder_jobs`.
        ImageError: a folder has no images.
    """
    if suffix is not None and suffix.lower() not in WRITTEN:
        raise ArgumentError(f"cannot write {suffix!r} files; use one of {', '.join(WRITTEN)}")
    if destination.exists() and not destination.is_dir():
        raise ArgumentError(f"{destination} is a file; the output of a folder must be a folder")
    named = [pair for source in sources for pair in _named(source, destination, recursive)]
    resolved = {path.resolve() for path, _ in named}
    jobs: dict[Path, Job] = {}
    for path, relative in named:
        output = destination / relative.with_suffix(suffix or written_suffix(path.suffix))
        if output.resolve() in resolved:
            raise ArgumentError(f"{output} is an input file; choose another output folder")
        if output in jobs and jobs[output].source.resolve() != path.resolve():
            raise ArgumentError(
                f"{path} and {jobs[output].source} would both be written to {output}; "
                "rename one of them"
            )
        jobs.setdefault(output, Job(path, output))
    return list(jobs.values())


def _named(source: Path, destination: Path, recursive: bool) -> list[tuple[Path, Path]]:
    """Return the images of a file or folder, and their names below the destination."""
    if not source.is_dir():
        return [(source, Path(source.name))]
    if is_same_file(source, destination):
        raise ArgumentError(f"{destination} is the input folder; choose another output folder")
    found = _outside(destination, source, list_images(source, recursive=recursive))
    if not found:
        videos = video_files(source, destination, recursive=recursive)
        text = f"; restore its videos one by one, such as {videos[0]}" if videos else ""
        suffixes = few_names(SUFFIXES, len(WRITTEN))
        raise ImageError(f"{source} has no images (suffixes: {suffixes}){text}")
    return [(path, path.relative_to(source)) for path in found]


def unreadable_files(source: Path, destination: Path, *, recursive: bool = True) -> list[Path]:
    """The pictures that a folder run passes over, because nothing reads their formats."""
    return _outside(destination, source, list_unreadable(source, recursive=recursive))


def video_files(source: Path, destination: Path, *, recursive: bool = True) -> list[Path]:
    """The videos that a folder run passes over: each is restored by itself."""
    found = list_unreadable(source, recursive=recursive, suffixes=VIDEO_SUFFIXES)
    return _outside(destination, source, found)


def _outside(destination: Path, source: Path, paths: Iterable[Path]) -> list[Path]:
    """The files that are not results of an earlier run in a folder inside the source."""
    inside = destination.resolve()
    if source.resolve().is_relative_to(inside):
        return list(paths)
    return [path for path in paths if not path.resolve().is_relative_to(inside)]


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

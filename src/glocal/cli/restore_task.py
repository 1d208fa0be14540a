"""The options of a run of ``glocal restore``, and what is checked before it."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from glocal.cli.arguments import check_new_file
from glocal.cli.executors import HERE, Workforce
from glocal.cli.reporting import say
from glocal.cli.targets import Request, result_name
from glocal.errors import ArgumentError, ImageError

if TYPE_CHECKING:
    from glocal.runs.jobs import Job

__all__ = ["LARGE_PIXELS", "Task"]

LARGE_PIXELS = 2_000_000
"""A photograph with more pixels takes long enough to tell how far it is."""


@dataclass
class Task:
    """The options of one run of ``glocal restore``.

    Attributes:
        request: sources and target.
        suffix: format of a folder's results.
        recursive: include subfolders.
        overwrite: replace existing results.
        resume: continue interrupted runs.
        region: part of the photograph, or None.
        dry_run: write nothing.
        strip: metadata that is left out.
        accept_damaged: take the readable parts of damaged photographs.
        shown: name of the target in reports, by default its path.
        force: who does the work, and which part of it.
        jobs: found by `check`, those of other shards left out.
        of_all_shards: the jobs of all shards.
        is_large: the first photograph takes long.
    """

    request: Request
    suffix: str | None
    recursive: bool
    overwrite: bool
    resume: bool
    region: tuple[int, int, int, int] | None
    dry_run: bool
    strip: Literal["gps", "all"] | None = None
    accept_damaged: bool = False
    shown: str | None = None
    force: Workforce = HERE
    jobs: "Sequence[Job]" = ()
    of_all_shards: "Sequence[Job]" = ()
    is_large: bool = False

    def check(self, *, is_temporary: bool) -> tuple[str, ...]:
        """Find the jobs; return the notes that were printed, before anything takes time.

        Args:
            is_temporary: the target is new in any case.

        Raises:
            ArgumentError: a result cannot be written.
            ImageError: a photograph cannot be read, or is too large for the format.
        """
        from glocal.runs.jobs import Job

        sources, target = self.request.sources, self.request.target
        notes: tuple[str, ...] = ()
        if self.request.folder:
            if self.region is not None:
                raise ArgumentError("--region is for a single photograph")
            self.of_all_shards = self._folder_jobs()
            self.jobs = self.force.own(self.of_all_shards, target)
        else:
            if self.force.shard is not None:
                raise ArgumentError("--shard is for folders; name an output folder")
            if self.suffix is not None and not is_temporary:
                raise ArgumentError(
                    "--format is for the results of a folder and standard output; "
                    f"name the file, such as {target.with_suffix(self.suffix)}"
                )
            self.jobs = self.of_all_shards = [Job(sources[0], target)]
            notes = self._check_file(sources[0], target)
            for note in notes:
                say(note, "yellow", "note")
        is_here = bool(self.jobs) and not self.request.is_remote
        self.is_large = is_here and self._largest() > LARGE_PIXELS
        return notes

    def _folder_jobs(self) -> "Sequence[Job]":
        """Return the jobs of folders, of this machine or behind URLs."""
        sources, target = self.request.sources, self.request.target
        options: dict[str, Any] = {"recursive": self.recursive, "suffix": self.suffix}
        if self.request.is_remote:
            if self.dry_run:
                raise ArgumentError("--dry-run reads folders of this machine alone, no URL")

            from glocal.runs.remote import remote_jobs

            return remote_jobs(sources[0], target, **options)

        from glocal.runs.jobs import jobs_into

        return jobs_into(sources, target, **options)

    @contextmanager
    def first(self) -> Iterator[Path]:
        """Yield the first photograph of all shards, so that they restore alike, on this machine."""
        source = self.of_all_shards[0].source
        if not self.request.is_remote or source.is_file():
            yield source
            return

        from glocal.runs.remote import RemoteFolder

        with tempfile.TemporaryDirectory(prefix="glocal-") as scratch:
            folder, path = self.request.sources[0], Path(scratch, source.name)
            RemoteFolder(str(folder)).fetch(source.relative_to(folder).as_posix(), path)
            yield path

    def _check_file(self, source: Path, target: Path) -> tuple[str, ...]:
        """Check that the result can be written; return what its format cannot hold."""
        from glocal.images.files import make_folder
        from glocal.images.limits import WRITTEN, check_format
        from glocal.images.metadata import stripped
        from glocal.images.sample_files import read_header

        if target.suffix.lower() not in WRITTEN:
            raise ArgumentError(f"{target}: the name must end in {', '.join(WRITTEN)}")
        if target.exists() and target.samefile(source):
            raise ArgumentError(f"{target} is the input file; choose another output name")
        header = read_header(source, accept_damaged=self.accept_damaged)
        if self.region is not None:  # imports torch, which takes seconds
            from glocal.runs.region import Region, check_region

            check_region(Region(*self.region), header.size)
        check_format(target, header.size)
        if self.makes_folder and not target.parent.exists():
            if not self.dry_run:
                make_folder(target.parent, ArgumentError)
        else:
            check_new_file(target, self.overwrite)
        header = replace(header, metadata=stripped(header.metadata, self.strip))
        return header.metadata.notes + header.losses(target.suffix.lower())

    @property
    def pictures(self) -> list[Path]:
        """The photographs, of which the first one is looked at before the run."""
        return [job.source for job in self.jobs]

    @property
    def makes_folder(self) -> bool:
        """True if the folder of a single result is made when absent: the target named it alone."""
        return self.request.target.name == result_name(self.request.sources[0]).name

    def _largest(self) -> int:
        """Pixels of the first photograph, 0 if it cannot be read: the run reports that."""
        size = self.size_of(self.jobs[0].source)
        return 0 if size is None else size[0] * size[1]

    def size_of(self, path: Path) -> tuple[int, int] | None:
        """(height, width) that is restored of a photograph; None if it cannot be read."""
        from glocal.images.sample_files import read_header

        try:
            size = read_header(path, accept_damaged=self.accept_damaged).size
        except ImageError:
            return None
        return size if self.region is None else (self.region[3], self.region[2])

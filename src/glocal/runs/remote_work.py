"""The work of a folder run whose photographs or results lie behind URLs."""

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from glocal.runs.executors.work import Opened, Work
from glocal.runs.file_stages import FOREIGN
from glocal.runs.folder_work import FolderWork
from glocal.runs.jobs import FileResult, Job
from glocal.runs.remote import RemoteFolder, RemoteRecords
from glocal.runs.stages import Outcome, Skip, Stages

__all__ = ["RemoteWork"]


@dataclass
class RemoteWork(Work[Job, FileResult]):
    """Restores files of one folder into another; either may be behind a URL.

    A file is fetched into a temporary folder, passes through the stages of files there, and its
    result is stored. So everything about images is as for files of this machine.

    Attributes:
        inner: the work on files; its destination is the folder of results.
        source: folder of the photographs.
    """

    inner: FolderWork
    source: Path
    _scratch: Path | None = field(default=None, init=False)

    @contextmanager
    def opened(self) -> Iterator[Opened[Job]]:
        """Yield stages that fetch and store around those of files."""
        source, target = RemoteFolder(str(self.source)), RemoteFolder(str(self.inner.destination))
        records = RemoteRecords(target, self.inner.made(), self.inner.writer)
        with tempfile.TemporaryDirectory(prefix="glocal-", ignore_cleanup_errors=True) as scratch:
            self._scratch = Path(scratch)
            inner = dataclasses.replace(
                self.inner, destination=self._scratch / "out", resume=False, overwrite=True
            )
            notes = inner.records()
            with inner.opened(notes) as files:
                stages: Stages[Any, Any, Any, Any] = files.stages

                def load(job: Job) -> Any:
                    name, result = self._names(job)
                    before = records.find(source, name, result)
                    if self.inner.resume and not self.inner.overwrite:
                        if before.kind == "same":
                            return Skip(FileResult(*job, "skipped"))
                        if before.kind == "foreign":
                            error = FOREIGN.format(job.destination)
                            return Skip(FileResult(*job, "left", error=error))
                    about = source.about(name)
                    here = self._here(job)
                    source.fetch(name, here.source)
                    loaded = stages.read(here)
                    return loaded if isinstance(loaded, Skip) else (loaded, about, before.why)

                def finish(job: Job, loaded: Any, computed: Any) -> FileResult:
                    result: FileResult = stages.write(self._here(job), loaded[0], computed)
                    line = notes.line(self._here(job))
                    target.write(self._names(job)[1], result.destination.read_bytes())
                    if line is not None:
                        records.add(line, loaded[1], self._names(job)[1])
                    return dataclasses.replace(result, again=loaded[2])

                yield Opened(
                    Stages(
                        load,
                        lambda batch: stages.compute([loaded for loaded, _, _ in batch]),
                        finish,
                        lambda loaded: stages.group(loaded[0]),
                        lambda value: stages.nbytes(
                            value[0] if isinstance(value, tuple) else value
                        ),
                        stages.fatal,
                    ),
                    files.limits,
                    lambda job: self._release(files, job),
                )

    def result(self, outcome: Outcome[Job, FileResult]) -> FileResult:
        """Return the result of a file, with its URLs."""
        found = self.inner.result(outcome)
        error = found.error
        if error is not None and self._scratch is not None:
            here = self._here(outcome.item)
            for path, url in zip(here, outcome.item, strict=True):
                error = error.replace(str(path), str(url))
        source, destination = outcome.item
        return dataclasses.replace(found, source=source, destination=destination, error=error)

    def is_failed(self, result: FileResult) -> bool:
        """True if the file was not restored."""
        return self.inner.is_failed(result)

    def for_worker(self, name: str, device: str | None) -> Self:
        """Return the work of one process."""
        return dataclasses.replace(self, inner=self.inner.for_worker(name, device))

    def gather(self, names: str) -> None:
        """Bring the records of single results into one file."""
        target = RemoteFolder(str(self.inner.destination))
        records = RemoteRecords(target, self.inner.made(), self.inner.writer)
        records.gather(self.inner.writer_of(names) if names else "")

    def _names(self, job: Job) -> tuple[str, str]:
        """The names of photograph and result in their folders."""
        source = job.source.relative_to(self.source)
        return source.as_posix(), job.destination.relative_to(self.inner.destination).as_posix()

    def _here(self, job: Job) -> Job:
        """The copies of a photograph and its result on this machine."""
        assert self._scratch is not None
        source, result = self._names(job)
        return Job(self._scratch / "in" / source, self._scratch / "out" / result)

    def _release(self, files: Opened[Job], job: Job) -> None:
        here = self._here(job)
        files.release(here)
        for path in here:
            with suppress(OSError):
                path.unlink()

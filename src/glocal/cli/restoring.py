"""The run of ``glocal restore``: checks before it, one photograph or several, and the report."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from glocal.cli.arguments import check_new_file
from glocal.cli.progress import Bar, run_through
from glocal.cli.reporting import say, say_facts, voice
from glocal.cli.restore_report import STATUSES, Report, fallback_facts, json_report
from glocal.cli.targets import Request, result_name
from glocal.errors import ArgumentError, ImageError
from glocal.texts import duration_text, few_names, memory_text

if TYPE_CHECKING:
    from torch import nn

    from glocal.inference.estimate import Estimate
    from glocal.runs.jobs import FileResult, Job

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
        shown: name of the target in reports, by default its path.
        jobs: found by `check`.
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
    shown: str | None = None
    jobs: "Sequence[Job]" = ()
    is_large: bool = False

    def check(self, *, is_temporary: bool) -> "tuple[Sequence[Job], tuple[str, ...]]":
        """Return the jobs, and the notes that were printed, before anything takes time.

        Args:
            is_temporary: the target is new in any case.

        Raises:
            ArgumentError: a result cannot be written.
            ImageError: a photograph cannot be read, or is too large for the format.
        """
        from glocal.runs.jobs import Job, jobs_into

        sources, target = self.request.sources, self.request.target
        notes: tuple[str, ...] = ()
        if self.request.folder:
            if self.region is not None:
                raise ArgumentError("--region is for a single photograph")
            self.jobs = jobs_into(sources, target, recursive=self.recursive, suffix=self.suffix)
        else:
            if self.suffix is not None and not is_temporary:
                raise ArgumentError(
                    "--format is for the results of a folder and standard output; "
                    f"name the file, such as {target.with_suffix(self.suffix)}"
                )
            self.jobs = [Job(sources[0], target)]
            notes = self._check_file(sources[0], target)
            for note in notes:
                say(note, "yellow", "note")
        self.is_large = self._largest() > LARGE_PIXELS
        return self.jobs, notes

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
        header = read_header(source)
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
    def makes_folder(self) -> bool:
        """True if the folder of a single result is made when absent: the target named it alone."""
        return self.request.target.name == result_name(self.request.sources[0]).name

    def _largest(self) -> int:
        """Pixels of the first photograph, 0 if it cannot be read: the run reports that."""
        size = self._size(self.jobs[0].source)
        return 0 if size is None else size[0] * size[1]

    def _size(self, path: Path) -> tuple[int, int] | None:
        from glocal.images.sample_files import read_header

        try:
            size = read_header(path).size
        except ImageError:
            return None
        return size if self.region is None else (self.region[3], self.region[2])

    def run(
        self,
        network: "nn.Module",
        options: dict[str, Any],
        facts: dict[str, str],
        where: str,
        batch: Any,
        said: tuple[str, ...],
    ) -> Report:
        """Restore the photographs, print what happened, and return it."""
        report: Report = {**facts, "device": where}
        if self.dry_run:
            return report | self._estimated(network, options, facts)
        estimate = None
        if self.is_large and not options.get("inputs") and voice().progress:
            estimate = self._measured(network, options)
        if self.request.folder:
            given = {**options, "batch": batch, "resume": self.resume, "overwrite": self.overwrite}
            return report | self._run_folder(network, given, facts, where, estimate)
        return report | self._run_file(network, options, facts, where, estimate, said)

    def _run_file(
        self,
        network: "nn.Module",
        options: dict[str, Any],
        facts: dict[str, str],
        where: str,
        estimate: "Estimate | None",
        said: tuple[str, ...],
    ) -> Report:
        from glocal.runs.folder import restore_file
        from glocal.runs.region import Region

        (source, target), tiles = self.jobs[0], list[str]()
        region = None if self.region is None else Region(*self.region)
        with Bar(source.name, files=1) as bar, _followed(bar, estimate):
            size = self._size(source)
            if estimate is not None and size is not None:
                turns = options["ensemble"]
                bar.expect(turns * estimate.seconds([size]), estimate.steps.calls)
            result = restore_file(
                network, source, target, progress=bar.tiles, report=tiles.append,
                resume=self.resume, region=region, **options,
            )  # fmt: skip
        assert result.size is not None
        height, width = result.size
        what = "region" if region is not None else "photograph"
        say_facts(
            {
                what: f"{source} ({width} × {height} pixels)",
                **facts,
                **({"tiles": tiles[0]} if tiles else {}),
                **fallback_facts([result]),
                "time": f"{result.elapsed_s:.1f} s on {where}",
                "result": self.shown or str(target),
            }
        )
        for note in result.notes:
            if note not in said:
                say(note, "yellow", "note")
        return json_report([result]) | ({"tiles": tiles[0]} if tiles else {})

    def _run_folder(
        self,
        network: "nn.Module",
        options: dict[str, Any],
        facts: dict[str, str],
        where: str,
        estimate: "Estimate | None",
    ) -> Report:
        from glocal.runs.folder import restore_jobs
        from glocal.runs.jobs import unreadable_files

        sources, target = self.request.sources, self.request.target
        count, name = len(self.jobs), few_names(map(str, sources))
        say_facts({"photographs": f"{count} in {name}" if sources[0].is_dir() else name, **facts})
        started, results = time.perf_counter(), list["FileResult"]()
        bar = Bar(name, files=count)
        first = self._size(self.jobs[0].source)
        if estimate is not None and first is not None:
            bar.expect(options["ensemble"] * estimate.seconds([first]), estimate.steps.calls)
        with (
            restore_jobs(network, self.jobs, target, progress=bar.tiles, **options) as run,
            _followed(bar, estimate),
        ):
            kept = (results.append(each) or each for each in run)  # type: ignore[func-returns-value]
            done, _ = run_through(kept, bar, STATUSES, count)
        elapsed_s = time.perf_counter() - started
        busy = f", busy {100 * run.usage.busy:.0f} % of the time" if run.usage.computing_s else ""
        what = {"time": f"{elapsed_s:.1f} s on {where}{busy}", "result": f"{target} ({done})"}
        say_facts(fallback_facts(results) | what)
        unread = [
            str(path.relative_to(folder))
            for folder in sources
            if folder.is_dir()
            for path in unreadable_files(folder, target, recursive=self.recursive)
        ]
        if unread:
            named = few_names(unread, 20)
            text = f"{len(unread)} not read, as nothing reads their formats: {named}"
            say(text, "yellow", "note")
        return json_report(results) | {"seconds": elapsed_s, "unread": unread}

    def _measured(self, network: "nn.Module", options: dict[str, Any]) -> "Estimate | None":
        """Return what the first photograph tells of the rest; None if the network fails."""
        from glocal.images.image_files import read
        from glocal.inference.estimate import estimate
        from glocal.inference.tiling import local_window
        from glocal.runs.streaming import STREAMED_PIXELS

        once = {name: options[name] for name in options.keys() - {"quality", "ensemble", "strip"}}
        is_tiled = local_window(network, options["tiles"].halo) is not None
        try:
            image = read(self.jobs[0].source)
        except ImageError:  # the run reports it
            return None
        seen = image.colours.seen(image.pixels)
        return estimate(network, seen, most_pixels=STREAMED_PIXELS if is_tiled else None, **once)

    def _estimated(
        self, network: "nn.Module", options: dict[str, Any], facts: dict[str, str]
    ) -> Report:
        """Print and return what a run would do."""
        from glocal.runs.records import Records, how_made

        todo, counts = list["Job"](self.jobs), {}
        if self.request.folder and self.resume and not self.overwrite:
            made = how_made(network, options, options["quality"])
            records = Records(self.request.target, made, options.get("inputs"))
            kinds = [records.find(job).kind for job in self.jobs]
            todo = [
                job
                for job, kind in zip(self.jobs, kinds, strict=True)
                if kind in ("nothing", "other")
            ]
            names = {
                "nothing": "to restore",
                "other": "to do again",
                "same": "to skip",
                "foreign": "to leave",
            }
            counts = {text: kinds.count(kind) for kind, text in names.items() if kind in kinds}
        counts = counts or {"to restore": len(todo)}
        read = {job.source: self._size(job.source) for job in todo}
        sizes = [size for size in read.values() if size is not None]
        report: Report = {
            "dry_run": True, "counts": counts, "failed": 0, "left": 0,
            "unreadable": [str(path) for path, size in read.items() if size is None],
            "photographs": [{"source": str(s), "result": str(d)} for s, d in todo],
        }  # fmt: skip
        lines = {"photographs": ", ".join(f"{n} {text}" for text, n in counts.items()), **facts}
        estimate = self._measured(network, options) if sizes else None
        if estimate is not None:
            report["seconds"] = options["ensemble"] * estimate.seconds(sizes)
            report["bytes"] = estimate.nbytes(sizes)
            pixels = sum(h * w for h, w in sizes) / 1e6
            lines["estimate"] = (
                f"about {duration_text(report['seconds'])} and {memory_text(report['bytes'])} for "
                f"{pixels:.1f} megapixels"
            )
        if report["unreadable"]:
            lines["unreadable"] = few_names(report["unreadable"])
        say_facts({**lines, "result": f"{self.shown or self.request.target} (nothing was written)"})
        return report


def _followed(bar: Bar, estimate: "Estimate | None") -> Any:
    """Let the bar follow the modules of the network, if they were timed."""
    return nullcontext() if estimate is None else estimate.steps.watching(bar.step)

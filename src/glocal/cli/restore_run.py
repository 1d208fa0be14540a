"""A run of ``glocal restore``: one photograph or several, and the report."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glocal.cli.progress import Bar, run_through
from glocal.cli.reporting import say, say_facts, voice
from glocal.cli.restore_report import STATUSES, Report, fallback_facts, json_report
from glocal.cli.restore_task import Task
from glocal.errors import ImageError
from glocal.texts import duration_text, few_names, memory_text

if TYPE_CHECKING:
    from torch import nn

    from glocal.inference.estimate import Estimate
    from glocal.runs.jobs import FileResult, Job

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """A network and the photographs that it restores.

    Attributes:
        task: what to restore, checked.
        network: the network that runs.
        options: those of `restore_file`.
        facts: names and values to report: the network, the way, ...
        where: device and dtype, in words.
    """

    task: Task
    network: "nn.Module"
    options: dict[str, Any]
    facts: dict[str, str]
    where: str

    def report(self, batch: Any, said: tuple[str, ...]) -> Report:
        """Restore the photographs, print what happened, and return it.

        Args:
            batch: photographs of a folder in a call.
            said: notes that were printed before.
        """
        report: Report = {**self.facts, "device": self.where}
        if self.task.dry_run:
            return report | self._dry()
        estimate = None
        is_here = self.task.force.executor is None
        if is_here and self.task.is_large and not self.options.get("inputs") and voice().progress:
            estimate = self._measured()
        if self.task.request.folder:
            return report | self._folder(batch, estimate)
        return report | self._file(estimate, said)

    def _file(self, estimate: "Estimate | None", said: tuple[str, ...]) -> Report:
        from glocal.runs.folder import restore_file
        from glocal.runs.region import Region

        (source, target), tiles = self.task.jobs[0], list[str]()
        region = None if self.task.region is None else Region(*self.task.region)
        with Bar(source.name, files=1) as bar, _followed(bar, estimate):
            size = self.task.size_of(source)
            if estimate is not None and size is not None:
                turns = self.options["ensemble"]
                bar.expect(turns * estimate.seconds([size]), estimate.steps.calls)
            result = restore_file(
                self.network, source, target, progress=bar.tiles, report=tiles.append,
                resume=self.task.resume, region=region, executor=self.task.force.executor,
                **self.options,
            )  # fmt: skip
        assert result.size is not None
        height, width = result.size
        what = "region" if region is not None else "photograph"
        say_facts(
            {
                what: f"{source} ({width} × {height} pixels)",
                **self.facts,
                **({"tiles": tiles[0]} if tiles else {}),
                **fallback_facts([result]),
                "time": f"{result.elapsed_s:.1f} s on {self.where}",
                "result": self.task.shown or str(target),
            }
        )
        for note in result.notes:
            if note not in said:
                say(note, "yellow", "note")
        return json_report([result]) | ({"tiles": tiles[0]} if tiles else {})

    def _folder(self, batch: Any, estimate: "Estimate | None") -> Report:
        from glocal.runs.folder import restore_jobs
        from glocal.runs.jobs import unreadable_files, video_files

        sources, target = self.task.request.sources, self.task.request.target
        count, name = len(self.task.jobs), few_names(map(str, sources))
        force = self.task.force
        is_folder = self.task.request.is_remote or sources[0].is_dir()
        part = f", {force.shard_text}" if force.shard else ""
        say_facts(
            {
                "photographs": (f"{count} in {name}" if is_folder else name) + part,
                **self.facts,
            }
        )
        started, results = time.perf_counter(), list["FileResult"]()
        bar, options = Bar(name, files=count), self.options
        if force.executor is None:
            options = {"progress": bar.tiles, **options}
        first = None if estimate is None else self.task.size_of(self.task.jobs[0].source)
        if estimate is not None and first is not None:
            bar.expect(self.options["ensemble"] * estimate.seconds([first]), estimate.steps.calls)
        with (
            restore_jobs(
                self.network,
                self.task.jobs,
                target,
                batch=batch,
                resume=self.task.resume,
                overwrite=self.task.overwrite,
                executor=force.executor,
                writer=force.shard.name if force.shard else "",
                root=sources[0] if self.task.request.is_remote else None,
                **options,
            ) as run,
            _followed(bar, estimate),
        ):
            kept = (results.append(each) or each for each in run)  # type: ignore[func-returns-value]
            done, _ = run_through(kept, bar, STATUSES, count)
        elapsed_s = time.perf_counter() - started
        order = {job.source: number for number, job in enumerate(self.task.jobs)}
        results.sort(key=lambda each: order[each.source])  # workers end in any order
        busy = f", busy {100 * run.usage.busy:.0f} % of the time" if run.usage.computing_s else ""
        what = {"time": f"{elapsed_s:.1f} s on {self.where}{busy}", "result": f"{target} ({done})"}
        say_facts(fallback_facts(results) | what)
        unread, videos = self._passed_over(unreadable_files), self._passed_over(video_files)
        if unread:
            named = few_names(unread, 20)
            text = f"{len(unread)} not read, as nothing reads their formats: {named}"
            say(text, "yellow", "note")
        if videos:
            number, it = (
                ("1 video is", "it") if len(videos) == 1 else (f"{len(videos)} videos are", "each")
            )
            named = few_names(videos, 20)
            say(
                f"{number} not restored with the folder; name {it} by itself: {named}",
                "yellow",
                "note",
            )
        left = {"unread": unread, "videos_skipped": videos}
        return json_report(results) | {"seconds": elapsed_s, **left}

    def _passed_over(self, listed: Callable[..., list[Path]]) -> list[str]:
        """Names of the files of a kind in the folders that are not restored with them."""
        target = self.task.request.target
        return [
            str(path.relative_to(folder))
            for folder in self.task.request.sources
            if folder.is_dir() and not self.task.request.is_remote
            for path in listed(folder, target, recursive=self.task.recursive)
        ]

    def _measured(self) -> "Estimate | None":
        """Return what the first photograph tells of the rest; None if the network fails."""
        from glocal.images.image_files import read
        from glocal.inference.estimate import estimate
        from glocal.inference.tiling import local_window
        from glocal.runs.streaming import STREAMED_PIXELS

        once = {
            name: self.options[name]
            for name in self.options.keys() - {"quality", "ensemble", "strip", "accept_damaged"}
        }
        is_tiled = local_window(self.network, self.options["tiles"].halo) is not None
        try:
            image = read(self.task.jobs[0].source)
            seen = image.colours.seen(image.pixels)
        except ImageError:  # the run reports it
            return None
        return estimate(
            self.network, seen, most_pixels=STREAMED_PIXELS if is_tiled else None, **once
        )

    def _dry(self) -> Report:
        """Print and return what a run would do."""
        from glocal.runs.records import Records, how_made

        todo, counts = list["Job"](self.task.jobs), {}
        if self.task.request.folder and self.task.resume and not self.task.overwrite:
            made = how_made(self.network, self.options, self.options["quality"])
            records = Records(
                self.task.request.target, made, self.options.get("inputs"),
                accept_damaged=self.options["accept_damaged"],
            )  # fmt: skip
            kinds = [records.find(job).kind for job in self.task.jobs]
            todo = [
                job
                for job, kind in zip(self.task.jobs, kinds, strict=True)
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
        read = {job.source: self.task.size_of(job.source) for job in todo}
        sizes = [size for size in read.values() if size is not None]
        report: Report = {
            "dry_run": True, "counts": counts, "failed": 0, "left": 0,
            "unreadable": [str(path) for path, size in read.items() if size is None],
            "photographs": [{"source": str(s), "result": str(d)} for s, d in todo],
        }  # fmt: skip
        lines = {
            "photographs": ", ".join(f"{n} {text}" for text, n in counts.items()),
            **self.facts,
        }
        estimate = self._measured() if sizes else None
        if estimate is not None:
            report["seconds"] = self.options["ensemble"] * estimate.seconds(sizes)
            report["bytes"] = estimate.nbytes(sizes)
            pixels = sum(h * w for h, w in sizes) / 1e6
            lines["estimate"] = (
                f"about {duration_text(report['seconds'])} and {memory_text(report['bytes'])} for "
                f"{pixels:.1f} megapixels"
            )
        if report["unreadable"]:
            lines["unreadable"] = few_names(report["unreadable"])
        say_facts(
            {
                **lines,
                "result": f"{self.task.shown or self.task.request.target} (nothing was written)",
            }
        )
        return report


def _followed(bar: Bar, estimate: "Estimate | None") -> Any:
    """Let the bar follow the modules of the network, if they were timed."""
    return nullcontext() if estimate is None else estimate.steps.watching(bar.step)

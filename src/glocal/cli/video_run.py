"""A run of ``glocal restore`` over a video, and the report."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glocal.cli.frame_bar import FrameBar
from glocal.cli.reporting import say, say_facts
from glocal.cli.restore_report import STATUSES, Report
from glocal.cli.restore_video import VideoTask
from glocal.errors import ArgumentError
from glocal.texts import duration_text

if TYPE_CHECKING:
    from torch import nn

__all__ = ["VideoRun"]


@dataclass(frozen=True)
class VideoRun:
    """A network and the video that it restores.

    Attributes:
        task: what to restore, checked.
        network: the network that runs.
        options: those of `glocal.restore`, and quality and strip.
        facts: names and values to report: the network, the way, ...
        where: device and dtype, in words.
    """

    task: VideoTask
    network: "nn.Module"
    options: dict[str, Any]
    facts: dict[str, str]
    where: str

    def report(self, batch: Any, said: tuple[str, ...]) -> Report:
        """Restore the video, print what happened, and return it.

        Args:
            batch: frames in a call.
            said: notes that were printed before.

        Raises:
            ArgumentError: there is nothing to smooth.
        """
        from glocal.conversion.two_passes import two_passes_of
        from glocal.runs.video import restore_video

        task = self.task
        if task.smooth is not None and two_passes_of(self.network) is None:
            raise ArgumentError(
                "--smooth-statistics has nothing to smooth: the network has no global operations"
            )
        if task.dry_run:
            return self._dry()
        source = self.task.request.sources[0]
        options = {
            name: value
            for name, value in self.options.items()
            if name not in ("quality", "strip", "accept_damaged")
        }
        with FrameBar(source.name) as bar:
            result = restore_video(
                self.network, task.job, task.survey, smooth=task.smooth, resume=task.resume,
                strip=task.strip, batch=batch, progress=bar.frames, **options,
            )  # fmt: skip
        done = result.frames - result.done_before
        before = f" ({result.done_before} were done before)" if result.done_before else ""
        rate = f", {done / result.elapsed_s:.2g} frames/s" if done else ""
        say_facts(
            {
                **self._about(),
                **({"fall-back": result.fallback} if result.fallback else {}),
                "time": f"{duration_text(result.elapsed_s)} on {self.where}{rate}{before}",
                "result": str(task.request.target),
            }
        )
        for note in result.notes:
            if note not in said:
                say(note, "yellow", "note")
        height, width = result.size
        return self._json("restored") | {
            "videos": [
                {
                    "source": str(source),
                    "result": str(task.request.target),
                    "status": "restored",
                    "size": [height, width],
                    "frames": result.frames,
                    "frames_done_before": result.done_before,
                    "seconds": result.elapsed_s,
                    "encoding": task.job.encoding.describe(),
                    "cuts": len(task.survey.cuts),
                    "notes": result.notes,
                    "fallback": result.fallback or None,
                }
            ]
        }

    def _about(self) -> dict[str, str]:
        """Facts about the video and how it is restored."""
        job, survey = self.task.job, self.task.survey
        height, width = job.clip.size
        seconds = len(survey.times) / float(job.clip.rate)
        frames = f"{len(survey.times)} frames, {seconds:.1f} s"
        copied = f"; copied: {', '.join(job.streams.names)}" if job.streams.names else ""
        smooth, cuts = self.task.smooth, len(survey.cuts)
        anew = f", anew at {cuts} cuts" if cuts else ", no cuts"
        return {
            "video": f"{self.task.request.sources[0]} ({width} × {height} pixels, {frames})",
            **self.facts,
            "encoding": f"{job.encoding.describe()}{copied}",
            **({} if smooth is None else {"smoothed": f"statistics over {smooth}{anew}"}),
        }

    def _dry(self) -> Report:
        """Print and return what a run would do."""
        from glocal.images.image_files import read
        from glocal.inference.estimate import estimate

        pixels = read(self.task.pictures[0]).pixels
        once = {
            name: value
            for name, value in self.options.items()
            if name not in ("quality", "ensemble", "strip", "accept_damaged", "fallback")
        }
        found = estimate(self.network, pixels, **once)
        lines = self._about()
        report = self._json("to restore") | {"dry_run": True}
        if found is not None:
            turns = self.options.get("ensemble", 1)
            frames = len(self.task.survey.times)
            report["seconds"] = turns * frames * found.seconds([self.task.job.clip.size])
            lines["estimate"] = f"about {duration_text(report['seconds'])}"
        say_facts({**lines, "result": f"{self.task.request.target} (nothing was written)"})
        return report

    def _json(self, status: str) -> Report:
        counts = dict.fromkeys(STATUSES, 0)
        if status in counts:
            counts[status] = 1
        return {**self.facts, "device": self.where, **counts}

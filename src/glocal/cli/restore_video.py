"""``glocal restore`` for a video: its options, and what is checked before the run."""

import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import typer

from glocal.cli.arguments import check_new_file
from glocal.cli.reporting import say, waiting
from glocal.cli.restore_task import LARGE_PIXELS
from glocal.cli.targets import PIPE, Request, result_name
from glocal.errors import ArgumentError
from glocal.video.formats import CodecChoice, is_video

if TYPE_CHECKING:
    from glocal.inference.smoothing import Smoothing
    from glocal.runs.inputs import InputSource
    from glocal.runs.video_job import VideoJob
    from glocal.video.survey import Survey

__all__ = [
    "CodecOption",
    "LosslessOption",
    "SmoothOption",
    "VideoOptions",
    "VideoTask",
]

CodecOption = Annotated[
    CodecChoice,
    typer.Option(
        "--codec",
        help="Codec of a video. auto keeps H.264, H.265 and, in .mkv, FFV1; others become H.264, "
        "or H.265 above 8 bits.",
        rich_help_panel="Videos",
    ),
]
LosslessOption = Annotated[
    bool,
    typer.Option("--lossless", help="Encode a video without loss.", rich_help_panel="Videos"),
]
SmoothOption = Annotated[
    str | None,
    typer.Option(
        "--smooth-statistics",
        metavar="TIME",
        help="Average the statistics of crops over the frames of a video, with weights that fall "
        "to 1/e in this time, such as 0.5s, or 12 for frames; anew at each cut. For "
        "[bold]--way crops[/bold].  [dim]\\[default: off][/dim]",
        show_default=False,
        rich_help_panel="Videos",
    ),
]


@dataclass(frozen=True)
class VideoOptions:
    """Options that are for videos alone.

    Attributes:
        codec: of the result.
        lossless: encode without loss.
        smooth: time to smooth statistics over, as written.
    """

    codec: CodecChoice = "auto"
    lossless: bool = False
    smooth: str | None = None

    def check_photographs(self) -> None:
        """Check that none is given for photographs.

        Raises:
            ArgumentError: one is.
        """
        given = {
            "--codec": self.codec != "auto",
            "--lossless": self.lossless,
            "--smooth-statistics": self.smooth is not None,
        }
        for name, is_given in given.items():
            if is_given:
                raise ArgumentError(f"{name} is for a video; leave it out for photographs")


@dataclass
class VideoTask:
    """A video to restore, with the interface of `Task`; a context manager.

    Attributes:
        request: source and target.
        options: for videos alone.
        quality: 1 to 100.
        overwrite: replace an existing result.
        resume: continue an interrupted run.
        dry_run: write nothing.
        strip: metadata that is left out.
        accept_damaged: take what can be decoded of a damaged video.
        is_large: a frame takes long.
        pictures: the first frame as an image file, which is looked at before the run.
    """

    request: Request
    options: VideoOptions
    quality: int
    overwrite: bool
    resume: bool
    dry_run: bool
    strip: Literal["gps", "all"] | None = None
    accept_damaged: bool = False
    is_large: bool = False
    pictures: list[Path] = field(default_factory=list)
    smooth: "Smoothing | None" = field(default=None, init=False)
    job: "VideoJob" = field(init=False)
    survey: "Survey" = field(init=False)

    @staticmethod
    def is_for(request: Request) -> bool:
        """True if a source is a video.

        Raises:
            ArgumentError: there are several, or photographs beside it, or the result would go to
                standard output.
        """
        videos = [path for path in request.sources if is_video(path) and not path.is_dir()]
        if not videos:
            return False
        if len(request.sources) > 1:
            raise ArgumentError(
                f"{videos[0]}: videos are restored one by one; name this one alone, and its target"
            )
        if request.target == PIPE:
            raise ArgumentError("a video cannot go to standard output; name an output file")
        return True

    def __enter__(self) -> Self:
        """Make a folder for the first frame."""
        self._folder = tempfile.TemporaryDirectory(prefix="glocal-")
        return self

    def __exit__(self, *raised: object) -> None:
        """Delete it."""
        self._folder.cleanup()

    def check(self, *, is_temporary: bool) -> tuple[str, ...]:
        """Decode the video once; return the notes that were printed, before a network is loaded.

        Raises:
            ArgumentError: the result cannot be written.
            VideoError: the video cannot be read, is damaged, or fits no codec or container.
        """
        from glocal.images.files import make_folder
        from glocal.inference.smoothing import Smoothing
        from glocal.runs.video_job import first_picture, video_job
        from glocal.video.survey import surveyed

        source, target = self.request.sources[0], self.request.target
        if self.options.smooth is not None:
            self.smooth = Smoothing.of(self.options.smooth)
        self.job = video_job(
            source, target, codec=self.options.codec, quality=self.quality,
            lossless=self.options.lossless,
        )  # fmt: skip
        if target.name == result_name(source).name and not target.parent.exists():
            if not self.dry_run:
                make_folder(target.parent, ArgumentError)
        else:
            check_new_file(target, self.overwrite)
        with waiting("Checking the frames"):
            self.survey = surveyed(self.job.clip, accept_damaged=self.accept_damaged)
        height, width = self.job.clip.size
        self.is_large = height * width * len(self.survey.times) > LARGE_PIXELS
        notes = (*self.survey.notes, *self.job.streams.notes)
        if self.survey.damage:
            notes = (f"the video is damaged: {self.survey.damage}", *notes)
        for note in notes:
            say(note, "yellow", "note")
        picture = Path(self._folder.name) / f"{source.stem}-frame.png"
        first_picture(self.job.clip, picture)
        self.pictures = [picture]
        return notes

    def first(self) -> AbstractContextManager[Path]:
        """Yield the first frame as an image file."""
        return nullcontext(self.pictures[0])

    def check_inputs(self, inputs: "Mapping[str, InputSource]") -> None:
        """Check that inputs beside the frames are the same for all.

        Raises:
            ArgumentError: one is a folder.
        """
        for name, value in inputs.items():
            if isinstance(value, Path) and value.is_dir():
                raise ArgumentError(
                    f"--input {name}: {value} is a folder; a video takes one number or image for "
                    "all frames"
                )

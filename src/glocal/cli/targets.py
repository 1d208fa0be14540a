"""Which files a command reads, and where it writes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from glocal.errors import ArgumentError

__all__ = ["PIPE", "Request", "requested", "result_name"]

PIPE = Path("-")
"""Standard input as a source, standard output as a target."""


@dataclass(frozen=True)
class Request:
    """Sources and target of a run.

    Attributes:
        sources: files and folders; `PIPE` alone.
        target: a file, a folder of results, or `PIPE`.
        folder: True if the target is a folder for the results of several photographs.
    """

    sources: tuple[Path, ...]
    target: Path
    folder: bool

    @property
    def is_remote(self) -> bool:
        """True if a folder is behind a URL."""
        return any("://" in str(each) for each in (*self.sources, self.target))

    @property
    def piped(self) -> bool:
        """True if standard input or output takes part."""
        return PIPE in (*self.sources, self.target)


def requested(words: Sequence[str], out: str | None, *, overwrite: bool, tag: str) -> Request:
    """Return what the words of a command line ask for. Nothing is written.

    The last of several words is the target if it ends in a slash or is a folder, and also if there
    are two words and it does not exist, or may be replaced.

    Args:
        words: sources, and perhaps a target behind them.
        out: the target, if it is given by itself.
        overwrite: existing results may be replaced.
        tag: what the name of a result beside its photograph ends in.

    Raises:
        ArgumentError: a source does not exist, or the target is in doubt.
        typer.BadParameter: the target is missing.
    """
    given = [*words, *([] if out is None else [out])]
    if any("://" in word for word in given):
        return _behind_urls(given)
    sources, target = (list(words), out) if out is not None else _divided(words, overwrite)
    paths = tuple(map(Path, sources))
    if PIPE in paths:
        if len(paths) > 1:
            raise ArgumentError("- stands for standard input, which holds one photograph alone")
        return Request(paths, Path(target or PIPE), False)
    for path in paths:
        if not path.exists():
            raise ArgumentError(f"{path}: no such file or folder")
    several = len(paths) > 1 or paths[0].is_dir()
    if target is None:
        if several:
            raise typer.BadParameter(
                "give an output folder for several photographs, such as "
                f"glocal restore {paths[0]} out/",
                param_hint="TARGET",
            )
        name = result_name(paths[0])
        return Request(paths, name.with_name(f"{name.stem}-{tag}{name.suffix}"), False)
    if several and Path(target) == PIPE:
        raise ArgumentError("standard output takes one photograph alone; give an output folder")
    if not several and _is_folder(target):
        return Request(paths, Path(target) / result_name(paths[0]).name, False)
    return Request(paths, Path(target), several)


def _behind_urls(words: Sequence[str]) -> Request:
    """Return the request of two folders of which one is given as a URL.

    Raises:
        ArgumentError: there are not two folders.
    """
    from glocal.runs.remote import UrlPath, local_or_url

    if len(words) != 2:
        raise ArgumentError(
            "with a URL, give a folder of photographs and one for the results, such as glocal "
            "restore s3://bucket/photos s3://bucket/restored"
        )
    source, target = map(local_or_url, words)
    if not isinstance(source, UrlPath):
        if not source.is_dir():
            raise ArgumentError(f"{source}: no such folder")
        source = source.absolute()
    if not isinstance(target, UrlPath):
        target = target.absolute()
    return Request((source,), target, True)


def result_name(source: Path) -> Path:
    """Return the name of a result in the folder of its photograph, in a format that is written."""
    from glocal.images.limits import written_suffix
    from glocal.video.formats import is_video, video_suffix

    named = video_suffix if is_video(source) else written_suffix
    return source.with_suffix(named(source.suffix))


def _divided(words: Sequence[str], overwrite: bool) -> tuple[list[str], str | None]:
    """Return the sources and the target, None if there is none."""
    *sources, last = words
    if not sources:
        return [last], None
    if _is_folder(last) or (len(sources) == 1 and Path(sources[0]).is_dir()):
        return sources, last
    if len(sources) > 1:
        if not Path(last).exists():
            raise ArgumentError(
                f"{last}: no such photograph or folder; end the name in / to have the folder made"
            )
        return list(words), None
    if Path(last) != PIPE and Path(last).is_file() and not overwrite and last != sources[0]:
        raise ArgumentError(
            f"{last} exists; choose another name or pass --overwrite. To restore several "
            "photographs, name a folder behind them, such as out/"
        )
    return sources, last


def _is_folder(word: str) -> bool:
    return word.endswith(("/", os.sep)) or Path(word).is_dir()

"""File to file through a network, without ever holding the whole image; an interrupted run goes on.

The source is decoded to plain samples on disk, tiles are read from there and their cores written
beside them, and the finished samples are encoded to the target. All of that lies in one hidden
folder beside the target, with a journal of the tiles that are done; a finished run removes it.
"""

import dataclasses
import errno
import hashlib
import shutil
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glocal.conversion.rewrite import Rewritten
from glocal.errors import ArgumentError, GlocalError, GlocalWarning
from glocal.images.files import shortened
from glocal.images.raw import Header, Raw, check_format, header, pack, unpack
from glocal.inference.memory import memory_budget
from glocal.inference.memory_limit import memory_limit
from glocal.inference.options import TilesLike, as_tiles
from glocal.inference.plan import TilePlan
from glocal.inference.restore import local_window, measured_plan
from glocal.inference.run import TiledImage, run
from glocal.inference.runner import ModelRunner, device_of, eval_mode, model_runner
from glocal.inference.tensors import as_batch
from glocal.ops.placement import Resolution
from glocal.ops.windows import Size
from glocal.runs.journal import Journal
from glocal.runs.provenance import versions, weights_sha256
from glocal.scanning.plan import Plan

__all__ = ["STREAMED_PIXELS", "restore_streamed", "streams", "work_folder"]

STREAMED_PIXELS = 2**25
"""Images of more pixels are streamed, in tiles of no more: they take minutes, after which one wants
to go on."""

STREAMED_SHARE = 1 / 8
"""Of the memory a run may take: decoded images that want more of it, with their result, are
streamed too."""


def work_folder(target: Path) -> Path:
    """Where a run that writes this file keeps what it needs to go on."""
    return target.with_name(f".{shortened(target.name, 200)}.part")


def streams(
    model: nn.Module,
    told: Header,
    *,
    tiles: TilesLike = "auto",
    memory: int | None = None,
    device: torch.device | str | None = None,
    **others: Any,
) -> bool:
    """Whether an image is better streamed: it is large, and the network's tiles have a halo.

    Options are those of `glocal.restore`. A network that was not converted as a whole is not
    streamed, nor are blended tiles.
    """
    tiles = as_tiles(tiles)
    if tiles.size is None or tiles.blended or local_window(model, tiles.halo) is None:
        return False
    here = torch.device("cpu")  # where samples lie, wherever the network runs
    budget = memory_budget(here, memory if device_of(model, device) == here else None, 0)
    large = budget is not None and 2 * told.nbytes > STREAMED_SHARE * budget
    return large or told.size[0] * told.size[1] > STREAMED_PIXELS


def restore_streamed(
    model: nn.Module,
    source: Path,
    target: Path,
    *,
    quality: int = 95,
    resume: bool = True,
    tiles: TilesLike = "auto",
    memory: int | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    output: int | None = None,
    channels: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    report: Callable[[str], None] | None = None,
) -> tuple[Size, tuple[str, ...]]:
    """Restore one image file of any size; an existing target is replaced.

    The result is that of `glocal.restore` with the same tiles, sample by sample.

    Args:
        model: a network that was converted as a whole, or any local one with a ``halo``.
        source: file to read.
        target: file to write.
        quality: of JPEG and WebP files, 1 to 100.
        resume: go on with an interrupted run of the same source, network and options.
        tiles, memory, dtype, device, output, channels, progress, report: as for
            `glocal.restore`. A run that goes on keeps its tiles, whatever the memory is now.

    Returns:
        (height, width) of the source, and what the files' formats could not hold.

    Raises:
        ImageError: a file cannot be read or written.
        ArgumentError: an option cannot be used, or the network has no halo.
        GlocalError: what is to lie beside the target until then cannot be read or written.
        KeyboardInterrupt: with a line that says how far the run came and how it goes on.
    """
    tiles = as_tiles(tiles)
    window = local_window(model, tiles.halo)
    if window is None:
        raise ArgumentError(
            "only converted networks are streamed: the tiles of others do not fit together; "
            "use localize, or give the halo of a network that is local by itself"
        )
    if tiles.blended:
        raise ArgumentError("streamed tiles have a halo: leave out overlap and blend")
    told = header(source)
    check_format(target, told.size)
    runner = model_runner(
        model, told.channels, dtype=dtype, device=device, output=output, channels=channels
    )
    options = {
        "tile": tiles.size, "halo": tiles.halo, "dtype": str(runner.dtype), "output": output,
    }  # fmt: skip
    identity = {**_identity(model, source), **options, "channels": channels}
    work = _Work(work_folder(target), told, identity, resume)
    finished = False
    try:
        with work.journal:
            if not work.decoded:
                unpack(source, work.colour, work.alpha)
                work.journal.append({"decoded": True})
            image = TiledImage(work.cut, told.size, work.back)
            bound = memory_limit(runner.device, memory)
            with eval_mode(model, runner.device), torch.inference_mode(), bound:
                layout = work.layout()
                if layout is None:
                    budget = memory_budget(runner.device, memory, 0)
                    within = dataclasses.replace(tiles, size=_within(tiles.given_size, told.size))
                    layout = measured_plan(runner, image, window, within, budget, STREAMED_PIXELS)
                    work.journal.append(_line_of(layout))
                if report is not None:
                    before = f", {len(work.done)} of them done before" if work.done else ""
                    report(f"{layout}{before}")
                work.total = len(layout.tiles)
                _run(layout, runner, image, work, target, progress)
        assert work.result is not None
        made = pack(target, work.result, work.alpha, told.facts, quality=quality)
        notes = told.facts.notes + made
        finished = True
    except KeyboardInterrupt:
        if not work.done:
            raise
        raise KeyboardInterrupt(
            f"{len(work.done)} of {work.total} tiles are kept in {work.folder}; "
            "the same command goes on from there"
        ) from None
    except OSError as problem:
        raise work.refusal(problem) from None
    finally:
        if finished or not work.done:
            shutil.rmtree(work.folder, ignore_errors=True)
    return told.size, notes


class _Work:
    """What a run has on disk, and how far it is.

    Attributes:
        journal: whether the source is decoded, the tiles, the scale, and which tiles are done.
        done: numbers of tiles.
        total: how many there are.
        result: None until the scale is known.
    """

    def __init__(self, folder: Path, told: Header, identity: dict[str, Any], resume: bool) -> None:
        self.folder, self._told = folder, told
        self.colour = Raw(folder / "source.raw", told.size, told.channels, told.dtype)
        self.alpha = Raw(folder / "alpha.raw", told.size, 1, told.dtype) if told.has_alpha else None
        path = folder / "tiles.jsonl"
        try:
            self.journal = Journal(path, identity, overwrite=not resume, error=GlocalError)
        except ArgumentError:
            warnings.warn(
                f"{folder}: is not of this source, network, options and version of glocal; "
                "beginning anew",
                GlocalWarning,
                stacklevel=3,
            )
            self.journal = Journal(path, identity, overwrite=True, error=GlocalError)
        lines = self.journal.lines
        whole = all(raw is None or raw.whole for raw in (self.colour, self.alpha))
        self.decoded = whole and any("decoded" in line for line in lines)
        self.done = {line["tile"] for line in lines if "tile" in line}
        self.total = 0
        self.result: Raw | None = None
        for line in lines:
            if "scale" in line:
                self.result = self._of_scale(line["scale"], line["channels"])

    def refusal(self, problem: OSError) -> GlocalError:
        """What the disk says, and where it is full, how much room it takes."""
        said = f"{self.folder}: cannot be written ({problem.strerror})"
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return GlocalError(said)
        result = self.result or self._told  # as large as the source, until the scale is known
        megabytes = -(-(self._told.nbytes + result.nbytes) // 10**6)
        return GlocalError(
            f"{said}; it takes {megabytes} MB: make room, or name an output on another disk"
        )

    @cached_property
    def back(self) -> Callable[[Tensor], np.ndarray]:
        """From a restored tile to samples of the source's number type."""
        return as_batch(self.colour.read(slice(0, 1), slice(0, 1)))[1]

    def cut(self, rows: slice, columns: slice) -> Tensor:
        """A part of the source, (1, c, h, w)."""
        return as_batch(self.colour.read(rows, columns))[0]

    def layout(self) -> TilePlan | None:
        """The tiles that an interrupted run began with."""
        line = next((line["layout"] for line in self.journal.lines if "layout" in line), None)
        if line is None:
            return None
        size = (int(line["tile"][0]), int(line["tile"][1]))
        resolutions = tuple(Resolution(**each) for each in line["resolutions"])
        return TilePlan(self._told.size, size, line["halo"], line["doubt"], resolutions)

    def begin(self, scale: int, channels: int) -> Raw:
        """The file of the result, made for the first tile."""
        if self.result is None:
            self.result = self._of_scale(scale, channels)
            self.result.create()
            self.journal.append({"scale": scale, "channels": channels})
        return self.result

    def _of_scale(self, scale: int, channels: int) -> Raw:
        height, width = self._told.size
        size = height * scale, width * scale
        return Raw(self.folder / "result.raw", size, channels, self._told.dtype)


def _run(
    layout: TilePlan,
    runner: ModelRunner,
    image: TiledImage,
    work: _Work,
    target: Path,
    progress: Callable[[int, int], None] | None,
) -> None:
    """The tiles that are not done yet."""
    done = frozenset(work.done)
    for number, tile, core, scale in run(layout, runner, image, done=done, progress=progress):
        check_format(target, (image.size[0] * scale, image.size[1] * scale))
        work.begin(scale, core.shape[1]).write(*tile.core(scale), work.back(core))
        work.journal.append({"tile": number})
        work.done.add(number)


def _identity(model: nn.Module, source: Path) -> dict[str, Any]:
    """What an interrupted run has to have in common with the one that goes on."""
    facts = source.stat()
    with open(source, "rb") as file:
        start = hashlib.sha256(file.read(2**16)).hexdigest()
    plan = getattr(model, "glocal_plan", None)
    described = plan.to_json() if isinstance(plan, Plan) else ""
    # a rewritten block prints as the original: what it runs may differ by the overlap of windows
    programs = [str(m.program) for m in model.modules() if isinstance(m, Rewritten)]
    return {
        "source": {"size": facts.st_size, "mtime_ns": facts.st_mtime_ns, "start_sha256": start},
        "network": weights_sha256(model),
        "architecture": hashlib.sha256(f"{model}{described}{programs}".encode()).hexdigest(),
        "glocal": versions()["glocal"],
    }


def _line_of(layout: TilePlan) -> dict[str, Any]:
    return {
        "layout": {
            "tile": layout.tile_size,
            "halo": layout.halo,
            "doubt": layout.doubt,
            "resolutions": [vars(each) for each in layout.resolutions],
        }
    }


def _within(tile: Size | None, size: Size) -> Size | None:
    """A tile no larger than the image."""
    return None if tile is None else (min(tile[0], size[0]), min(tile[1], size[1]))

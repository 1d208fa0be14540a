"""Restore an image file tile by tile, without loading it as a whole.

The source is decoded to uncompressed samples on disk. Tiles are read from there, restored and
written to a second file of samples, which is finally encoded to the destination. A journal lists
the finished tiles, so that an interrupted run continues. A finished run deletes these files.

Above 300 lines: the arguments of `restore_streamed`, described.
"""

import hashlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glocal.conversion.identity import network_sha256
from glocal.engines.runtimes import Runtime
from glocal.errors import ArgumentError, GlocalError, GlocalWarning
from glocal.images.limits import check_format
from glocal.images.metadata import Strip, stripped
from glocal.images.sample_files import (
    Header,
    decode_file,
    encode_file,
    read_header,
)
from glocal.inference.blending import BLENDED_OVERLAP, blended, smaller_sizes
from glocal.inference.colours import Grey
from glocal.inference.fallback import FallbackLike
from glocal.inference.inputs import (
    InputValue,
    digests,
    extras_of,
)
from glocal.inference.measure import pixels_that_fit
from glocal.inference.memory import memory_budget
from glocal.inference.memory_limit import memory_limit
from glocal.inference.options import TilesLike, as_tiles
from glocal.inference.placing import device_of
from glocal.inference.plan import BlendedTiles, TilePlan
from glocal.inference.run import TiledImage, run, with_statistics
from glocal.inference.runner import ModelRunner
from glocal.inference.runtime import model_runner
from glocal.inference.tiling import local_window, measured_plan
from glocal.ops.windows import Size
from glocal.provenance import versions
from glocal.runs.executors.work import Executor
from glocal.runs.private_folder import work_folder
from glocal.runs.tile_work import ImageSamples, TileResult, TileWork
from glocal.runs.work_folder import WorkFolder
from glocal.scanning.modules import eval_mode

__all__ = ["STREAMED_PIXELS", "TILE_PIXELS", "restore_streamed", "should_stream"]

STREAMED_PIXELS = 8_000_000
"""Images with more pixels are streamed: they take many seconds, and an interrupted run should not
lose them."""

TILE_PIXELS = STREAMED_PIXELS // 2
"""Most pixels of their tiles, so that one tile of several is finished early."""

STREAMED_SHARE = 1 / 8
"""Share of the available memory. Images that need more, decoded and with their result, are streamed
too."""

JOURNAL_FORMAT = 5
"""Format of the journal's lines; a run with another format starts afresh."""


def should_stream(
    model: nn.Module,
    header: Header,
    *,
    tiles: TilesLike = "auto",
    memory: int | None = None,
    device: torch.device | str | None = None,
    ensemble: int = 1,
    fallback: FallbackLike | None = None,
    **others: Any,
) -> bool:
    """True for a large image and a network whose tiles have a halo.

    Options are those of `glocal.restore`. Networks with global operations and blended tiles are
    never streamed, nor is an image of which flips and turns are averaged. With a fallback, an
    image is streamed only if memory is short: a streamed one has no full-image result.
    """
    tiles = as_tiles(tiles)
    if (
        ensemble != 1
        or tiles.size is None
        or tiles.blended
        or local_window(model, tiles.halo) is None
    ):
        return False
    cpu = torch.device("cpu")  # samples are in CPU memory, wherever the network runs
    budget = memory_budget(cpu, memory if device_of(model, device) == cpu else None, 0)
    is_large = budget is not None and 2 * header.nbytes > STREAMED_SHARE * budget
    has_many = header.size[0] * header.size[1] > STREAMED_PIXELS
    return is_large or (has_many and fallback is None)


def restore_streamed(
    model: nn.Module,
    source: Path,
    destination: Path,
    *,
    quality: int = 95,
    resume: bool = True,
    strip: Strip | None = None,
    tiles: TilesLike = "auto",
    memory: int | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    output: int | str | None = None,
    channels: int | None = None,
    grey: Grey = "channels",
    inputs: Mapping[str, InputValue] | None = None,
    runtime: Runtime = "torch",
    strength: float = 1.0,
    accept_damaged: bool = False,
    progress: Callable[[int, int], None] | None = None,
    report: Callable[[str], None] | None = None,
    executor: Executor | None = None,
) -> tuple[Size, tuple[str, ...]]:
    """Restore one image file of any size; an existing destination is replaced.

    The samples equal those of `glocal.restore` with the same tiles.

    Args:
        model: a network without global operations: converted as a whole, or with a `halo`.
        source: file to read.
        destination: file to write.
        quality: of JPEG and WebP files, 1 to 100.
        resume: continue an interrupted run of the same source, network and options.
        strip: metadata that is left out of the result.
        accept_damaged: restore the readable parts of a damaged file; a note says so.
        tiles, memory, dtype, device, output, channels, grey, inputs, runtime, strength, progress,
            report: as for `glocal.restore`. A resumed run keeps its tiles, whatever memory is
            available now; blended tiles begin again.
        executor: whose workers restore tiles, all but the first; this process alone by default.
            They read the folder of temporary files beside the destination.

    Returns:
        (height, width) of the source, and what the file formats could not hold.

    Raises:
        ImageError: a file cannot be read or written.
        ArgumentError: an option is invalid, or the halo is unknown.
        GlocalError: the temporary files beside the destination cannot be read or written.
        KeyboardInterrupt: the message says how many tiles are done and how to resume.
    """
    tiles = as_tiles(tiles)
    window = local_window(model, tiles.halo)
    if window is None:
        raise ArgumentError(
            "streaming needs a converted network: tiles of others show seams; use localize, or "
            "give the halo of a network without global operations"
        )
    if tiles.blended:
        raise ArgumentError("streamed tiles have a halo: omit overlap and blend")
    header = read_header(source, accept_damaged=accept_damaged)
    check_format(destination, header.size)
    inputs = inputs or {}
    extras = extras_of(model, inputs)
    runner = model_runner(
        model, header.channels, header.size, dtype=dtype, device=device, output=output,
        channels=channels, grey=grey, extras=extras, runtime=runtime, strength=strength,
        report=report,
    )  # fmt: skip
    options = {
        "tile": tiles.size, "halo": tiles.halo, "dtype": str(runner.dtype), "output": output,
        "grey": grey, "strength": strength, "inputs": digests(inputs),
        "accept_damaged": accept_damaged,
    }  # fmt: skip
    identity = {**_identity(model, source), **options, "channels": channels}
    work = WorkFolder(work_folder(destination), header, identity, resume=resume)
    finished = False
    try:
        work.make()
        with work.journal:
            if not work.is_decoded:
                work.decoded(
                    decode_file(source, work.colour, work.alpha, accept_damaged=accept_damaged)
                )
            samples = ImageSamples(source, work.colour, header, inputs, extras)
            image, write = samples.tiled(), _writer(work, samples)
            spread = None if executor is None else partial(_spread, executor, runner, samples)
            bound = memory_limit(runner.device, memory)
            with eval_mode(model, runner.device), torch.inference_mode(), bound:
                budget = memory_budget(runner.device, memory, 0)
                fitting = min(pixels_that_fit(runner, image, budget), TILE_PIXELS)
                given = tiles.given_size
                image = with_statistics(image, runner, math.prod(given) if given else fitting)
                resumed = _resumed_plan(work, header.size)
                plan: TilePlan | BlendedTiles | None = resumed
                if resumed is not None and (lost := work.forget_damaged(resumed)):
                    warnings.warn(
                        f"{lost} saved tiles of {source} are damaged and are done again",
                        GlocalWarning,
                        stacklevel=2,
                    )
                if plan is None:
                    within = replace(tiles, size=_within(tiles.given_size, header.size))
                    plan = measured_plan(runner, image, window, within, budget, TILE_PIXELS)
                if isinstance(plan, BlendedTiles):
                    _run_blended(plan, runner, image, write, work, destination, progress)
                else:
                    if resumed is None:
                        work.journal.append({"plan": plan.to_dict()})
                    if report is not None:
                        before = f", {len(work.done)} of them done before" if work.done else ""
                        report(f"{plan}{before}")
                    work.total = len(plan.tiles)
                    _run(plan, runner, image, write, work, destination, progress, spread)
        assert work.result is not None
        metadata = stripped(header.metadata, strip)
        notes = encode_file(destination, work.result, work.alpha, metadata, quality=quality)
        finished = True
    except KeyboardInterrupt as interruption:
        if not work.done:
            raise
        raise type(interruption)(
            f"{len(work.done)} of {work.total} tiles are saved in {work.path}; "
            "run the same command again to continue"
        ) from None
    except OSError as problem:
        raise work.error(problem) from None
    finally:
        if finished or not work.done:
            work.remove()
    return header.size, tuple(dict.fromkeys(work.notes + metadata.notes + notes))


def _writer(
    work: WorkFolder, samples: ImageSamples
) -> Callable[[slice, slice, Tensor, int], np.ndarray]:
    """Writes restored pixels (1, c, h·s, w·s) to a rectangle of the result of scale s.

    It returns the samples.
    """

    def write(rows: slice, columns: slice, restored: Tensor, scale: int) -> np.ndarray:
        pixels = samples.restored(rows, columns, restored, scale)
        work.create_result(scale, restored.shape[1]).write(rows, columns, pixels)
        return pixels

    return write


def _run_blended(
    plan: BlendedTiles,
    runner: ModelRunner,
    image: TiledImage,
    write: Callable[[slice, slice, Tensor, int], np.ndarray],
    work: WorkFolder,
    destination: Path,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Restore blended tiles, band by band."""
    sizes = smaller_sizes(plan.tile_size)
    bands = blended(runner, image, sizes, BLENDED_OVERLAP, "linear", progress, plan.align)
    for top, band, scale in bands:
        check_format(destination, (image.size[0] * scale, image.size[1] * scale))
        rows, columns = slice(top, top + band.shape[-2]), slice(0, image.size[1] * scale)
        write(rows, columns, band, scale)


def _run(
    plan: TilePlan,
    runner: ModelRunner,
    image: TiledImage,
    write: Callable[[slice, slice, Tensor, int], np.ndarray],
    work: WorkFolder,
    destination: Path,
    progress: Callable[[int, int], None] | None,
    spread: Callable[[TiledImage, TilePlan, list[int]], Iterator[TileResult]] | None,
) -> None:
    """Restore the tiles that are not done yet; `write` writes one, `spread` has others restore."""
    done, scale = frozenset(work.done), 1
    for number, tile, core, scale in run(plan, runner, image, done=done, progress=progress):
        check_format(destination, (image.size[0] * scale, image.size[1] * scale))
        work.finished(number, write(*tile.core(scale), core, scale))
        if spread is not None:
            break  # size and channels of the result are known
    left = [number for number in range(len(plan.tiles)) if number not in work.done]
    for each in spread(image, plan, left) if spread is not None and left else ():
        if each.samples is None:
            raise GlocalError(f"{destination}: tile {each.number + 1} failed: {each.error}")
        assert work.result is not None
        work.result.write(*plan.tiles[each.number].core(scale), each.samples)
        work.finished(each.number, each.samples)
        if progress is not None:
            progress(len(work.done), len(plan.tiles))


def _spread(
    executor: Executor,
    runner: ModelRunner,
    samples: ImageSamples,
    image: TiledImage,
    plan: TilePlan,
    numbers: list[int],
) -> Iterator[TileResult]:
    """Let an executor restore tiles; yield them as they come."""
    work = TileWork(runner, plan, samples, image.statistics)
    with closing(executor.run(work, numbers)) as found:
        yield from found


def _identity(model: nn.Module, source: Path) -> dict[str, Any]:
    """Return what must be equal in a resumed run and the interrupted one."""
    with open(source, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "journal": JOURNAL_FORMAT,
        "source": {"size": source.stat().st_size, "sha256": digest},
        "network": network_sha256(model),
        "glocal": versions()["glocal"],
    }


def _resumed_plan(work: WorkFolder, size: Size) -> TilePlan | None:
    """The tiles of the interrupted run, if any."""
    line = next((line["plan"] for line in work.journal.lines if "plan" in line), None)
    with work.journal.reading():
        return None if line is None else TilePlan.from_dict(size, line)


def _within(tile: Size | None, size: Size) -> Size | None:
    """The tile size, limited to the size of the image."""
    return None if tile is None else (min(tile[0], size[0]), min(tile[1], size[1]))

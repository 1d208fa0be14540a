"""Restore an image file tile by tile, without loading it as a whole; interrupted runs continue.

The source is decoded to uncompressed samples on disk. Tiles are read from there, restored and
written to a second file of samples, which is finally encoded to the destination. A journal lists
the finished tiles. A finished run deletes these files.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from glocal.conversion.rewrite import Rewritten
from glocal.errors import ArgumentError
from glocal.images.sample_files import (
    Header,
    check_format,
    decode_file,
    encode_file,
    read_header,
)
from glocal.inference.geometry import pieces
from glocal.inference.memory import give_back, kept_within
from glocal.inference.reach import Layout, lay_out
from glocal.inference.restore import local_window, room_for
from glocal.inference.runner import Runner, channels_of, device_of, eval_mode, resolve_dtype
from glocal.inference.samples import as_batch, warn_of_values
from glocal.inference.tiling import Level, Tiler
from glocal.ops.windows import Size
from glocal.runs.provenance import versions, weights_sha256
from glocal.runs.work_folder import WorkFolder, work_folder
from glocal.scanning.plan import Plan

__all__ = ["STREAMED_PIXELS", "restore_streamed", "should_stream"]

STREAMED_PIXELS = 2**25
"""Images with more pixels are streamed, in tiles of at most this many: they take minutes, and an
interrupted run should not lose them."""

STREAMED_SHARE = 1 / 8
"""Share of the available memory. Images that need more, decoded and with their result, are streamed
too."""


def should_stream(
    model: nn.Module,
    header: Header,
    *,
    tile: Any = "auto",
    halo: int | None = None,
    memory: int | None = None,
    overlap: int | None = None,
    blend: str | None = None,
    device: torch.device | str | None = None,
    **others: Any,
) -> bool:
    """True if an image should be streamed: it is large, and the network's tiles have a halo.

    Options are those of `glocal.restore`. Networks with global operations and blended tiles are
    never streamed.
    """
    if tile is None or overlap is not None or blend is not None:
        return False
    if local_window(model, halo) is None:
        return False
    cpu = torch.device("cpu")  # samples are in CPU memory, wherever the network runs
    room = room_for(cpu, memory if device_of(model, device) == cpu else None, 0)
    is_large = room is not None and 2 * header.nbytes > STREAMED_SHARE * room
    return is_large or header.size[0] * header.size[1] > STREAMED_PIXELS


def restore_streamed(
    model: nn.Module,
    source: Path,
    destination: Path,
    *,
    quality: int = 95,
    resume: bool = True,
    tile: int | Size | Literal["auto"] = "auto",
    halo: int | None = None,
    memory: int | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    output: int | None = None,
    channels: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    report: Callable[[str], None] | None = None,
) -> tuple[Size, tuple[str, ...]]:
    """Restore one image file of any size; an existing destination is replaced.

    The samples equal those of `glocal.restore` with the same tiles.

    Args:
        model: a network without global operations: converted as a whole, or with a `halo`.
        source: file to read.
        destination: file to write.
        quality: of JPEG and WebP files, 1 to 100.
        resume: continue an interrupted run of the same source, network and options.
        tile, halo, memory, dtype, device, output, channels, progress, report: as for
            `glocal.restore`. A resumed run keeps its tiles, whatever memory is available now.

    Returns:
        (height, width) of the source, and what the file formats could not hold.

    Raises:
        ImageError: a file cannot be read or written.
        ArgumentError: an option is invalid, or the halo is unknown.
        GlocalError: the temporary files beside the destination cannot be read or written.
        KeyboardInterrupt: with a message on how many tiles are done and how to resume.
    """
    window = local_window(model, halo)
    if window is None:
        raise ArgumentError(
            "streaming needs a converted network: tiles of others show seams; use localize, or "
            "give the halo of a network without global operations"
        )
    header = read_header(source)
    check_format(destination, header.size)
    runner = Runner(model, resolve_dtype(model, dtype), device_of(model, device), output)
    options = {"tile": tile, "halo": halo, "dtype": str(runner.dtype), "output": output}
    identity = {**_identity(model, source), **options, "channels": channels}
    work = WorkFolder(work_folder(destination), header, identity, resume=resume)
    finished = False
    try:
        with work.journal:
            if not work.is_decoded:
                decode_file(source, work.colour, work.alpha)
                work.journal.append({"decoded": True})
            grey = header.channels == 1 and (channels or channels_of(model)) == 3
            tiler = Tiler(runner, _reader(work), header.size, grey)
            tiler.finish = back = as_batch(work.colour.read(slice(0, 1), slice(0, 1)))[1]
            bound = kept_within(runner.device, memory)
            with eval_mode(model, runner.device), torch.inference_mode(), bound:
                layout = _resumed_layout(work, tiler)
                if layout is None:
                    room = room_for(runner.device, memory, 0)
                    within = _within(tile, header.size)
                    layout = lay_out(tiler, window, within, halo, room, STREAMED_PIXELS)
                    work.journal.append(_line_of(layout, tiler))
                if report is not None:
                    before = f", {len(work.done)} of them done before" if work.done else ""
                    report(f"{layout}{before}")
                work.total = len(layout.pieces)
                _run(tiler, layout, work, back, destination, progress or (lambda done, total: None))
        assert work.result is not None
        metadata = header.metadata
        notes = encode_file(destination, work.result, work.alpha, metadata, quality=quality)
        finished = True
    except KeyboardInterrupt:
        if not work.done:
            raise
        raise KeyboardInterrupt(
            f"{len(work.done)} of {work.total} tiles are saved in {work.path}; "
            "run the same command again to continue"
        ) from None
    except OSError as problem:
        raise work.error(problem) from None
    finally:
        if finished or not work.done:
            work.remove()
    return header.size, metadata.notes + notes


def _reader(work: WorkFolder) -> Callable[[slice, slice], Tensor]:
    """Reads a rectangle of the source as (1, c, h, w)."""
    return lambda rows, columns: as_batch(work.colour.read(rows, columns))[0]


def _run(
    tiler: Tiler,
    layout: Layout,
    work: WorkFolder,
    back: Callable[[Tensor], np.ndarray],
    destination: Path,
    progress: Callable[[int, int], None],
) -> None:
    """Restore the tiles that are not done yet; `back` converts one to samples."""
    is_finite = True
    progress(0, work.total)
    progress(len(work.done), work.total)
    for number, piece in enumerate(layout.pieces):
        if number in work.done:
            continue
        core, scale = tiler(piece)
        is_finite = is_finite and bool(core.isfinite().all())
        check_format(destination, (tiler.size[0] * scale, tiler.size[1] * scale))
        rows, columns = (
            slice(p.start * scale, p.stop * scale) for p in (piece.rows, piece.columns)
        )
        work.create_result(scale, core.shape[1]).write(rows, columns, back(core))
        work.journal.append({"tile": number})
        work.done.add(number)
        give_back()
        progress(len(work.done), work.total)
    if not is_finite:
        warn_of_values()


def _identity(model: nn.Module, source: Path) -> dict[str, Any]:
    """What a resumed run must have in common with the interrupted one."""
    stat = source.stat()
    with open(source, "rb") as file:
        start = hashlib.sha256(file.read(2**16)).hexdigest()
    plan = getattr(model, "glocal_plan", None)
    described = plan.to_json() if isinstance(plan, Plan) else ""
    # a rewritten block prints like the original, but its program depends on the window overlap
    programs = [str(m.program) for m in model.modules() if isinstance(m, Rewritten)]
    return {
        "source": {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "start_sha256": start},
        "network": weights_sha256(model),
        "architecture": hashlib.sha256(f"{model}{described}{programs}".encode()).hexdigest(),
        "glocal": versions()["glocal"],
    }


def _resumed_layout(work: WorkFolder, tiler: Tiler) -> Layout | None:
    """The tiles of the interrupted run, if any; sets halo and levels of the tiler."""
    line = next((line["layout"] for line in work.journal.lines if "layout" in line), None)
    if line is None:
        return None
    tiler.halo, tiler.exact = line["halo"], line["exact"]
    tiler.levels = tuple(Level(**level) for level in line["levels"])
    size = (int(line["tile"][0]), int(line["tile"][1]))
    return Layout(size, tiler.halo, pieces(tiler.size, size, tiler.halo), line["exact"])


def _line_of(layout: Layout, tiler: Tiler) -> dict[str, Any]:
    return {
        "layout": {
            "tile": layout.tile,
            "halo": layout.halo,
            "exact": layout.exact,
            "levels": [vars(level) for level in tiler.levels],
        }
    }


def _within(tile: int | Size | Literal["auto"], size: Size) -> Size | Literal["auto"]:
    """The tile size, limited to the size of the image."""
    if isinstance(tile, str):
        return tile
    height, width = tile if isinstance(tile, tuple) else (tile, tile)
    return min(height, size[0]), min(width, size[1])

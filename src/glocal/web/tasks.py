"""Do a job: restore a photograph, list a plan, measure a shift.

Each function calls what the command line calls for the same purpose.
"""

import json
import math
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from torch import nn

from glocal.conversion.inside import converted_network, own_plan
from glocal.conversion.localize import plan_of
from glocal.errors import ArgumentError, GlocalWarning
from glocal.images.image_files import read
from glocal.images.previews import write_preview
from glocal.inference.estimate import estimate
from glocal.inference.settings import Settings
from glocal.inference.tiling import local_window
from glocal.inference.time_left import TimeLeft
from glocal.inference.ways import DEFAULT_WAY
from glocal.networks import LoadedNetwork
from glocal.runs.folder import restore_file
from glocal.runs.streaming import STREAMED_PIXELS
from glocal.scanning.plan import Plan
from glocal.study.first_look import FirstLook, look
from glocal.study.options import RunOptions
from glocal.study.shift.measure import analyze
from glocal.web.loaded import loaded_network, prepared_network
from glocal.web.queue import Job
from glocal.web.schemas import JobOptions
from glocal.web.service import result_suffix
from glocal.web.storage import Storage

__all__ = ["Context", "Tell", "do"]

Tell: TypeAlias = Callable[[str, float, float | None], None]
"""Called with the stage in words, the share that is done, and the seconds left or None.

It may raise to end the job."""

_ESTIMATED_PIXELS = 1_000_000
"""Smaller photographs are done before an estimate is."""

_CROPS = 16
"""Random crops of a photograph whose statistics stand for those of training."""


@dataclass(frozen=True)
class Context:
    """Where a worker does its jobs.

    Attributes:
        storage: files of the server.
        device: of torch.
        memory: bytes that the process may use, None for the free memory.
    """

    storage: Storage
    device: str
    memory: int | None = None


@dataclass
class _Notes:
    texts: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        if text not in self.texts:
            self.texts.append(text)


def do(job: Job, context: Context, tell: Tell) -> dict[str, Any]:
    """Do a job and return its outcome, as JSON values.

    Raises:
        GlocalError: it cannot be done; the message says why.
    """
    notes = _Notes()
    options = JobOptions(**job.request["options"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GlocalWarning)
        outcome = _TASKS[job.kind](job, options, context, tell, notes)
    for warning in caught:
        if issubclass(warning.category, GlocalWarning):
            notes.add(str(warning.message))
    return outcome | {"notes": notes.texts}


def _restored(
    job: Job, options: JobOptions, context: Context, tell: Tell, notes: _Notes
) -> dict[str, Any]:
    assert job.photo is not None
    storage, source = context.storage, context.storage.photo(job.photo)
    tell("Loading the network", 0.0, None)
    loaded = loaded_network(options.model)
    preview = storage.photo_preview(job.photo).path
    if not preview.exists():
        tell("Reading the photograph", 0.0, None)
        write_preview(preview, read(source))
    settings = _settings(options, loaded)
    run: dict[str, Any] = {"device": context.device}
    seen = FirstLook(settings)
    if options.check:
        tell("Comparing windows, crops and full image", 0.0, None)
        is_chosen = any((options.way, options.window, options.stride))
        seen = look(loaded.network, settings, source, is_chosen=is_chosen, run=RunOptions(**run))
        _note(seen, notes, is_chosen=is_chosen)
        settings = seen.settings
    tell("Converting the network", 0.0, None)
    network = prepared_network(options.model, settings)
    plan = _plan(network)
    for text in plan.warnings() if plan else ():
        notes.add(text)
    falls_back = options.fallback == "always" or (options.fallback == "auto" and seen.has_areas)
    arguments: dict[str, Any] = {
        **run, "tiles": settings.tiles(), "memory": context.memory, "strength": options.strength,
        "ensemble": options.ensemble,
    }  # fmt: skip
    if falls_back and plan is not None and plan.with_status("local"):
        arguments["fallback"] = loaded.network
    left, watched = _time_left(job, network, settings, arguments, source, tell)

    def show() -> None:
        tell("Restoring", left.share, left.seconds())

    def tiles(done: int, total: int) -> None:
        left.tiles(done, total)
        show()

    def step(call: int, share: float) -> None:
        left.step(call, share)
        show()

    suffix = result_suffix(job.request["photo"]["kind"], options.format)
    target = storage.result(job.id, suffix)
    target.parent.mkdir(exist_ok=True)
    started = time.perf_counter()
    show()
    with watched(step):
        result = restore_file(
            network, source, target, progress=tiles, report=notes.add, quality=options.quality,
            strip=options.strip, **arguments,
        )  # fmt: skip
    elapsed_s = time.perf_counter() - started
    tell("Writing the preview", 1.0, 0.0)
    image = read(target)
    write_preview(storage.result_preview(job.id).path, image)
    for note in result.notes:
        notes.add(note)
    if result.fallback:
        notes.add(result.fallback)
    return {
        "suffix": suffix,
        "height": image.size[0],
        "width": image.size[1],
        "bits": image.bits,
        "nbytes": target.stat().st_size,
        "seconds": elapsed_s,
        "way": settings.way,
        "network": loaded.name,
        "architecture": loaded.architecture,
        "plan": None if plan is None else _plan_values(plan),
    }


def _planned(
    job: Job, options: JobOptions, context: Context, tell: Tell, notes: _Notes
) -> dict[str, Any]:
    tell("Loading the network", 0.0, None)
    loaded = loaded_network(options.model)
    settings = _settings(options, loaded).changed(allow_global=True)
    if settings.way not in ("windows", "crops", "auto"):
        raise ArgumentError(f"way {settings.way} converts nothing: there is no plan")
    tell("Looking for global operations", 0.2, None)
    plan = plan_of(prepared_network(options.model, settings))
    return {"network": loaded.name, "plan": _plan_values(plan)}


def _shifted(
    job: Job, options: JobOptions, context: Context, tell: Tell, notes: _Notes
) -> dict[str, Any]:
    assert job.photo is not None
    tell("Loading the network", 0.0, None)
    loaded = loaded_network(options.model)
    image = read(context.storage.photo(job.photo))
    pixels = image.colours.seen(image.pixels)
    if pixels.dtype.kind == "u":
        pixels = pixels.astype("float32") / (255 if pixels.dtype.itemsize == 1 else 65535)
    tell("Measuring statistics", 0.1, None)
    settings = _settings(options, loaded)
    shift = analyze(
        loaded.network, [pixels], settings.train_size, stride=settings.stride or 1.0,
        crops_per_image=_CROPS, window=settings.window,
        run=RunOptions(device=context.device),
    )  # fmt: skip
    return {"network": loaded.name, "shift": json.loads(shift.to_json())}


_TASKS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "restore": _restored,
    "plan": _planned,
    "shift": _shifted,
}


def _settings(options: JobOptions, loaded: LoadedNetwork) -> Settings:
    """The settings of a job, with the training size of its network.

    Raises:
        ArgumentError: the size is unknown, or an option has no effect in the way.
    """
    sizes = {name: _size(getattr(options, name)) for name in ("train_size", "window")}
    size = sizes["train_size"] or loaded.train_size
    way = options.way or DEFAULT_WAY
    if size is None and way not in ("full", "degraded"):
        raise ArgumentError(
            f"the training size of {loaded.name} is unknown; state it (256 for most models "
            "trained on GoPro)"
        )
    return Settings(way, size, window=sizes["window"], stride=options.stride,
                    overlap=options.overlap)  # fmt: skip


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.replace("×", "x").partition("x")
    return int(height), int(width or height)


def _note(seen: FirstLook, notes: _Notes, *, is_chosen: bool) -> None:
    """Say what a look at the photograph found."""
    found = seen.found
    if seen.problem:
        notes.add(f"the ways were not compared: {seen.problem}")
    if found is None:
        return
    if found.windows_do_harm:
        then = "compare with crops" if is_chosen else "crops were taken"
        notes.add(f"{found.harm()}; {then}")
    if found.hangs_on_train_size:
        notes.add(found.doubt())
    if seen.has_areas:
        notes.add(found.mosaic(seen.settings.way))


def _plan(network: nn.Module) -> Plan | None:
    found = converted_network(network)
    return None if found is None else own_plan(found)


def _plan_values(plan: Plan) -> dict[str, Any]:
    """A plan as JSON values: its table as text, as `glocal scan` prints it."""
    return {
        "heading": plan.heading(),
        "columns": plan.columns,
        "rows": plan.table_rows(),
        "closing": plan.closing(),
        "data": json.loads(plan.to_json()),
    }


def _time_left(
    job: Job, network: nn.Module, settings: Settings, arguments: Mapping[str, Any], source: Path,
    tell: Tell,
) -> tuple[TimeLeft, Callable[[Any], Any]]:  # fmt: skip
    """What follows the restoration, and a context manager that calls back in it."""
    photo = job.request["photo"]
    size = photo["height"], photo["width"]
    measured = None
    if settings.way != "degraded" and math.prod(size) > _ESTIMATED_PIXELS:
        tell("Estimating the time", 0.0, None)
        image = read(source)
        once = {name: arguments[name] for name in ("device", "strength")}
        tiled = local_window(network, None) is not None
        measured = estimate(
            network, image.colours.seen(image.pixels), memory=arguments["memory"],
            most_pixels=STREAMED_PIXELS if tiled else None, **once,
        )  # fmt: skip
    if measured is None:
        return TimeLeft(), lambda step: nullcontext()
    turns = arguments["ensemble"] * (2 if "fallback" in arguments else 1)
    expected_s = turns * measured.seconds([size])
    return TimeLeft(expected_s, measured.steps.calls), measured.steps.watching

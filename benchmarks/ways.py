"""Ways to run a network on a whole image, as `glocal restore` runs them, ÷ the full image.

*windows*: TLC with 1.5 × the training size. *crops*: both passes of statistics from crops, with
crops at most one or two training sizes apart; *second pass*: the one on the image alone.
*crop-and-stitch*: tiles of the training size that overlap by a quarter. Below 720×1280 the training
size shrinks with the image, which keeps the geometry of 720p and crops of 256. Each variant has its
own process, which takes turns with the others; peak memory is that beyond what was in use before.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache, partial
from statistics import median

from case import Case, Record, Settings, Size
from fresh import fresh_process
from inputs import noise
from manners import RESTORED, preparation
from models import network
from tables import table, times
from timing import ratio, seconds_of
from torch import Tensor, nn

import glocal
from glocal.inference.memory import peak_memory
from glocal.ops.crops import CropGrid, CropStatistics, Replay, gather, running
from glocal.texts import size_text

NS_A_PIXEL = {"NAFNet-w32": 6_500, "HINet": 30_000, "Restormer": 95_000}
"""Nanoseconds per pixel on two cores; they estimate the remaining time."""
SIZES: list[tuple[Size, int]] = [((360, 640), 128), ((720, 1280), 256)]
QUICK: list[tuple[Size, int]] = [((32, 48), 16)]
VARIANTS = ("full", "windows", "crops 1", "crops 2", "second pass", "crop-and-stitch")
PASSES = 8
"""Passes over the image that all variants take together, about."""


def case_name(name: str, size: Size) -> str:
    """Name of the case of one row."""
    return f"{name} {size_text(size)}"


def cases(settings: Settings) -> list[Case]:
    """Cases: each network at each size that stays below the time limit."""
    found = []
    names = {"NAFNet-w4": 10_000} if settings.quick else NS_A_PIXEL
    for size, crop in settings.pick(SIZES, QUICK):
        for name, ns in names.items():
            expected = 1e-9 * ns * math.prod(size) * PASSES * (settings.repeats + 2)
            expected /= 100 if settings.device == "cuda" else 1
            found.append(
                Case(case_name(name, size), expected, partial(measure, settings, name, size, crop))
            )
    return found


def measure(
    settings: Settings, name: str, size: Size, crop: int, earlier: Mapping[str, Record]
) -> Record:
    """Measure peak memory of each variant, then the times in turn."""
    seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    peaks: dict[str, list[float | None]] = {}
    with ExitStack() as stack:
        prepare = preparation(RESTORED) if settings.device == "cpu" else None
        processes = {
            variant: stack.enter_context(fresh_process(settings.threads, prepare))
            for variant in VARIANTS
        }
        run = (name, size, crop, settings.device)
        for variant, call in processes.items():
            peaks[variant] = [call(peak_mib, variant, *run)]
        for _ in range(settings.repeats):
            for variant, call in processes.items():
                seconds[variant].append(call(seconds_to_run, variant, *run))
    about = {"network": name, "image": size_text(size), "crop": crop}
    return {"about": about, "seconds": seconds, "peak_mib": peaks}


def peak_mib(variant: str, name: str, size: Size, crop: int, device: str) -> float | None:
    """Peak memory of the first run, which also warms up; in its own process."""
    call = restoring(variant, name, size, crop, device)
    with peak_memory(device) as peak:
        call()
    return None if peak.mib is None else round(peak.mib, 1)


def seconds_to_run(variant: str, name: str, size: Size, crop: int, device: str) -> float:
    """Time one variant; in its own process."""
    return seconds_of(restoring(variant, name, size, crop, device), device=device)


@cache
def restoring(variant: str, name: str, size: Size, crop: int, device: str) -> Callable[[], Tensor]:
    """A function that restores an image of noise in one way."""
    model = network(name).to(device)
    image = noise((1, 3, *size), device, "float32")
    tiles: glocal.Tiles | tuple[int, int] = size
    if variant == "windows":
        model = glocal.localize(model, crop, verify=False)
    elif variant == "crop-and-stitch":
        tiles = glocal.Tiles(crop, overlap=crop // 4)
    elif variant != "full":
        stride = 2.0 if variant == "crops 2" else 1.0
        model = glocal.localize(model, crop, statistics="crops", stride=stride, verify=False)

    def restore() -> Tensor:
        restored: Tensor = glocal.restore(model, image, tiles=tiles)
        return restored

    if variant != "second pass":
        return restore
    recorded = statistics(model, image, crop)

    def second_pass() -> Tensor:
        with running(Replay(recorded)):
            return restore()

    return second_pass


def statistics(model: nn.Module, image: Tensor, crop: int) -> CropStatistics:
    """Run the first pass; return its records."""
    size = image.shape[-2], image.shape[-1]
    grid = CropGrid.on(size, (crop, crop), 1.0)

    def run(places: list[tuple[slice, slice]]) -> None:
        for rows, columns in places:
            glocal.restore(model, image[..., rows, columns].contiguous())

    return gather(grid, 1, run)


def tables(records: Mapping[str, Record]) -> str:
    """One row per network and size."""
    others = VARIANTS[1:]
    head = ["network", "image", "crop", "full, s", *(f"time, {v}" for v in others)]
    head += ["full, MiB", *(f"memory, {v}" for v in others)]
    rows = []
    for record in records.values():
        if "skipped" in record:
            continue
        about, peaks = record["about"], record["peak_mib"]["full"]
        rows.append(
            [
                *(str(about[key]) for key in ("network", "image", "crop")),
                f"{median(record['seconds']['full']):.3g}",
                *(times(ratio(record, v, "full")) for v in others),
                "–" if None in peaks else f"{median(peaks):.0f}",
                *(times(ratio(record, v, "full", "peak_mib")) for v in others),
            ]
        )
    return table(head, rows)

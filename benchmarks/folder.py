"""Folders: files processed one after the other, overlapped, and overlapped in batches.

The converted embedded network restores crops of the shipped photograph, as JPEG or PNG. *waits* is
the share of time in which the network is idle: no file is decoded yet, or the queue of results is
full. On a CPU, decoding and encoding compete with the network for cores. *elsewhere* simulates a
network on another device: it sleeps 30 ms per 720p frame (other sizes in proportion) and uses no
core. Batches have 4 images, except for 720p frames, which fill caches and memory alone.
"""

import math
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from case import Case, Record, Settings, Size
from conditions import ROOT
from tables import table, times
from timing import ratio, take_turns
from torch import Tensor, nn

import glocal
from glocal.images import image_files as images
from glocal.images.folders import list_images
from glocal.images.image_files import Image
from glocal.runs.folder import restore_folder
from glocal.texts import size_text

WAYS = {
    "in turn": {"ahead": 0, "batch": 1},
    "overlapped": {"batch": 1},
    "batched": {"batch": 4},
}
FOLDERS: list[tuple[str, str, int, Size]] = [
    ("embedded", "jpg", 32, (128, 128)),
    ("embedded", "jpg", 8, (400, 520)),
    ("embedded", "jpg", 3, (720, 1280)),
    ("elsewhere", "jpg", 96, (400, 520)),
    ("elsewhere", "jpg", 32, (720, 1280)),
    ("elsewhere", "png", 32, (720, 1280)),
]
QUICK_FOLDERS: list[tuple[str, str, int, Size]] = [("embedded", "jpg", 2, (64, 64))]
BATCHED_PIXELS = 2**19
NS_A_PIXEL = {"cpu": 2000, "cuda": 50}
SLEPT_NS_A_PIXEL = 30e6 / (720 * 1280)


class Elsewhere(nn.Module):
    """Sleep without using a core; return the image unchanged."""

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(1e-9 * SLEPT_NS_A_PIXEL * x[:, 0].numel())
        return x


def cases(settings: Settings) -> list[Case]:
    """Cases: one folder of one image size each."""
    found = []
    for network, suffix, count, size in settings.pick(FOLDERS, QUICK_FOLDERS):
        if network == "elsewhere" and settings.device != "cpu":
            continue  # CUDA is the real case
        cost = SLEPT_NS_A_PIXEL if network == "elsewhere" else NS_A_PIXEL[settings.device]
        runs = len(WAYS) * (settings.repeats + 1)
        expected_s = 1e-9 * cost * count * math.prod(size) * runs
        name = f"{network}, {count} {suffix} of {size_text(size)}"
        found.append(
            Case(name, expected_s, partial(measure, settings, network, suffix, count, size))
        )
    return found


def measure(
    settings: Settings,
    name: str,
    suffix: str,
    count: int,
    size: Size,
    earlier: Mapping[str, Record],
) -> Record:
    """Measure all methods alternately: seconds, and the share in which the network is idle."""
    if name == "elsewhere":
        network: nn.Module = Elsewhere()
    else:
        network = glocal.localize(glocal.load("nafnet-motion-blur"), train_size=64)
    network.to(settings.device)
    ways = [way for way in WAYS if way != "batched" or math.prod(size) <= BATCHED_PIXELS]
    waits: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        fill(source, suffix, count, size)

        def restored(way: str) -> None:
            options = {"device": settings.device, "overwrite": True, **WAYS[way]}
            with restore_folder(network, source, Path(folder) / way, **options) as run:
                assert all(result.status == "restored" for result in run)
            waits[way].append(round(run.usage.waiting, 4))

        seconds = take_turns(
            {way: partial(restored, way) for way in ways}, settings.repeats, device=settings.device
        )
        difference = largest_difference(*(Path(folder) / way for way in (ways[0], ways[-1])))
    about = {"network": name, "suffix": suffix, "images": count, "size": size_text(size)}
    # warm-up
    counted = {way: shares[-settings.repeats :] for way, shares in waits.items()}
    return {"about": about, "seconds": seconds, "waits": counted, "difference": difference}


def fill(folder: Path, suffix: str, count: int, size: Size) -> None:
    """Crops spread over a photograph."""
    photograph = images.read(ROOT / "examples" / "handshake.jpg").pixels
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        top, left = (
            int(rng.integers(0, n - s + 1)) for n, s in zip(photograph.shape, size, strict=False)
        )
        crop = photograph[top : top + size[0], left : left + size[1]]
        images.write(folder / f"{index:03}.{suffix}", Image(np.ascontiguousarray(crop)))


def largest_difference(one: Path, other: Path) -> int:
    """Largest difference between files of the same names in two folders, in 8-bit levels."""
    return max(
        int(np.abs(first.astype(int) - images.read(other / path.name).pixels).max())
        for path in list_images(one)
        for first in [images.read(path).pixels]
    )


def tables(records: Mapping[str, Record]) -> str:
    """One row per folder."""
    head = ["network", "files", "in turn, s", "waits", "overlapped", "waits", "batched", "waits"]
    rows = []
    for record in records.values():
        about = record["about"]
        row = [
            about["network"],
            f"{about['images']} {about['suffix']}, {about['size']}",
            f"{median(record['seconds']['in turn']):.3g}",
        ]
        for way in WAYS:
            if way != "in turn":
                row.append(f"× {times(ratio(record, way, 'in turn'))}")
            waited = record["waits"].get(way)
            row.append(f"{100 * median(waited):.1f} %" if waited else "–")
        rows.append(row)
    largest = max((record["difference"] for record in records.values()), default=0)
    said = f"Files differ from those that are made in turn by {largest} of 255 at most."
    return f"{table(head, rows)}\n\n{said}"

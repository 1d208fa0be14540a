"""CPU inference end to end: the official NAFNet source against `glocal.restore`.

Same weights, same image, both global. *official* is the authors' source as distributed in
spandrel, called in inference mode. Each allocator setting has its own process, and the processes
alternate. *tuned* makes glibc retain freed memory (`mallopt`: `M_MMAP_MAX` 0, `M_TRIM_THRESHOLD`
-1), so that large temporaries cause no page faults. Differences are the largest from the output of
the first row. bfloat16 runs only on processors with bfloat16 instructions.
"""

import math
import platform
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache, partial
from statistics import median

import torch
from case import Case, NotMeasuredError, Record, Settings, Size
from conditions import has_bfloat16
from fresh import fresh_process
from inputs import noise
from models import network
from networks import QUICK as QUICK_RUNGS
from official import official
from tables import table, times
from timing import ratio, seconds_of
from torch import Tensor, nn

import glocal
from glocal.inference.allocator import keep_freed_memory
from glocal.texts import size_text

WAYS = ("official", "official, channels_last", "restore", "restore, channels_last")
BFLOAT16 = "restore, bfloat16"
VARIANTS = [
    ("official", "default"),
    ("restore", "default"),
    ("restore, channels_last", "default"),
    *((way, "tuned") for way in (*WAYS, *([BFLOAT16] if has_bfloat16() else []))),
]
SIZES = [(180, 320), (360, 640), (720, 1280)]
NS_A_PIXEL = 7_000


def case_name(name: str, size: Size) -> str:
    """Name of the case of one table."""
    return f"{name} {size_text(size)}"


def variant_name(way: str, allocator: str) -> str:
    """Name of the variant of one row."""
    return f"{way}, {allocator} allocator"


def cases(settings: Settings) -> list[Case]:
    """Cases: one network at several sizes, CPU only."""
    if settings.device != "cpu":
        return []
    name = "NAFNet-w4" if settings.quick else "NAFNet-w32"
    found = []
    for size in settings.pick(SIZES, [size for size, _ in QUICK_RUNGS]):
        runs = len(VARIANTS) * (settings.repeats + 1)
        expected = 1e-9 * NS_A_PIXEL * math.prod(size) * runs
        found.append(Case(case_name(name, size), expected, partial(measure, settings, name, size)))
    return found


def measure(
    settings: Settings,
    name: str,
    size: Size,
    earlier: Mapping[str, Record],
) -> Record:
    """Measure all variants alternately, and their outputs against the official source."""
    if platform.libc_ver()[0] != "glibc":
        raise NotMeasuredError("the tuned allocator is glibc's")
    official(name)  # raises before any process starts
    seconds: dict[str, list[float]] = {}
    difference: dict[str, float] = {}
    with ExitStack() as stack:
        processes = {
            "default": stack.enter_context(fresh_process(settings.threads)),
            "tuned": stack.enter_context(fresh_process(settings.threads, keep_freed_memory)),
        }
        outputs = {
            (way, allocator): processes[allocator](output, name, way, size)
            for way, allocator in VARIANTS
        }
        for _ in range(settings.repeats):
            for way, allocator in VARIANTS:
                taken = processes[allocator](seconds_to_run, name, way, size)
                seconds.setdefault(variant_name(way, allocator), []).append(taken)
    for (way, allocator), given in outputs.items():
        largest = (given - outputs["official", "default"]).abs().max().item()
        difference[variant_name(way, allocator)] = float(f"{largest:.3g}")
    about = {"network": name, "image": size_text(size)}
    return {"about": about, "seconds": seconds, "difference": difference}


def seconds_to_run(name: str, way: str, size: Size) -> float:
    """Time one variant; runs in its own process."""
    return seconds_of(partial(output, name, way, size))


def output(name: str, way: str, size: Size) -> Tensor:
    """Output of one variant; runs in its own process."""
    image = picture(size)
    if way.startswith("official"):
        with torch.inference_mode():
            return in_layout(name, way)(image)
    dtype = torch.bfloat16 if way == BFLOAT16 else None
    return glocal.restore(in_layout(name, way), image, dtype=dtype)


@cache
def picture(size: Size) -> Tensor:
    """An image of noise."""
    return noise((1, 3, *size), "cpu", "float32")


@cache
def in_layout(name: str, way: str) -> nn.Module:
    """A new network: converting weights to channels-last would change a shared one."""
    made = official(name) if way.startswith("official") else network(name)
    return made.to(memory_format=torch.channels_last) if "channels_last" in way else made


def tables(records: Mapping[str, Record]) -> str:
    """One table per size; official ÷ row is the speed-up of the row."""
    found = []
    baseline = variant_name(*VARIANTS[0])
    for name, record in records.items():
        if "skipped" in record:
            found.append(f"{name}: {record['skipped']}.")
            continue
        rows = [
            [
                variant,
                f"{median(seconds):.3g}",
                times(ratio(record, baseline, variant)),
                f"{record['difference'][variant]:.0e}",
            ]
            for variant, seconds in record["seconds"].items()
        ]
        head = ["way", "seconds", "official ÷ this", "difference"]
        found.append(f"{name}:\n\n{table(head, rows)}")
    return "\n\n".join(found)

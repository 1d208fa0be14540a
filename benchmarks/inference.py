"""Inference on a CPU as a whole: the official NAFNet source against `glocal.restore`.

The same weights and the same image, both global. *official* is the source of the authors as
spandrel carries it, called in inference mode. Each allocator has a process of its own, and the
processes take turns. *tuned* has glibc keep freed memory (`mallopt`: `M_MMAP_MAX` 0,
`M_TRIM_THRESHOLD` -1), so that large temporaries cost no page faults. Differences are the largest
from the first row's output. bfloat16 is tried where the processor has instructions for it.
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
    """Of one table."""
    return f"{name} {size_text(size)}"


def variant_name(way: str, allocator: str) -> str:
    """Of one row."""
    return f"{way}, {allocator} allocator"


def cases(settings: Settings) -> list[Case]:
    """One network at several sizes, on the CPU alone."""
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
    """Seconds of all variants in turn; what each gives, against the official source."""
    if platform.libc_ver()[0] != "glibc":
        raise NotMeasuredError("the tuned allocator is glibc's")
    official(name)  # says what is missing before anything is started
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
    """How long a way takes; for a process of its own."""
    return seconds_of(partial(output, name, way, size))


def output(name: str, way: str, size: Size) -> Tensor:
    """What a way gives; for a process of its own."""
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
    """A network of its own: its weights' layout is that of all that it computes."""
    made = official(name) if way.startswith("official") else network(name)
    return made.to(memory_format=torch.channels_last) if "channels_last" in way else made


def tables(records: Mapping[str, Record]) -> str:
    """One table a size; official ÷ each row is how much faster the row is."""
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

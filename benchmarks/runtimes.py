"""`glocal.restore` with TLC in each runtime, ÷ OpenVINO's run of the global network.

*OpenVINO, global*: the compiled graph of the original network, called directly. The others restore
the image through `glocal.restore`, with windows of 384 pixels, in a process of their own that keeps
freed memory as the command line does; torch runs under the default allocator too. Files are written
and opened, and OpenVINO compiles for the size, before the first time that counts.
"""

import math
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache, partial
from statistics import median
from typing import Any

import torch
from case import Case, Record, Settings, Size
from engines import CROP, NS_A_PIXEL, check_packages, files, folder, running
from fresh import fresh_process
from models import network
from tables import table, times
from timing import ratio, seconds_of

import glocal
from glocal.inference.allocator import keep_freed_memory
from glocal.texts import size_text

SIZES: list[Size] = [(360, 640), (720, 1280)]
GLOBAL = "OpenVINO, global"
TORCH_PLAIN = "torch, default allocator"
OPTIONS: dict[str, dict[str, Any]] = {
    "torch": {"runtime": "torch"},
    TORCH_PLAIN: {"runtime": "torch"},
    "onnxruntime": {"runtime": "onnxruntime"},
    "OpenVINO": {"runtime": "openvino"},
    "torch, bfloat16": {"runtime": "torch", "dtype": "bfloat16"},
    "OpenVINO, bfloat16": {"runtime": "openvino", "dtype": "bfloat16"},
}


def case_name(name: str, size: Size) -> str:
    """Name of a case."""
    return f"{name} {size_text(size)}"


def cases(settings: Settings) -> list[Case]:
    """Cases: each network at each size."""
    found = []
    names = {"NAFNet-w4": 2_000} if settings.quick else NS_A_PIXEL
    for size in settings.pick(SIZES, [(48, 64)]):
        for name, ns in names.items():
            run = 1e-9 * ns * math.prod(size) * (len(OPTIONS) + 1) * (settings.repeats + 2)
            measured = partial(measure, settings, name, size)
            expected = run + (0 if settings.quick else 90)
            found.append(Case(case_name(name, size), expected, measured))
    return found


def measure(settings: Settings, name: str, size: Size, earlier: Mapping[str, Record]) -> Record:
    """Measure the times in turn."""
    check_packages(settings, "onnxruntime", "onnxscript", "openvino")
    crop = 16 if settings.quick else CROP
    options = dict(settings.pick(list(OPTIONS.items()), list(OPTIONS.items())[::3]))
    os.environ["XDG_CACHE_HOME"] = str(folder())
    seconds: dict[str, list[float]] = {}
    with ExitStack() as stack:
        calls: dict[str, Callable[[], float]] = {}
        process = stack.enter_context(fresh_process(settings.threads))
        given = (str(files(name, "global", crop)), "openvino", size, crop, settings.threads)
        calls[GLOBAL] = partial(process, _seconds_of_graph, *given)
        for variant, chosen in options.items():
            keep = None if variant == TORCH_PLAIN else keep_freed_memory
            process = stack.enter_context(fresh_process(settings.threads, keep))
            run = (name, crop, size, tuple(chosen.items()), str(folder()))
            calls[variant] = partial(process, _seconds_to_restore, *run)
        for call in calls.values():
            call()
        for _ in range(settings.repeats):
            for variant, call in calls.items():
                seconds.setdefault(variant, []).append(call())
    return {"about": {"network": name, "image": size_text(size)}, "seconds": seconds}


def _seconds_of_graph(*given: Any) -> float:
    return seconds_of(running(*given))


def _seconds_to_restore(*given: Any) -> float:
    return seconds_of(_restoring(*given))


@cache
def _restoring(
    name: str, crop: int, size: Size, options: tuple[tuple[str, Any], ...], cache_home: str
) -> Callable[[], object]:
    os.environ["XDG_CACHE_HOME"] = cache_home
    local = glocal.localize(network(name), crop, statistics="windows", verify=False)
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    return lambda: glocal.restore(local, image, **dict(options))


def tables(records: Mapping[str, Record]) -> str:
    """One row per network and size."""
    head = ["network", "image", f"{GLOBAL}, s", *OPTIONS]
    rows = []
    for record in records.values():
        if "skipped" in record:
            continue
        about = record["about"]
        rows.append(
            [
                *(str(about[key]) for key in ("network", "image")),
                f"{median(record['seconds'][GLOBAL]):.3g}",
                *(times(ratio(record, variant, GLOBAL)) for variant in OPTIONS),
            ]
        )
    return table(head, rows)

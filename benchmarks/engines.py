"""Exported networks in onnxruntime and OpenVINO, ÷ the exported global network.

*global*: written by `glocal.export`; *global, torch*: by `torch.onnx.export`. *exact* and *fast*:
TLC with windows of 384 pixels. *second pass*: the graph that takes statistics from crops of 256.
Every file takes any size; the engine gets the size when it loads the file, and computes in float32.
Each variant has its own process, which takes turns with the others; peak memory is that of loading
the file and of the first run.
"""

import atexit
import importlib.util
import math
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from case import Case, NotMeasuredError, Record, Settings, Size
from fresh import fresh_process
from models import network
from tables import table, times
from timing import ratio, seconds_of

import glocal
from glocal.inference.memory import peak_memory
from glocal.ops.crops import CropGrid
from glocal.texts import size_text

NS_A_PIXEL = {"NAFNet-w32": 5_000, "HINet": 15_000, "Restormer": 60_000}
"""Nanoseconds per pixel on two cores; they estimate the remaining time."""
SIZES: list[Size] = [(360, 640), (720, 1280)]
CROP = 256
ENGINES = ("onnxruntime", "openvino")
VARIANTS = ("global", "global, torch", "exact", "fast", "second pass")
WRITING_S = 60
"""Seconds to write one file."""


def case_name(name: str, size: Size, engine: str) -> str:
    """Name of a case."""
    return f"{name} {size_text(size)} {engine}"


def cases(settings: Settings) -> list[Case]:
    """Cases: each network at each size in each engine."""
    found = []
    names = {"NAFNet-w4": 2_000} if settings.quick else NS_A_PIXEL
    for size in settings.pick(SIZES, [(48, 64)]):
        for name, ns in names.items():
            for engine in ENGINES:
                run = 1e-9 * ns * math.prod(size) * len(VARIANTS) * (settings.repeats + 2)
                expected = run + (0 if settings.quick else WRITING_S)
                crop = 16 if settings.quick else CROP
                measured = partial(measure, settings, name, size, crop, engine)
                found.append(Case(case_name(name, size, engine), expected, measured))
    return found


def measure(
    settings: Settings,
    name: str,
    size: Size,
    crop: int,
    engine: str,
    earlier: Mapping[str, Record],
) -> Record:
    """Measure peak memory of each variant, then the times in turn."""
    check_packages(settings, engine, "onnxscript")
    variants = settings.pick(VARIANTS, VARIANTS[::2])
    seconds: dict[str, list[float]] = {variant: [] for variant in variants}
    peaks: dict[str, list[float | None]] = {}
    with ExitStack() as stack:
        processes = {
            variant: stack.enter_context(fresh_process(settings.threads)) for variant in variants
        }
        runs = {
            variant: (str(files(name, variant, crop)), engine, size, crop, settings.threads)
            for variant in variants
        }
        for variant, call in processes.items():
            peaks[variant] = [call(peak_mib, *runs[variant])]
        for _ in range(settings.repeats):
            for variant, call in processes.items():
                seconds[variant].append(call(seconds_to_run, *runs[variant]))
    about = {"network": name, "image": size_text(size), "engine": engine}
    return {"about": about, "seconds": seconds, "peak_mib": peaks}


def check_packages(settings: Settings, *packages: str) -> None:
    """Check that exported files can be measured.

    Raises:
        NotMeasuredError: the device is not the CPU, or a package is missing.
    """
    if settings.device != "cpu":
        raise NotMeasuredError("exported files are measured on the CPU only")
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise NotMeasuredError(f"{package} is not installed")


@cache
def folder() -> Path:
    """Where the files of this run lie."""
    made = tempfile.TemporaryDirectory()
    atexit.register(made.cleanup)
    return Path(made.name)


@cache
def files(name: str, variant: str, crop: int) -> Path:
    """Write a variant of a network."""
    model = network(name)
    path = folder() / f"{name}-{variant.replace(', ', '-').replace(' ', '-')}-{crop}.onnx"
    if variant == "global":
        glocal.export(model, path, allow_global=True)
    elif variant == "global, torch":
        dims = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}
        dims[3] = torch.export.Dim.DYNAMIC
        example = (torch.rand(2, 3, 128, 192),)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(model, example, path, dynamic_shapes=(dims,), verbose=False)
    elif variant == "second pass":
        local = glocal.localize(model, crop, statistics="crops", verify=False)
        glocal.export(local, path)
    else:
        local = glocal.localize(model, crop, precision=variant, verify=False)
        glocal.export(local, path)
    return path


def peak_mib(path: str, engine: str, size: Size, crop: int, threads: int) -> float | None:
    """Peak memory of loading a file and of the first run; in its own process."""
    with peak_memory() as peak:
        running(path, engine, size, crop, threads)()
    return None if peak.mib is None else round(peak.mib, 1)


def seconds_to_run(path: str, engine: str, size: Size, crop: int, threads: int) -> float:
    """Time one variant; in its own process."""
    return seconds_of(running(path, engine, size, crop, threads))


@cache
def running(path: str, engine: str, size: Size, crop: int, threads: int) -> Callable[[], object]:
    """A function that runs a file on an image of noise."""
    image = np.random.default_rng(0).random((1, 3, *size), np.float32)
    crops = Path(path).with_name(f"{Path(path).stem}-crops.onnx")
    inputs = [image]
    if crops.exists():
        grid = CropGrid.on(size, (crop, crop), 1.0)
        one = np.ascontiguousarray(image[..., :crop, :crop])
        known = load(str(crops), engine, [one], threads)(one)
        shape = (len(grid.rows), len(grid.columns))
        inputs += [np.array(starts, np.int64) for starts in (grid.rows, grid.columns)]
        inputs += [np.ascontiguousarray(np.broadcast_to(v, (*shape, *v.shape))) for v in known]
    run = load(path, engine, inputs, threads)
    return lambda: run(*inputs)


def load(path: str, engine: str, like: list[Any], threads: int) -> Callable[..., list[Any]]:
    """The function that a file computes, for inputs of these shapes."""
    if engine == "onnxruntime":
        import onnx
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_mem_pattern = False  # as glocal runs it
        options.log_severity_level = 3
        graph = onnx.load(path, load_external_data=False).graph
        for value, array in zip(graph.input, like, strict=True):
            for dim, length in zip(value.type.tensor_type.shape.dim, array.shape, strict=True):
                if dim.dim_param:
                    options.add_free_dimension_override_by_name(dim.dim_param, length)
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]
        return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    shapes = {value: list(a.shape) for value, a in zip(model.inputs, like, strict=True)}
    model.reshape(shapes)
    hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", hints)
    return lambda *arrays: list(compiled(list(arrays)).values())


def tables(records: Mapping[str, Record]) -> str:
    """One row per network, size and engine."""
    others = VARIANTS[1:]
    head = ["network", "image", "engine", "global, s", *(f"time, {v}" for v in others)]
    head += ["global, MiB", *(f"memory, {v}" for v in others)]
    rows = []
    for record in records.values():
        if "skipped" in record:
            continue
        about, peaks = record["about"], record["peak_mib"]["global"]
        rows.append(
            [
                *(str(about[key]) for key in ("network", "image", "engine")),
                f"{median(record['seconds']['global']):.3g}",
                *(times(ratio(record, v, "global")) for v in others),
                "–" if None in peaks else f"{median(peaks):.0f}",
                *(times(ratio(record, v, "global", "peak_mib")) for v in others),
            ]
        )
    return table(head, rows)

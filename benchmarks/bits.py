"""Exported networks in fewer bits: time ÷ float32 in the same engine, and what it costs.

*bfloat16* is OpenVINO's own, on processors with instructions for it; *int8* is written by
`glocal.export(calibrate=)`, from parts of the image. The embedded network restores the shipped
photograph, and its PSNR to the sharp one shows the loss. The other networks have random weights and
an image of noise, so only their time counts.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from case import Case, Record, Settings, Size
from engines import CROP, NS_A_PIXEL, check_packages, folder
from fresh import fresh_process
from models import network
from tables import table, times
from timing import ratio, seconds_of

import glocal
from glocal.engines.sessions import opened
from glocal.images.image_files import read
from glocal.metrics import psnr
from glocal.texts import size_text

EMBEDDED = "nafnet-motion-blur"
SIZE: Size = (360, 640)
PHOTOGRAPHS = Path(__file__).parents[1] / "examples"
VARIANTS = {
    "onnxruntime float32": ("onnxruntime", "float32", torch.float32),
    "onnxruntime int8": ("onnxruntime", "int8", torch.float32),
    "OpenVINO float32": ("openvino", "float32", torch.float32),
    "OpenVINO bfloat16": ("openvino", "float32", torch.bfloat16),
    "OpenVINO int8": ("openvino", "int8", torch.float32),
}


def cases(settings: Settings) -> list[Case]:
    """Cases: each network."""
    names = {} if settings.quick else {n: ns for n, ns in NS_A_PIXEL.items() if n != "Restormer"}
    found = []
    for name, ns in {EMBEDDED: 2_500, **names}.items():
        size = _image(name, settings.quick).shape[-2:]
        run = 1e-9 * ns * math.prod(size) * len(VARIANTS) * (settings.repeats + 2)
        expected = run + (0 if settings.quick else 90)
        measured = partial(measure, settings, name)
        found.append(Case(f"{name} {size_text((size[0], size[1]))}", expected, measured))
    return found


def measure(settings: Settings, name: str, earlier: Mapping[str, Record]) -> Record:
    """Measure the times in turn, and the PSNR of each variant."""
    check_packages(settings, "onnxruntime", "onnxscript", "openvino")
    seconds: dict[str, list[float]] = {}
    quality: dict[str, float] = {}
    with ExitStack() as stack:
        calls: dict[str, Callable[[], float]] = {}
        for variant, (engine, bits, dtype) in VARIANTS.items():
            process = stack.enter_context(fresh_process(settings.threads))
            given = (str(_files(name, bits, settings.quick)), engine, dtype)
            given += (name, settings.quick, settings.threads)
            calls[variant] = partial(process, _seconds, *given)
            calls[variant]()
            if name == EMBEDDED:
                quality[variant] = process(_psnr, *given)
        for _ in range(settings.repeats):
            for variant, call in calls.items():
                seconds.setdefault(variant, []).append(call())
    size = _image(name, settings.quick).shape[-2:]
    about = {"network": name, "image": size_text((size[0], size[1]))}
    return {"about": about, "seconds": seconds, "psnr": quality}


@cache
def _image(name: str, quick: bool) -> torch.Tensor:
    if name != EMBEDDED:
        return torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    return _photograph("handshake.jpg", quick)


def _photograph(file: str, quick: bool) -> torch.Tensor:
    pixels = read(PHOTOGRAPHS / file).pixels
    pixels = pixels[:96, :128] if quick else pixels
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous()


@cache
def _files(name: str, bits: str, quick: bool) -> Path:
    model = glocal.load(name) if name == EMBEDDED else network(name)
    crop = None if name == EMBEDDED else CROP
    local = glocal.localize(model, crop, statistics="windows", verify=False)
    path = folder() / f"{name}-{bits}.onnx"
    glocal.export(local, path, calibrate=[_image(name, quick)] if bits == "int8" else None)
    return path


def _seconds(*given: object) -> float:
    return seconds_of(_running(*given))


def _psnr(*given: object) -> float:
    restored = _running(*given)()[0][0].permute(1, 2, 0).numpy()
    sharp = _photograph("handshake-sharp.jpg", bool(given[4]))[0].permute(1, 2, 0).numpy()
    return round(float(psnr(restored, sharp)), 3)


@cache
def _running(
    path: str, engine: str, dtype: torch.dtype, name: str, quick: bool, threads: int
) -> Callable[[], list[torch.Tensor]]:
    run, image = opened(engine, Path(path), threads, dtype), _image(name, quick)
    return lambda: run(image)


def tables(records: Mapping[str, Record]) -> str:
    """One row per network."""
    head = ["network", "image", *(f"{v}, s" if "float32" in v else v for v in VARIANTS), "PSNR, dB"]
    rows = []
    for record in records.values():
        if "skipped" in record:
            continue
        about, quality = record["about"], record["psnr"]
        row = [about["network"], about["image"]]
        for variant in VARIANTS:
            if "float32" in variant:
                row.append(f"{median(record['seconds'][variant]):.3g}")
            else:
                base = f"{variant.split()[0]} float32"
                row.append(times(ratio(record, variant, base)))
        row.append(", ".join(f"{value:.2f}" for value in quality.values()) or "–")
        rows.append(row)
    return table(head, rows)

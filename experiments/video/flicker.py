"""Flicker of restored video: how much static regions change from frame to frame.

A clip is made of the example photograph: the background stands still, an object crosses it, and
every frame has fresh noise. Networks restore it in each way, with statistics of crops smoothed over
time too. Flicker is the mean absolute difference between consecutive frames, in levels of 255, over
the pixels that the object never comes near. PSNR is that of all frames against the clean ones.

    python experiments/video/flicker.py

prints the tables of docs/video.md. Minutes on two cores.
"""

import argparse
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

import glocal
from glocal.inference.prepared import Prepared
from glocal.inference.smoothing import Smoother, Smoothing
from glocal.metrics import psnr
from glocal.provenance import machine_name

HERE = Path(__file__).resolve().parent
PHOTOGRAPH = HERE.parents[1] / "examples" / "handshake-sharp.jpg"
WEIGHTS = HERE.parent / "replication" / "weights"

SIZE = 256, 384
OBJECT = 48
MARGIN = 48
SMOOTHED = (4, 12, 48)

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """A network and what its clip suffers from: motion blur of a length, and noise (of 255)."""

    model: str
    blur: int
    sigma: float


CASES = {
    "NAFNet, motion blur (embedded)": Case("nafnet-motion-blur", 7, 3.0),
    "NAFNet, noise": Case(str(WEIGHTS / "denoise-nafnet-crop64-seed0.safetensors"), 1, 25.0),
    "HINet, motion blur": Case(str(WEIGHTS / "deblur-hinet-crop64-seed0.safetensors"), 7, 2.0),
    "Restormer, motion blur": Case(
        str(WEIGHTS / "deblur-restormer-crop64-seed0.safetensors"), 7, 2.0
    ),
}


def clean_frames(count: int) -> Iterator[tuple[Frame, slice]]:
    """Frames of a still background and an object that crosses it; with the object's columns."""
    photograph = glocal.read_image(PHOTOGRAPH).pixels
    height, width = SIZE
    background = photograph[300 : 300 + height, 500 : 500 + width]
    thing = photograph[100 : 100 + OBJECT, 100 : 100 + OBJECT]
    for number in range(count):
        left = number * (width // 3) // max(1, count - 1)
        frame = background.copy()
        rows, columns = slice(104, 104 + OBJECT), slice(left, left + OBJECT)
        frame[rows, columns] = thing
        yield frame, columns


def degraded(frame: Frame, case: Case, random: np.random.Generator) -> Frame:
    """Blur a frame along its rows, the same in all frames, and add fresh noise."""
    image = torch.from_numpy(frame).permute(2, 0, 1)[:, None].float()
    if case.blur > 1:
        kernel = torch.full((1, 1, 1, case.blur), 1 / case.blur)
        image = F.conv2d(F.pad(image, (case.blur // 2,) * 2 + (0, 0), "replicate"), kernel)
    noisy = image[:, 0].permute(1, 2, 0).numpy() + random.normal(0, case.sigma, frame.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)


def static_region(columns: list[slice]) -> NDArray[np.bool_]:
    """The pixels that the object never comes near."""
    still = np.ones(SIZE, bool)
    for each in columns:
        still[
            104 - MARGIN : 104 + OBJECT + MARGIN, max(0, each.start - MARGIN) : each.stop + MARGIN
        ] = False
    return still


def flicker(frames: list[Frame], still: NDArray[np.bool_]) -> float:
    """Mean absolute difference between consecutive frames where nothing moves."""
    pairs = itertools.pairwise(frames)
    return float(np.mean([np.abs(b[still].astype(float) - a[still]).mean() for a, b in pairs]))


def quality(frames: list[Frame], clean: list[Frame]) -> float:
    """Mean PSNR of the frames."""
    return float(np.mean([psnr(a, b) for a, b in zip(frames, clean, strict=True)]))


def restored(model: nn.Module, frames: list[Frame], smooth: Smoothing | None) -> list[Frame]:
    """The frames of a clip, restored one by one."""
    smoother = Smoother()
    prepared = Prepared(smooth=None if smooth is None else smoother)
    found = []
    for number, frame in enumerate(frames):
        if smooth is not None:
            smoother.begin(smooth.decay(0.0), is_cut=number == 0)
        found.append(glocal.restore(model, frame, prepared=prepared))
    return found


def rows_of(case: Case, count: int) -> Iterator[tuple[str, float, float]]:
    """Name, flicker and PSNR of the input and of each way."""
    made = list(clean_frames(count))
    clean, still = [frame for frame, _ in made], static_region([columns for _, columns in made])
    random = np.random.default_rng(0)
    given = [degraded(frame, case, random) for frame in clean]
    yield "the input", flicker(given, still), quality(given, clean)
    network = glocal.load(case.model)
    ways: Mapping[str, nn.Module] = {
        "full image": network,
        "windows": glocal.localize(network, 64, statistics="windows"),
        "crops": glocal.localize(network, 64, statistics="crops"),
    }
    for name, model in ways.items():
        result = restored(model, given, None)
        yield name, flicker(result, still), quality(result, clean)
    for frames in SMOOTHED:
        result = restored(ways["crops"], given, Smoothing(frames, "frames"))
        yield (
            f"crops, smoothed over {frames} frames",
            flicker(result, still),
            quality(result, clean),
        )


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--case", choices=[*CASES], action="append")
    options = parser.parse_args()
    cpu = torch.device("cpu")
    print(f"{options.frames} frames of {SIZE[1]} × {SIZE[0]} on {machine_name(cpu)}")
    for name in options.case or CASES:
        case = CASES[name]
        blur = f"motion blur of {case.blur} px and " if case.blur > 1 else ""
        print(f"\n{name}; {blur}noise of σ {case.sigma:g}\n")
        print("| frames | flicker | PSNR, dB |\n|---|---|---|", flush=True)
        for row, change, decibels in rows_of(case, options.frames):
            print(f"| {row} | {change:.3f} | {decibels:.2f} |", flush=True)


if __name__ == "__main__":
    main()

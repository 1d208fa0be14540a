"""MAXIM with its real weights on real photographs: full image, crop-and-stitch, local.

    glocal import maxim PACKAGE
    python experiments/maxim/measure.py maxim-deblurring.safetensors DATA [--only NAME ...]

DATA is a paired data set (`glocal.data.datasets.pairs`). Rows of results.json are not measured
again. PSNR of 8-bit RGB in dB, SSIM by the "ssim-3d" protocol. On a CPU run it with
MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=20000000000: page faults cost most of the time otherwise.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import glocal
from glocal.data.datasets import pairs
from glocal.data.pixels import read_pair
from glocal.images.files import write_whole
from glocal.metrics import psnr, ssim_3d
from glocal.ops.windows import Overlap
from glocal.study.intervals import paired

RESULTS = Path(__file__).resolve().parent / "results.json"
TRAIN = 256
GRIDS = ("*.GridGatingUnit", "*.SplitHeadMultiAxisGating_?")

Make = Callable[[nn.Module], tuple[nn.Module, dict[str, Any]]]


def full(network: nn.Module) -> tuple[nn.Module, dict[str, Any]]:
    """The unconverted network on the whole image."""
    return network, {}


def stitched(overlap: int) -> Make:
    """The unconverted network on tiles of the training size."""
    return lambda network: (network, {"tiles": glocal.Tiles(TRAIN, overlap=overlap)})


def local(window: int, **options: Any) -> Make:
    """The converted network."""
    return lambda network: (glocal.localize(network, TRAIN, window=window, **options), {})


HALF, MORE = Overlap(0.5, "linear"), Overlap(0.75, "linear")
WAYS: dict[str, Make] = {
    "full image": full,
    "crop-and-stitch 256/32": stitched(32),
    "crop-and-stitch 256/128": stitched(128),
    "channel attention 384": local(384, keep_global=GRIDS),
    "channel attention 384, grids 256": local(384),
    "channel attention 256, grids 256": local(256),
    "channel attention from crops, grids 256": local(256, statistics={"pools": "crops"}),
    "channel attention 384, grids 256 half-overlapping": local(384, window_overlap=HALF),
    "channel attention 256, grids 256 half-overlapping": local(256, window_overlap=HALF),
    "channel attention 192, grids 256 half-overlapping": local(192, window_overlap=HALF),
    "channel attention 256, grids 256 overlapping by 3/4": local(256, window_overlap=MORE),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", help="checkpoint, or name of a model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="*", choices=WAYS, help="only these methods, in this order")
    arguments = parser.parse_args()
    network = glocal.load(arguments.weights)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for way in arguments.only or WAYS:
        missing = [p for p in pairs(arguments.data) if p.name not in results.get(way, {})]
        if not missing:
            continue
        model, options = WAYS[way](network)
        for pair in missing:
            degraded, target, _ = read_pair(pair)
            started = time.process_time()
            restored = glocal.restore(model, degraded, **options)
            seconds = time.process_time() - started
            results.setdefault(way, {})[pair.name] = {
                "psnr_db": psnr(restored, target, round8=True),
                "ssim_3d": ssim_3d(restored, target, round8=True),
                "cpu_s": seconds,
            }
            write_whole(RESULTS, json.dumps(results, indent=1) + "\n", glocal.GlocalError)
            print(way, pair.name, results[way][pair.name], flush=True)
    print(table(results))


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """The results in Markdown."""
    names = sorted({name for found in results.values() for name in found})
    head = [*(f"{name}: PSNR (dB)" for name in names), *(f"{name}: SSIM" for name in names)]
    lines = [["way", *head, "mean PSNR", "− full image", "CPU s"]]
    lines.append(["---"] * len(lines[0]))
    for way in (w for w in WAYS if set(results.get(w, ())) == set(names)):
        found = [results[way][name] for name in names]
        values = [each["psnr_db"] for each in found]
        base = [results["full image"][name]["psnr_db"] for name in names]
        lines.append(
            [
                way,
                *(f"{value:.3f}" for value in values),
                *(f"{each['ssim_3d']:.4f}" for each in found),
                f"{np.mean(values):.3f}",
                "" if way == "full image" else paired(values, base).text(),
                f"{np.mean([each['cpu_s'] for each in found]):.0f}",
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()

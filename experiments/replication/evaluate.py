"""PSNR of every stored network on the held-out photographs, for every way to run it.

    python experiments/replication/evaluate.py              # whatever results.json lacks
    python experiments/replication/evaluate.py --photos 2   # the first two photographs only
    python experiments/replication/evaluate.py --only deblur-nafnet-crop64-seed0

Photographs are degraded, restored and compared as a whole. "crop-and-stitch" runs the
unconverted network on tiles of the training size that overlap by a quarter (or a half, or three
quarters) and are blended linearly; "tiles" puts the same tiles edge to edge. "crops" is the
converted network with statistics from crops. PSNR in dB of 8-bit RGB. An interrupted run
resumes; a network whose weights have changed is measured again.
"""

import argparse
import hashlib
import itertools
import json
from collections.abc import Collection
from typing import Any

import torch
from jobs import Job, finished, trained
from photos import HERE, Photo, names, read
from tasks import TASKS, seed_of
from torch import nn

import glocal
from glocal.images.files import write_whole
from glocal.inference.geometry import tile_starts
from glocal.metrics import psnr
from glocal.study.shift.seams import seam_ratio

RESULTS = HERE / "results.json"
SCALES = (0.5, 1.0, 1.5, 2.0, 3.0)
STRIDES = (1.0, 1.5, 2.0, 3.0)
DEGRADED, FULL, STITCH, TILES = "degraded", "full image", "crop-and-stitch", "tiles"
HALF, MOST = "crop-and-stitch 1/2", "crop-and-stitch 3/4"
OVERLAPS = {TILES: 0.0, STITCH: 0.25, HALF: 0.5, MOST: 0.75}


def tlc(scale: float) -> str:
    """The name of TLC with a window of `scale` × the training size."""
    return f"TLC {scale:g}x"


def crops(stride: float) -> str:
    """The name of statistics from crops at most `stride` crops apart."""
    return f"crops {stride:g}"


SEAM_WAYS = (FULL, STITCH, tlc(1.5), crops(1.0))
WAYS = (DEGRADED, FULL, STITCH, *map(tlc, SCALES), crops(1.0))
MORE_WAYS = (*map(crops, STRIDES[1:]), HALF, MOST)
"""Measured on the first `FEW` photographs with the networks of the first seed, one by one."""
FEW = 5


def pair(task: str, name: str) -> tuple[Photo, Photo]:
    """A held-out photograph and its degraded version, the same in every run."""
    sharp = read(name)
    return sharp, TASKS[task](sharp, seed_of(task, name))


def variants(job: Job, ways: Collection[str]) -> dict[str, nn.Module]:
    """The stored network of a job, converted for each of some ways that needs it."""
    network = trained(job)
    local = {
        **{tlc(s): {"window_scale": s} for s in SCALES},
        **{crops(s): {"statistics": "crops", "stride": s} for s in STRIDES},
    }
    return {
        way: glocal.localize(network, job.crop, **local[way]) if way in local else network
        for way in ways
    }


def restored(job: Job, networks: dict[str, nn.Module], degraded: Photo, way: str) -> Photo:
    """Restore a degraded photograph by one of the `WAYS`."""
    if way == DEGRADED:
        return degraded
    if way in OVERLAPS:
        overlap = int(job.crop * OVERLAPS[way])
        return glocal.restore(
            networks[way], degraded, tiles=glocal.Tiles(job.crop, overlap=overlap)
        )
    return glocal.restore(networks[way], degraded)


def seam(image: Photo, sharp: Photo, tile: int) -> float:
    """Jump of the error at the borders of edge-to-edge tiles, relative to elsewhere.

    The mean absolute difference of the error of neighbouring pixels across a border, divided by
    that of all other neighbours. An image without seams has 1.
    """
    rows, columns = (tile_starts(size, tile, 0)[1:] for size in sharp.shape[:2])
    return seam_ratio(image, sharp, rows, columns)


def measure(
    job: Job,
    networks: dict[str, nn.Module],
    name: str,
    ways: list[str],
    known: dict[str, dict[str, float]],
) -> dict[str, dict[str, float]]:
    """PSNR and seams of a network on one photograph by some ways, added to those known."""
    sharp, degraded = pair(job.task, name)
    images = {way: restored(job, networks, degraded, way) for way in ways}
    values = {way: psnr(image, sharp) for way, image in images.items()}
    jumps = {way: seam(images[way], sharp, job.crop) for way in images if way in SEAM_WAYS}
    return {
        "psnr_db": {**known.get("psnr_db", {}), **values},
        "seam": {**known.get("seam", {}), **jumps},
    }


def missing(job: Job, name: str, known: dict[str, dict[str, float]], more: str) -> list[str]:
    """The ways that are to be measured on a photograph and are not yet; one of `MORE_WAYS`."""
    few = bool(more) and job.seed == 0 and name in names("held-out")[:FEW]
    wanted = (*WAYS, more) if few else WAYS
    return [way for way in wanted if way not in known.get("psnr_db", {})]


def results() -> dict[str, Any]:
    """Results so far: {job name: {"weights_sha256": …, "photographs": {name: …}}}."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def weights_digest(job: Job) -> str:
    """SHA-256 of the stored weights that the results belong to."""
    return hashlib.sha256(job.path.read_bytes()).hexdigest()


def complete(photographs: int | None = None, only: list[str] | None = None) -> dict[str, Any]:
    """Measure the stored networks that `results` lacks, cheap ways first; return all results."""
    found = results()
    for more, job in itertools.product(("", *MORE_WAYS), finished()):
        if only is not None and job.name not in only:
            continue
        digest = weights_digest(job)
        entry = found.get(job.name, {})
        if entry.get("weights_sha256") != digest:
            entry = found[job.name] = {"weights_sha256": digest, "photographs": {}}
        kept = entry["photographs"]
        wanted = {n: missing(job, n, kept.get(n, {}), more) for n in names("held-out")}
        wanted = {n: ways for n, ways in list(wanted.items())[:photographs] if ways}
        networks = variants(job, {way for ways in wanted.values() for way in ways})
        for name, ways in wanted.items():
            kept[name] = measure(job, networks, name, ways, kept.get(name, {}))
            write_whole(RESULTS, json.dumps(found, indent=1) + "\n", glocal.GlocalError)
            shown = kept[name]["psnr_db"]
            print(job.name, name, {way: round(shown[way], 2) for way in ways}, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, help="only the first N")
    parser.add_argument("--only", nargs="*", metavar="JOB", help="only these networks")
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    complete(arguments.photos, arguments.only)


if __name__ == "__main__":
    main()

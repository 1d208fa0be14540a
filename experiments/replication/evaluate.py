"""PSNR of every stored network on the held-out photographs: full image, crop-and-stitch, TLC.

    python experiments/replication/evaluate.py              # whatever results.json lacks
    python experiments/replication/evaluate.py --photos 2   # the first two photographs only
    python experiments/replication/evaluate.py --only deblur-nafnet-crop64-seed0

Photographs are degraded, restored and compared as a whole. "crop-and-stitch" runs the
unconverted network on tiles of the training size that overlap by a quarter and are blended
linearly; "tiles" puts the same tiles edge to edge. PSNR in dB of 8-bit RGB. An
interrupted run resumes; a network whose weights have changed is measured again.
"""

import argparse
import hashlib
import json
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
DEGRADED, FULL, STITCH, TILES = "degraded", "full image", "crop-and-stitch", "tiles"


def tlc(scale: float) -> str:
    """The name of TLC with a window of `scale` × the training size."""
    return f"TLC {scale:g}x"


SEAM_WAYS = (FULL, STITCH, tlc(1.5))
WAYS = (DEGRADED, FULL, STITCH, *(tlc(scale) for scale in SCALES))


def pair(task: str, name: str) -> tuple[Photo, Photo]:
    """A held-out photograph and its degraded version, the same in every run."""
    sharp = read(name)
    return sharp, TASKS[task](sharp, seed_of(task, name))


def variants(job: Job) -> dict[str, nn.Module]:
    """The stored network of a job, and its conversions by the name of their way."""
    network = trained(job)
    local = {tlc(s): glocal.localize(network, job.crop, window_scale=s) for s in SCALES}
    return {**dict.fromkeys((FULL, TILES, STITCH), network), **local}


def restored(job: Job, networks: dict[str, nn.Module], degraded: Photo, way: str) -> Photo:
    """Restore a degraded photograph by one of the `WAYS`."""
    if way == DEGRADED:
        return degraded
    if way in (TILES, STITCH):
        overlap = 0 if way == TILES else job.crop // 4
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


def measure(job: Job, networks: dict[str, nn.Module], name: str) -> dict[str, dict[str, float]]:
    """PSNR and seams of a network on one photograph, for every method."""
    sharp, degraded = pair(job.task, name)
    images = {way: restored(job, networks, degraded, way) for way in WAYS}
    return {
        "psnr_db": {way: psnr(image, sharp) for way, image in images.items()},
        "seam": {way: seam(images[way], sharp, job.crop) for way in SEAM_WAYS},
    }


def results() -> dict[str, Any]:
    """Results so far: {job name: {"weights_sha256": …, "photographs": {name: …}}}."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def weights_digest(job: Job) -> str:
    """SHA-256 of the stored weights that the results belong to."""
    return hashlib.sha256(job.path.read_bytes()).hexdigest()


def complete(photographs: int | None = None, only: list[str] | None = None) -> dict[str, Any]:
    """Measure the stored networks that `results` lacks; return all results."""
    found = results()
    for job in (job for job in finished() if only is None or job.name in only):
        digest = weights_digest(job)
        entry = found.get(job.name, {})
        if entry.get("weights_sha256") != digest:
            entry = found[job.name] = {"weights_sha256": digest, "photographs": {}}
        wanted = names("held-out")[:photographs]
        networks = variants(job) if set(wanted) - set(entry["photographs"]) else {}
        for name in wanted:
            if name in entry["photographs"]:
                continue
            entry["photographs"][name] = measure(job, networks, name)
            write_whole(RESULTS, json.dumps(found, indent=1) + "\n", glocal.GlocalError)
            shown = entry["photographs"][name]["psnr_db"]
            print(job.name, name, {way: round(db, 2) for way, db in shown.items()}, flush=True)
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

"""How well the default model does on held-out photographs, for every way to run it.

    python experiments/default_model/evaluate.py            # all ten, some minutes
    python experiments/default_model/evaluate.py --photos 2

Every photograph is degraded, restored and compared as a whole, with a seed fixed by its name.
Crop-and-stitch runs the unconverted network on tiles of the training size that overlap by a
quarter (or a half) and are blended linearly. "crops" is the converted network with statistics
from crops. PSNR in dB of 8-bit RGB. Results go to results.json, photograph
by photograph; a run that was interrupted goes on where it stopped, unless the weights have
changed.
"""

import argparse
import hashlib
import json
import os
from pathlib import Path

import numpy as np
from data import load, photographs
from degrade import degrade, seed_of
from export import NAME, WEIGHTS
from train import TRAIN_SIZE

import glocal
from glocal.metrics import psnr

RESULTS = Path(__file__).resolve().parent / "results.json"
OVERLAP = TRAIN_SIZE // 4
SCALES = (0.75, 1.0, 1.5, 2.0, 3.0)
STRIDES = (1.0, 2.0)


def stitched(overlap):
    """Crop-and-stitch with an overlap in pixels."""
    tiles = glocal.Tiles(TRAIN_SIZE, overlap=overlap)
    return lambda network, image: glocal.restore(network, image, tiles=tiles)


def converted(**options):
    """The converted network on the whole image."""
    return lambda network, image: glocal.restore(
        glocal.localize(network, TRAIN_SIZE, **options), image
    )


WAYS = {
    "degraded": lambda network, image: image,
    "full image": glocal.restore,
    "crop-and-stitch": stitched(OVERLAP),
    "crop-and-stitch 1/2": stitched(TRAIN_SIZE // 2),
    **{f"TLC {scale:g}x": converted(window_scale=scale) for scale in SCALES},
    **{f"crops {stride:g}": converted(statistics="crops", stride=stride) for stride in STRIDES},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=None, help="only the first N")
    arguments = parser.parse_args()
    weights = (WEIGHTS / f"{NAME}.safetensors").read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if results.get("weights_sha256") != digest:
        results = {"weights_sha256": digest, "psnr_db": {}}
    network = glocal.load(NAME)
    chosen = photographs("held-out")[: arguments.photos]
    for photo in chosen:
        known = results["psnr_db"].get(photo.name, {})
        if missing := [way for way in WAYS if way not in known]:
            photograph = load(photo)
            degraded = degrade(photograph, seed_of(photo.name))
            found = {way: psnr(WAYS[way](network, degraded), photograph) for way in missing}
            results["psnr_db"][photo.name] = {way: (known | found)[way] for way in WAYS}
            temporary = RESULTS.with_suffix(".partial")
            temporary.write_text(json.dumps(results, indent=1) + "\n")
            os.replace(temporary, RESULTS)
            print(f"{photo.name}: {results['psnr_db'][photo.name]}", flush=True)
    rows = [results["psnr_db"][photo.name] for photo in chosen]
    names = list(rows[0])
    print("\n| photograph | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for photo, row in zip(chosen, rows, strict=True):
        print(f"| {photo.name} | " + " | ".join(f"{row[n]:.2f}" for n in names) + " |")
    means = [np.mean([row[n] for row in rows]) for n in names]
    print("| **mean** | " + " | ".join(f"**{m:.3f}**" for m in means) + " |")


if __name__ == "__main__":
    main()

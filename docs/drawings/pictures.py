"""Restore a hazy photograph in four ways, and write the pictures of docs/choosing.md.

    python docs/drawings/pictures.py        # prints the PSNR below each picture

The networks are those of experiments/replication, trained on crops of 64 pixels; the photograph is
examples/handshake-sharp.jpg, with haze whose depth varies over the image.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import glocal

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "experiments/replication/weights"
PART = np.s_[:720, :960]
NETWORKS = {"hinet": "norms", "nafnet": "pools"}

Photo = NDArray[np.uint8]


def hazy(clear: Photo) -> Photo:
    """Return the photograph in haze that is thicker in some parts than in others."""
    y, x = np.mgrid[: clear.shape[0], : clear.shape[1]]
    depth = 0.8 + 0.7 * np.sin(x / 190 + 0.4) * np.cos(y / 170)
    light = np.exp(-depth)[..., None]
    return np.rint(clear * light + 225 * (1 - light)).astype(np.uint8)


def restored(network: str, photo: Photo) -> dict[str, Photo]:
    """Return the results of a network by the names of the ways."""
    model = glocal.load(WEIGHTS / f"dehaze-{network}-crop64-seed0.safetensors")
    converted = {
        "windows": glocal.localize(model, 64),
        "crops": glocal.localize(model, 64, statistics="crops"),
    }
    results = {name: glocal.restore(each, photo) for name, each in converted.items()}
    tiles = glocal.Tiles(64, overlap=16, blend="linear")
    full, stitch = glocal.restore(model, photo), glocal.restore(model, photo, tiles=tiles)
    return {"full image": full, "crop-and-stitch": stitch, **results}


def save(name: str, photo: Photo) -> None:
    """Write a picture, averaged to half its size."""
    h, w = (n // 2 * 2 for n in photo.shape[:2])
    small = photo[:h, :w].reshape(h // 2, 2, w // 2, 2, 3).mean((1, 3)).round().astype(np.uint8)
    path = ROOT / f"docs/images/haze-{name.replace(' ', '-')}.jpg"
    glocal.write_image(path, glocal.Image(pixels=small), quality=82)


def main() -> None:
    """Write the pictures and print their PSNR."""
    clear = glocal.read_image(ROOT / "examples/handshake-sharp.jpg").pixels[PART]
    photo = hazy(clear)
    save("degraded", photo)
    print(f"hazy: {glocal.metrics.psnr(photo, clear):.2f} dB")
    for network, operations in NETWORKS.items():
        print(f"{network} ({operations})")
        for way, result in restored(network, photo).items():
            save(f"{network}-{way}", result)
            print(f"  {way}: {glocal.metrics.psnr(result, clear):.2f} dB")


if __name__ == "__main__":
    main()

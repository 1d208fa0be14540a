"""The photographs of the default model, from their Debian packages or from one packed file.

    python experiments/photograph_model/sources.py pack .cache/photograph_model/pack.safetensors

The list and its split are those of `experiments/default_model/data.py`. A pack holds the training
photographs as JPEG of quality 95 with at most 4.2 megapixels each, for a machine that can fetch no
package.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pyvips
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "photograph_model"
PACK_PIXELS = 4_200_000
PACK_QUALITY = 95

Photo = NDArray[np.uint8]


def _listed():
    """The module of the list, under a name of its own: `data` says too little here."""
    path = HERE.parent / "default_model" / "data.py"
    spec = importlib.util.spec_from_file_location("default_model_data", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


listed = _listed()


def as_image(pixels: Photo) -> pyvips.Image:
    """A pyvips image over (h, w, 3) uint8 sRGB pixels."""
    return pyvips.Image.new_from_array(pixels).copy(interpretation="srgb")


def training_photographs(pack: Path | None = None) -> list[Photo]:
    """The training photographs, (h, w, 3) uint8 sRGB each."""
    if pack is None:
        return [listed.load(photo) for photo in listed.photographs("train")]
    files = load_file(pack)
    return [
        pyvips.Image.new_from_buffer(files[name].numpy().tobytes(), "").numpy()
        for name in sorted(files)
    ]


def held_out(side: int) -> dict[str, Photo]:
    """The middle of each held-out photograph, at most `side` pixels high and wide."""
    middles = {}
    for photo in listed.photographs("held-out"):
        pixels = listed.load(photo)
        top, left = (max(0, (size - side) // 2) for size in pixels.shape[:2])
        middles[photo.name] = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    return middles


def pack(path: Path) -> None:
    """Write the training photographs into one file."""
    files = {}
    for photo in listed.photographs("train"):
        image = as_image(listed.load(photo))
        scale = min(1.0, (PACK_PIXELS / (image.width * image.height)) ** 0.5)
        data = image.resize(scale).jpegsave_buffer(Q=PACK_QUALITY, subsample_mode="off")
        files[photo.name] = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(files, path)
    print(f"{path}: {len(files)} photographs, {path.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description="pack the training photographs")
    commands = parser.add_subparsers(required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("path", type=Path)
    pack(parser.parse_args().path)


if __name__ == "__main__":
    main()

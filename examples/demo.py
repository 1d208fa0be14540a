"""Restore the shipped photograph without and with TLC, and print the PSNR of each result.

python examples/demo.py
"""

import time
from pathlib import Path

import numpy as np

import glocal
from glocal.images.image_files import Image, read, write
from glocal.metrics import psnr

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "demo-output"
NAME = "nafnet-motion-blur"
TRAIN_SIZE = 64
DETAIL = (320, 420)  # height and width of the crops shown side by side


def main() -> None:
    """Restore, compare, and write both results to demo-output."""
    OUT.mkdir(exist_ok=True)
    shaken = read(HERE / "handshake.jpg")
    sharp = read(HERE / "handshake-sharp.jpg")
    network = glocal.load(NAME)
    local = glocal.localize(network, TRAIN_SIZE)

    height, width = shaken.size
    print(f"Photograph  {HERE / 'handshake.jpg'} ({width} x {height} pixels, camera shake, noise)")
    print(f"Network     {NAME}, trained on crops of {TRAIN_SIZE} x {TRAIN_SIZE} pixels")
    print(f"TLC         {glocal.plan_of(local).summary()}\n")

    images = {"the photograph": shaken.pixels}
    print(f"{'':32}{'PSNR':>8}{'seconds':>10}")
    print(f"{'degraded':32}{psnr(shaken.pixels, sharp.pixels):8.2f}")
    for label, model in (("full image (global)", network), ("TLC (local)", local)):
        started = time.perf_counter()
        images[label] = glocal.restore(model, shaken.pixels)
        seconds = time.perf_counter() - started
        print(f"{'restored, ' + label:32}{psnr(images[label], sharp.pixels):8.2f}{seconds:10.1f}")

    result = OUT / "handshake-restored.png"
    write(result, Image(pixels=images["TLC (local)"]))
    comparison = OUT / "comparison.jpg"
    pixels = side_by_side(shaken.pixels, images["TLC (local)"], sharp.pixels)
    write(comparison, Image(pixels=pixels))
    print(f"\nRestored    {result}")
    print(f"Compare     {comparison} (left: degraded, right: restored)")


def side_by_side(before: np.ndarray, after: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the crop that gained most, before and after, with a white line between."""
    h, w = (min(n, m) for n, m in zip(DETAIL, before.shape[:2], strict=True))
    before_error, after_error = (
        np.square(image.astype(np.float64) - target).mean(2) for image in (before, after)
    )
    sums = np.pad(before_error - after_error, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    windows = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
    top, left = np.unravel_index(windows.argmax(), windows.shape)
    crop = np.s_[top : top + h, left : left + w]
    line = np.full((h, 4, before.shape[2]), 255, np.uint8)
    return np.concatenate([before[crop], line, after[crop]], 1)


if __name__ == "__main__":
    main()

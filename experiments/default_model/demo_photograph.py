"""Make the photograph of `make demo`: part of a held-out photograph, sharp and degraded.

python experiments/default_model/demo_photograph.py
"""

from pathlib import Path

import numpy as np
import pyvips
from data import load, photographs
from degrade import degrade, seed_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAME = "Picture_0B_by_freespace"
CROP = np.s_[400:1500, 700:2100]
QUALITY = 95


def main() -> None:
    photo = next(photo for photo in photographs("held-out") if photo.name == NAME)
    sharp = load(photo)
    degraded = degrade(sharp, seed_of(photo.name))
    for name, pixels in (("handshake-sharp.jpg", sharp), ("handshake.jpg", degraded)):
        part = np.ascontiguousarray(pixels[CROP])
        image = pyvips.Image.new_from_array(part).copy(interpretation="srgb")
        image.jpegsave(str(EXAMPLES / name), Q=QUALITY, keep="none")
        print(f"{name}: {image.width}×{image.height}, {(EXAMPLES / name).stat().st_size} bytes")


if __name__ == "__main__":
    main()

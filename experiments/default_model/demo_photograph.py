"""Make the photograph of `make demo`: one held-out photograph, sharp and degraded, as JPEG.

python experiments/default_model/demo_photograph.py
"""

from pathlib import Path

import pyvips
from data import load, photographs
from degrade import degrade, seed_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAME = "picosdeeuropa_by_Aitzol_Berasategi"
QUALITY = 92


def main() -> None:
    photo = next(photo for photo in photographs("held-out") if photo.name == NAME)
    sharp = load(photo)
    degraded = degrade(sharp, seed_of(photo.name))
    for name, pixels in (("handshake-sharp.jpg", sharp), ("handshake.jpg", degraded)):
        image = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb")
        image.jpegsave(str(EXAMPLES / name), Q=QUALITY, keep="none")
        print(f"{name}: {image.width}×{image.height}, {(EXAMPLES / name).stat().st_size} bytes")


if __name__ == "__main__":
    main()

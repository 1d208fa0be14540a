"""The photographs of the default model, scaled to the size at which this experiment runs.

Files, authors, licences and the split are those of `experiments/default_model` (photographs.md
there). Every photograph is scaled to 1280 pixels on its longer side, for training and test
alike: it is then sharp at pixel level, and the synthetic blur is its only degradation.
"""

import sys
from pathlib import Path

import numpy as np
import pyvips
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".cache" / "replication"
sys.path.append(str(HERE.parent / "default_model"))  # after this folder: its own files come first

from data import PHOTOGRAPHS, load  # noqa: E402

LONGER_SIDE = 1280

Photo = NDArray[np.uint8]


def names(split: str) -> list[str]:
    """The names of the "train" or "held-out" photographs, in a fixed order."""
    return [photo.name for photo in PHOTOGRAPHS if photo.split == split]


def read(name: str) -> Photo:
    """A photograph as (h, w, 3) uint8 sRGB, 1280 pixels on its longer side."""
    photo = next(photo for photo in PHOTOGRAPHS if photo.name == name)
    pixels = load(photo)
    image = pyvips.Image.new_from_array(pixels).resize(LONGER_SIDE / max(pixels.shape[:2]))
    return np.ascontiguousarray(image.cast("uchar").numpy()[..., :3])

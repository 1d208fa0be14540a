"""
A big image in tiles
====================

A converted network needs only the surroundings of a tile, so tiles with a halo equal the whole image.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import glocal

photo = glocal.read_image(Path(sys.argv[0]).resolve().parents[1] / "handshake.jpg").pixels[
    :512, :640
]
network = glocal.load("nafnet-motion-blur")
local = glocal.localize(network)

# %%
# ``tiles="auto"``, the default, takes the whole image if it fits into memory. Here tiles of 384 pixels
# are asked for; ``report`` says what was measured.

whole = glocal.restore(local, photo, tiles=None)
tiled = glocal.restore(local, photo, tiles=384, report=print)
difference = np.abs(tiled.astype(int) - whole).max()
print(f"largest difference from the whole image: {difference} of 255")

# %%
# The original network has no such tiles: each has statistics of its own, and seams remain.

stitched = glocal.restore(network, photo, tiles=glocal.Tiles(192, overlap=0))
full = glocal.restore(network, photo, tiles=None)

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for ax, one, other, name in (
    (axes[0], tiled, whole, "converted network"),
    (axes[1], stitched, full, "original network"),
):
    off = np.abs(one.astype(int) - other).max(2)
    shown = ax.imshow(off, vmin=0, vmax=8, cmap="magma")
    ax.set_title(f"tiles − whole image, {name}", fontsize=10)
    ax.axis("off")
figure.colorbar(shown, ax=axes, shrink=0.8, label="levels of 255")

# %%
# On the command line: ``glocal restore panorama.tif out.tif --memory 8GB`` reads and writes tile by tile.

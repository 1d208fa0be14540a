"""
Windows, crops, crop-and-stitch
===============================

Two networks that dehaze, trained on crops of 64 pixels: a HINet, whose global operations are norms, and
a NAFNet, whose are pools. Which way of running them is the best?
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import glocal

REPOSITORY = Path(sys.argv[0]).resolve().parents[2]
clear = glocal.read_image(REPOSITORY / "examples/handshake-sharp.jpg").pixels[:320, :448]

# %%
# Haze whose depth varies over the image: a crop sees nearly one depth, the photograph all of them.

y, x = np.mgrid[: clear.shape[0], : clear.shape[1]]
light = np.exp(-(0.8 + 0.7 * np.sin(x / 100) * np.cos(y / 90)))[..., None]
hazy = np.rint(clear * light + 225 * (1 - light)).astype(np.uint8)

# %%
# The four ways, each for both networks.


def results(name):
    model = glocal.load(REPOSITORY / f"experiments/replication/weights/dehaze-{name}.safetensors")
    tiles = glocal.Tiles(64, overlap=16, blend="linear")
    return {
        "full image": glocal.restore(model, hazy),
        "crop-and-stitch": glocal.restore(model, hazy, tiles=tiles),
        "windows (TLC)": glocal.restore(glocal.localize(model, 64, verify=False), hazy),
        "crops": glocal.restore(glocal.localize(model, 64, statistics="crops", verify=False), hazy),
    }


networks = {"HINet": "hinet-crop64-seed0", "NAFNet": "nafnet-crop64-seed0"}
images = {label: results(name) for label, name in networks.items()}

figure, axes = plt.subplots(2, 4, figsize=(11, 4.9))
for row, (label, found) in zip(axes, images.items(), strict=True):
    for ax, (way, image) in zip(row, found.items(), strict=True):
        ax.imshow(image)
        ax.set_title(f"{label}, {way}\n{glocal.metrics.psnr(image, clear):.2f} dB", fontsize=9)
        ax.axis("off")

# %%
# Norms have learned the zero padding of training crops, so statistics from crops serve them better than
# windows; pools have hardly, and windows are the best there. Both beat the full image by far, and show
# no seams.

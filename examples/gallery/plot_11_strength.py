"""
Strength, ensemble, region
==========================

Less of the effect, a little more quality, or a part to try options on.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import glocal

EXAMPLES = Path(sys.argv[0]).resolve().parents[1]
PART = np.s_[640:800, 740:940]
shaken = glocal.read_image(EXAMPLES / "handshake.jpg").pixels[PART]
sharp = glocal.read_image(EXAMPLES / "handshake-sharp.jpg").pixels[PART]
local = glocal.localize(glocal.load("nafnet-motion-blur"))

# %%
# ``strength`` blends the result with the photograph. ``ensemble=8`` averages the results of all flips
# and turns, for 8 times the time.

results = {
    "photograph": shaken,
    "strength 0.5": glocal.restore(local, shaken, strength=0.5),
    "strength 1": glocal.restore(local, shaken),
    "ensemble 8": glocal.restore(local, shaken, ensemble=8),
}
figure, axes = plt.subplots(1, 4, figsize=(12, 2.8))
for ax, (name, image) in zip(axes, results.items(), strict=True):
    ax.imshow(image)
    ax.set_title(f"{name}\n{glocal.metrics.psnr(image, sharp):.2f} dB", fontsize=10)
    ax.axis("off")

# %%
# A part of an array is a slice. On the command line, ``--region X,Y,W,H`` restores a part of a file:
#
# .. code-block:: console
#
#    $ glocal restore photo.jpg part.png --region 740,640,200,160 --strength 0.5

"""
Restore a photograph
====================

A photograph with camera shake, the embedded network, and one call.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import glocal

EXAMPLES = Path(sys.argv[0]).resolve().parents[1]
PART = np.s_[560:960, 620:1180]
shaken = glocal.read_image(EXAMPLES / "handshake.jpg").pixels[PART]
sharp = glocal.read_image(EXAMPLES / "handshake-sharp.jpg").pixels[PART]

# %%
# ``load`` returns the network, which knows the size of its training crops; ``localize`` converts it;
# ``restore`` takes an array, a tensor, a Pillow image or a path, and returns the same kind.

network = glocal.load("nafnet-motion-blur")
local = glocal.localize(network)
restored = glocal.restore(local, shaken)
print(restored.shape, restored.dtype)

# %%
# The shaken photograph was made from a sharp one, so the gain can be measured.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.5))
for ax, (name, image) in zip(axes, {"shaken": shaken, "restored": restored}.items(), strict=True):
    ax.imshow(image)
    ax.set_title(f"{name}: {glocal.metrics.psnr(image, sharp):.2f} dB")
    ax.axis("off")

# %%
# On the command line this is ``glocal restore photo.jpg``, which also keeps format, bit depth, colours
# and metadata.

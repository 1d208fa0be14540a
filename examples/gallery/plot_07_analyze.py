"""
See the statistics shift
========================

Why TLC helps: the statistic of a layer on training crops, on full images, and with TLC.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import glocal

REPOSITORY = Path(sys.argv[0]).resolve().parents[2]
clear = glocal.read_image(REPOSITORY / "examples/handshake-sharp.jpg").pixels[:384, :512]
y, x = np.mgrid[: clear.shape[0], : clear.shape[1]]
light = np.exp(-(0.8 + 0.7 * np.sin(x / 110) * np.cos(y / 90)))[..., None]
hazy = np.rint(clear * light + 225 * (1 - light)).astype(np.uint8)
images = [hazy]

model = glocal.load(
    REPOSITORY / "experiments/replication/weights/dehaze-nafnet-crop64-seed0.safetensors"
)
shifts = glocal.analyze(
    model, images, train_size=64, conversion=glocal.ConversionOptions(verify=False)
)
print(shifts)

# %%
# The distance of each operation from what it was in training, in deviations over the crops.

ranked = shifts.ranking()
figure, ax = plt.subplots(figsize=(7.5, 3.2))
for number, (name, values) in enumerate(
    {
        "full image": [shift.distance(shift.full) for shift in ranked],
        "TLC": [shift.distance(shift.local) for shift in ranked],
    }.items()
):
    places = np.arange(len(ranked)) + 0.4 * number
    ax.bar(places, values, width=0.4, label=name)
ax.set_xticks(
    range(len(ranked)), [shift.path for shift in ranked], rotation=30, ha="right", fontsize=8
)
ax.set_ylabel("distance from training crops")
ax.legend(frameon=False)

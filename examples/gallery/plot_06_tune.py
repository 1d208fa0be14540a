"""
Pick the way and the window with tune
=====================================

``tune`` tries windows, statistics from crops and crop-and-stitch on a few pairs, and recommends one.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import glocal

REPOSITORY = Path(sys.argv[0]).resolve().parents[2]
clear = glocal.read_image(REPOSITORY / "examples/handshake-sharp.jpg").pixels
y, x = np.mgrid[: clear.shape[0], : clear.shape[1]]
light = np.exp(-(0.8 + 0.7 * np.sin(x / 110) * np.cos(y / 90)))[..., None]
hazy = np.rint(clear * light + 225 * (1 - light)).astype(np.uint8)

# %%
# Pairs are tuples of a degraded and a clean image, or a folder of a known layout. Real data should have
# images as large as those that you restore; these are small, to be quick.

parts = [np.s_[top : top + 192, left : left + 256] for top in (0, 500) for left in (600,)]
pairs = [(hazy[part], clear[part]) for part in parts]
model = glocal.load(
    REPOSITORY / "experiments/replication/weights/dehaze-nafnet-crop64-seed0.safetensors"
)

tuning = glocal.tune(
    model,
    pairs,
    train_size=64,
    operations=False,
    conversion=glocal.ConversionOptions(verify=False),
)
print(tuning)

# %%
# The gain of each window that was tried.

windows = sorted((trial for trial in tuning.trials if trial.window), key=lambda t: t.window)
figure, ax = plt.subplots(figsize=(6.5, 3))
ax.plot(
    [trial.window[0] for trial in windows],
    [trial.gain(tuning.original).mean for trial in windows],
    "o-",
)
ax.axhline(0, linewidth=0.8, color="#7d8794")
ax.set_xlabel("window in pixels")
ax.set_ylabel("gain over the full image in dB")

# %%
# The recommendation converts and runs the network; ``tuning.settings.write("settings.json")`` writes it
# for ``glocal restore --settings``.

local = tuning.settings.network(model)
print(tuning.settings.way, glocal.plan_of(local).heading())

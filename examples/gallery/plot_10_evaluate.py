"""
Evaluate on a folder
====================

A folder of degraded and clean images, the four ways of running a network, and a report.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import glocal

EXAMPLES = Path(sys.argv[0]).resolve().parents[1]
data = Path(tempfile.mkdtemp()) / "set"
for folder, name in (("degraded", "handshake.jpg"), ("target", "handshake-sharp.jpg")):
    (data / folder).mkdir(parents=True)
    pixels = glocal.read_image(EXAMPLES / name).pixels
    for number, top in enumerate((0, 400, 800)):
        part = np.ascontiguousarray(pixels[top : top + 192, 700:956])
        glocal.write_image(data / folder / f"{number}.png", glocal.Image(pixels=part))

# %%
# ``evaluate`` recognises the layout of the folder, and those of the published sets.

print([pair.name for pair in glocal.pairs(data)])
evaluation = glocal.evaluate(
    glocal.load("nafnet-motion-blur"),
    data,
    score=glocal.ScoreOptions("psnr"),
    conversion=glocal.ConversionOptions(verify=False),
)
print(evaluation)

# %%
# Every image, every way.

gains = {
    method: [
        record.metrics["psnr"] - before.metrics["psnr"]
        for record, before in zip(evaluation.of(method), evaluation.of("degraded"), strict=True)
    ]
    for method in evaluation.methods
    if method != "degraded"
}
figure, ax = plt.subplots(figsize=(7, 3))
for number, (method, values) in enumerate(gains.items()):
    ax.bar(np.arange(len(values)) + 0.2 * number, values, width=0.2, label=method)
ax.set_xticks(np.arange(3) + 0.3, [f"image {n}" for n in range(3)])
ax.set_ylabel("gain over the degraded image in dB")
ax.legend(frameon=False, fontsize=8)

# %%
# ``glocal evaluate nafnet-motion-blur --data set/ --out report/`` writes the same as an HTML page with a
# before/after slider.

"""
Export to ONNX and run with onnxruntime
=======================================

The file takes any batch size, height and width; onnxruntime needs neither torch nor glocal.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import torch

import glocal

# %%
# A small network keeps this example short; its weights are random.

torch.manual_seed(0)
network = glocal.networks.NAFNet(width=8, enc_blk_nums=(1,), middle_blk_num=1, dec_blk_nums=(1,))
for name, parameter in network.named_parameters():
    if name.endswith(("beta", "gamma")):
        parameter.data += 0.3  # zero at the start of training: its blocks would do nothing
local = glocal.localize(network.eval(), train_size=64)
path = Path(tempfile.mkdtemp()) / "network.onnx"
exported = glocal.export(local, path)
print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")

# %%
# ``export`` keeps a file only if its outputs agree with the network at three sizes. Here is a fourth.

photo = glocal.read_image(Path(sys.argv[0]).resolve().parents[1] / "handshake.jpg").pixels[
    :320, :480
]
x = (photo.transpose(2, 0, 1)[None] / 255).astype(np.float32)

session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
(restored,) = session.run(["restored"], {"image": x})
with torch.no_grad():
    expected = local(torch.from_numpy(x)).numpy()
print(f"largest difference from torch: {np.abs(restored - expected).max():.1e}")

figure, axes = plt.subplots(1, 2, figsize=(8, 2.9))
for ax, image, name in ((axes[0], x, "image"), (axes[1], restored, "restored, onnxruntime")):
    ax.imshow(image[0].transpose(1, 2, 0).clip(0, 1))
    ax.set_title(name)
    ax.axis("off")

# %%
# ``examples/onnxruntime_only.py`` is a program of 60 lines that restores a photograph with such a file.

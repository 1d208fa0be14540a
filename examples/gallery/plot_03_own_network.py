"""
Localize your own network
=========================

A gate with ``Linear`` layers, as in squeeze-and-excitation, written with functions instead of modules.
Nothing in glocal knows this class.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

import glocal


class Gate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.narrow, self.wide = nn.Linear(channels, 4), nn.Linear(4, channels)

    def forward(self, x):
        mean = x.mean((2, 3))  # global, and a function
        gate = self.wide(self.narrow(mean).relu()).sigmoid()
        return x * gate[:, :, None, None]


torch.manual_seed(4)
convolution = [nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 3, 3, padding=1)]
network = nn.Sequential(convolution[0], Gate(16), convolution[1]).eval()
network[1].narrow.weight.data *= 20  # a gate that depends on its input, as after training

local = glocal.localize(network, train_size=64)
print(glocal.plan_of(local))

# %%
# ``localize`` has proven the result: the converted network equals the original where the window covers
# the image.

small = torch.rand(1, 3, 64, 80)
with torch.no_grad():
    print(f"largest difference at 64x80: {(local(small) - network(small)).abs().max():.1e}")

# %%
# On a photograph the gate now differs from place to place. The picture shows what the first channel of
# the block is multiplied with: one number in the original, a map in the converted network.

photo = glocal.read_image(Path(sys.argv[0]).resolve().parents[1] / "handshake.jpg").pixels[
    :480, :640
]
x = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
with torch.no_grad():
    features = network[0](x)
    gates = [(block(features) / features)[0, 0] for block in (network[1], local[1])]

figure, axes = plt.subplots(1, 3, figsize=(10, 2.8))
axes[0].imshow(photo)
low, high = float(gates[1].min()), float(gates[1].max())
for ax, gate, name in zip(axes[1:], gates, ("original", "converted"), strict=True):
    shown = ax.imshow(gate, vmin=low, vmax=high)
    ax.set_title(f"gate, {name}")
figure.colorbar(shown, ax=axes[1:], shrink=0.8)
axes[0].set_title("photograph")
for ax in axes:
    ax.axis("off")

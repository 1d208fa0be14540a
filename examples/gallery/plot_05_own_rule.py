"""
Write your own rule
===================

A rule replaces a module by its local form, and ``check_rule`` proves it.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import glocal
from glocal import Local, Rule
from glocal.ops import local_moments


class ContrastPool(nn.Module):
    """The deviation of each channel over the map."""

    def forward(self, x):
        return x.var((2, 3), keepdim=True, unbiased=False).sqrt()


# %%
# The local form inherits from ``Local``, which copies parameters and attributes, and from the original.
# Its ``window`` is (height, width) in pixels of the map.


class LocalContrastPool(Local, ContrastPool):
    def forward(self, x):
        _, variance = local_moments(x, self.window, precision=self.precision)
        return variance.sqrt().to(x.dtype)  # moments accumulate in float64


CONTRAST = Rule(
    "contrast pool",
    matches=lambda module: isinstance(module, ContrastPool),
    build=LocalContrastPool.of,
    yields_map=True,  # the module returned a vector, its local form returns a map
)

# %%
# The check compares with the definition, pixel by pixel, in float64, on maps and windows of many sizes.
# It raises ``AssertionError`` with the place of the first difference.

glocal.testing.check_rule(CONTRAST, ContrastPool(), channels=3)

# %%
# Rules come before rewriting; the first that matches wins.


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.pool, self.layer = ContrastPool(), nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return x * self.layer(self.pool(x)).sigmoid()


torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Block(8), nn.Conv2d(8, 3, 1)).eval()
local = glocal.localize(network, 32, rules=(CONTRAST, *glocal.DEFAULT_RULES))
print(glocal.plan_of(local))

# %%
# Flat on the left, noise on the right: the deviation of the window of each pixel.

image = torch.full((1, 1, 96, 160), 0.5)
image[..., 80:] += 0.3 * torch.randn(1, 1, 96, 80)
figure, axes = plt.subplots(1, 2, figsize=(8, 2.6))
for ax, shown, name in (
    (axes[0], image, "image"),
    (axes[1], LocalContrastPool.of(ContrastPool(), (24, 24))(image), "deviation, windows of 24"),
):
    ax.imshow(shown[0, 0], cmap="gray" if name == "image" else "viridis")
    ax.set_title(name)
    ax.axis("off")

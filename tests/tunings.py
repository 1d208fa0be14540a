"""Networks and paired sets for which the best window is known."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.inference.restore import restore

TRAIN = 32


class Gate(nn.Module):
    """Adds the mean of the image."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 3, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(3)[..., None, None])
            self.head.bias.zero_()

    def forward(self, x):
        x = self.head(x)
        return x + 0.5 * self.pool(x)


class GateAndNorm(Gate):
    """Adds the mean and the norm, which targets can want local or global separately."""

    def __init__(self):
        super().__init__()
        self.norm = nn.InstanceNorm2d(3)

    def forward(self, x):
        return super().forward(x) + 0.03 * self.norm(x)


def photo(seed, size=(120, 136)):
    """Blobs of about 40 pixels: window means differ from one place to the next."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4, 4, generator=generator)
    smooth = nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=True)
    grain = 0.02 * torch.randn(1, 3, *size, generator=generator)
    pixels = (0.2 + 0.25 * smooth + grain)[0].permute(1, 2, 0).clamp(0, 1)
    return pixels.numpy().astype(np.float32)


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write(path, Image((pixels.clip(0, 1) * 65535).round().astype(np.uint16)))


def dataset_in(folder: Path):
    """Return a function that writes a paired set with the targets of a network, plus noise."""

    def make(teacher, count=3, size=(120, 136)):
        for seed in range(count):
            degraded = photo(seed, size)
            write(folder / f"degraded/{seed}.png", degraded)
            if teacher is not None:
                target = restore(teacher, degraded)
                noise = np.random.default_rng(seed).normal(0, 0.004, target.shape)
                write(folder / f"target/{seed}.png", target + noise)
        return folder

    return make

"""Shared by tests of evaluations: one written by hand, and a small network."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from glocal.images import image_files as images
from glocal.study.evaluation.records import DEGRADED, Evaluation, Failure, Protocol, Record

STITCHED = "crop-and-stitch 64/8 linear"
METHODS = {
    "full image": "the unconverted network on the whole image",
    STITCHED: "the unconverted network on tiles of 64×64 pixels that overlap by 8 or more and fade "
    "into each other there",
    "TLC 96": "the network on the whole image with windows of 96x96 (2 local)",
    "crops 64": "the network on the whole image with statistics from crops of 64x64 (2 local)",
}
PSNR = {
    DEGRADED: (23.0, 25.5, 21.25),
    "full image": (30.0, 31.5, 28.25),
    STITCHED: (30.25, 31.25, 28.75),
    "TLC 96": (30.5, 31.75, 28.5),
    "crops 64": (30.5, 31.5, 29.0),
}
SSIM = {
    DEGRADED: (0.7, 0.75, 0.65),
    "full image": (0.9, 0.92, 0.87),
    STITCHED: (0.905, 0.922, 0.875),
    "TLC 96": (0.91, 0.925, 0.875),
    "crops 64": (0.91, 0.92, 0.88),
}
SECONDS = {"full image": 0.5, STITCHED: 1.25, "TLC 96": 0.55, "crops 64": 1.05}
MEMORY = {"full image": 300.0, STITCHED: 40.0, "TLC 96": 310.0, "crops 64": 305.0}
NAMES = ("a", "b/2", '<c> & "d" | e_f')


def paired_set(folder: Path, height: int, width: int) -> Path:
    """Two pairs of images, dark on the left and bright on the right."""
    rng = np.random.default_rng(0)
    for kind in ("input", "target"):
        (folder / kind).mkdir(parents=True)
        for name in ("a", "b"):
            pixels = rng.integers(0, 100, (height, width, 3), np.uint8)
            pixels[:, width // 2 :] += 150
            images.write(folder / kind / f"{name}.png", images.Image(pixels))
    return folder


def constructed(*failures: Failure, targets: bool = True, network: str = "Net") -> Evaluation:
    """An evaluation of three images; one name has special characters of HTML and Markdown."""
    protocol = Protocol(
        network=network,
        weights_sha256="0123456789abcdef" * 4,
        train_size=(64, 64),
        methods=METHODS,
        plans={
            "TLC 96": "training size 64x64, window 96x96 (input pixels)\n2 local <ops>",
            "crops 64": "training size 64x64, crops at most 64x64 apart\n2 local <ops>",
        },
        conversion={"keep_global": [], "allow_global": False},
        metrics={"psnr": "PSNR in dB.", "ssim-3d": "SSIM over three axes."} if targets else {},
        round8=True,
        border=0,
        data="GoPro/test",
        image_count=3,
        data_sha256="f" * 64,
        device="cpu",
        dtype="float32",
        runtime="torch",
        machine="A processor",
        threads=2,
        versions={"glocal": "1.2.3", "torch": "4.5"},
    )
    records = tuple(
        Record(
            name,
            method,
            (720, 1280),
            {"psnr": PSNR[method][index], "ssim-3d": SSIM[method][index]} if targets else {},
            None if method == DEGRADED else SECONDS[method] + index / 100,
            None if method == DEGRADED else MEMORY[method] - index,
        )
        for index, name in enumerate(NAMES)
        for method in PSNR
        if targets or method != DEGRADED
    )
    return Evaluation(protocol, NAMES, records, failures)


class Gate(nn.Module):
    """A network with a global operation and fixed weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.into = nn.Conv2d(3, 4, 3, padding=1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1))
        self.out = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.into(x)
        return x + self.out(features * self.gate(features))

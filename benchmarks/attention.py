"""Transposed attention: local by cells against overlapping windows and against global.

    python benchmarks/attention.py

Ratios within one run: the variants take turns, the median of each is compared. The machine,
versions and threads are printed beside them.
"""

import argparse
from functools import partial

import torch
import torch.nn.functional as F
from timing import machine, medians

from glocal.ops import local_channel_attention, tile, untile

# (channels, heads, map, window): three levels of Restormer at 512x768, window 384
CASES = [
    (96, 2, (256, 384), 192),
    (48, 1, (512, 768), 384),
    (384, 8, (64, 96), 48),
]


def whole(q, k, v, temperature):
    """Attention over the whole map, (b, heads, c, h, w)."""
    flat = [t.flatten(3) for t in (q, k, v)]
    a, b = (F.normalize(t, dim=-1) for t in flat[:2])
    return ((a @ b.transpose(-2, -1) * temperature).softmax(-1) @ flat[2]).view_as(v)


def overlapping(q, k, v, temperature, window):
    """The same on overlapping windows that are cut out, stacked and averaged back."""
    parts = (tile(t.flatten(1, 2), window).unflatten(1, q.shape[1:3]) for t in (q, k, v))
    return untile(whole(*parts, temperature).flatten(1, 2), q.shape[-2:]).view_as(v)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(machine(arguments.threads, arguments.repeats), "\n")
    print("| channels, heads | map | window | batch | by cells ÷ global | windows ÷ global |")
    print("|---|---|---|---|---|---|")
    for channels, heads, size, window in CASES:
        for batch in (1, 2):
            shape = (batch, heads, channels // heads, *size)
            q, k, v = (torch.randn(shape) for _ in range(3))
            temperature = torch.ones(heads, 1, 1)
            square = (window, window)
            with torch.inference_mode():
                seconds = medians(
                    {
                        "global": partial(whole, q, k, v, temperature),
                        "cells": partial(local_channel_attention, q, k, v, temperature, square),
                        "windows": partial(overlapping, q, k, v, temperature, square),
                    },
                    arguments.repeats,
                )
            print(
                f"| {channels}, {heads} | {size[0]}×{size[1]} | {window} | {batch} "
                f"| {seconds['cells'] / seconds['global']:.2f} "
                f"| {seconds['windows'] / seconds['global']:.2f} |"
            )


if __name__ == "__main__":
    main()

"""Blocks that were rewritten against their twins that a rule converts, and conversion times.

    python benchmarks/rewriting.py

The same networks are converted twice: by the rules, and with no rule at all, so that every
global operation is captured and rewritten.
"""

import argparse
import time
from functools import partial

import torch
from timing import machine, medians
from torch import nn

import glocal
from glocal.networks.hinet import HINet
from glocal.networks.mprnet import CAB
from glocal.networks.nafnet import NAFBlock, NAFNet
from glocal.networks.restormer import Restormer, TransformerBlock

BLOCKS = {
    "NAFBlock, 64 channels (pool, gate)": lambda: (NAFBlock(64), 64),
    "CAB, 80 channels (pool, two convolutions)": lambda: (
        CAB(80, 3, 4, bias=False, act=nn.PReLU()),
        80,
    ),
    "InstanceNorm2d, 64 channels": lambda: (nn.InstanceNorm2d(64, affine=True), 64),
    "Restormer block, 48 channels (transposed attention)": lambda: (
        TransformerBlock(48, 1, 2.66, False, "WithBias"),
        48,
    ),
}
NETWORKS = {
    "NAFNet-w32, 36 blocks": partial(
        NAFNet, width=32, enc_blk_nums=[1, 1, 1, 28], middle_blk_num=1, dec_blk_nums=[1, 1, 1, 1]
    ),
    "HINet": HINet,
    "Restormer, 44 blocks": Restormer,
}


def seconds_to_convert(model: nn.Module, rules: tuple[glocal.Rule, ...]) -> float:
    started = time.perf_counter()
    glocal.localize(model, 256, rules=rules)  # raises if anything stays global
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", type=int, default=384, help="of the map that blocks run on")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(machine(arguments.threads, arguments.repeats), "\n")

    side = arguments.side
    print(f"Blocks on a map of {side}×{side}, window {side // 2}:\n")
    print("| block | by rule ÷ global | rewritten ÷ global | rewritten ÷ by rule |")
    print("|---|---|---|---|")
    for name, make in BLOCKS.items():
        torch.manual_seed(0)
        block, channels = make()
        block.eval()
        for parameter in block.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        x = torch.randn(1, channels, side, side)
        example = torch.zeros(1, channels, 64, 64)
        options = {"window": side // 2, "example": example}
        by_rule = glocal.localize(block, 64, **options)
        rewritten = glocal.localize(block, 64, rules=(), **options)
        with torch.inference_mode():
            assert torch.allclose(rewritten(x), by_rule(x), rtol=1e-3, atol=1e-4)
            seconds = medians(
                {
                    "global": partial(block, x),
                    "rule": partial(by_rule, x),
                    "rewritten": partial(rewritten, x),
                },
                arguments.repeats,
            )
        print(
            f"| {name} | {seconds['rule'] / seconds['global']:.2f} "
            f"| {seconds['rewritten'] / seconds['global']:.2f} "
            f"| {seconds['rewritten'] / seconds['rule']:.2f} |",
            flush=True,
        )

    print("\nSeconds to scan and convert a whole network, training size 256:\n")
    print("| network | by rules | rewritten |")
    print("|---|---|---|")
    for name, build in NETWORKS.items():
        model = build().eval()
        by_rules = seconds_to_convert(model, glocal.DEFAULT_RULES)
        print(f"| {name} | {by_rules:.1f} | {seconds_to_convert(model, ()):.1f} |", flush=True)


if __name__ == "__main__":
    main()

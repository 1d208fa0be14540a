"""Rewritten blocks against the same blocks converted by a rule, and conversion times.

The same networks are converted twice: by the rules, and without any rule, so that every global
operation is captured and rewritten. Windows cover half of the map. Conversion time includes the
scan, at a training size of 256, and no proof. The proof at the end of `localize` is compared with
one call of the original at the training size.
"""

from collections.abc import Callable, Mapping
from functools import partial
from statistics import median

import torch
from case import Case, Record, Settings
from inputs import noise
from models import awake, network
from tables import table, times
from timing import ratio, seconds_of, take_turns
from torch import nn

import glocal
from glocal.networks.mprnet import CAB
from glocal.networks.nafnet import NAFBlock
from glocal.networks.restormer import TransformerBlock

BLOCKS: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "NAFBlock, 64 channels (pool, gate)": (64, lambda: NAFBlock(64)),
    "CAB, 80 channels (pool, two convolutions)": (
        80,
        lambda: CAB(80, 3, 4, bias=False, act=nn.PReLU()),
    ),
    "InstanceNorm2d, 64 channels": (64, lambda: nn.InstanceNorm2d(64, affine=True)),
    "Restormer block, 48 channels (transposed attention)": (
        48,
        lambda: TransformerBlock(48, 1, 2.66, False, "WithBias"),
    ),
}
SIDE, QUICK_SIDE = 384, 24
NETWORKS = ["NAFNet-w32", "HINet", "Restormer"]
PROVEN = ["NAFNet-w32", "HINet", "MPRNet", "Restormer"]
TRAIN_SIZE = 256


def cases(settings: Settings) -> list[Case]:
    """Cases: blocks, then whole networks, then their proofs."""
    blocks = settings.pick(list(BLOCKS), [next(iter(BLOCKS))])
    found = [Case(name, 20, partial(measure_block, settings, name)) for name in blocks]
    if settings.device == "cpu":  # conversion runs on the CPU
        found += [
            Case(f"conversion of {name}", 20, partial(measure_conversion, settings, name))
            for name in settings.pick(NETWORKS, ["NAFNet-w4"])
        ]
        found += [
            Case(f"proof of {name}", 60, partial(measure_proof, settings, name))
            for name in settings.pick(PROVEN, ["NAFNet-w4"])
        ]
    return found


def measure_block(settings: Settings, name: str, earlier: Mapping[str, Record]) -> Record:
    """Measure a block: global, by rule, rewritten."""
    side = QUICK_SIDE if settings.quick else SIDE
    channels, make = BLOCKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = awake(make().eval()).to(settings.device)
    x = noise((1, channels, side, side), settings.device, "float32")
    example = torch.zeros(1, channels, 64, 64, device=settings.device)
    options = {"window": side // 2, "example": example}
    by_rule = glocal.localize(block, 64, **options)
    rewritten = glocal.localize(block, 64, rules=(), **options)
    with torch.inference_mode():
        assert torch.allclose(rewritten(x), by_rule(x), rtol=1e-3, atol=1e-4)
        calls = {"global": block, "rule": by_rule, "rewritten": rewritten}
        seconds = take_turns(
            {variant: partial(called, x) for variant, called in calls.items()},
            settings.repeats,
            device=settings.device,
        )
    return {"about": {"block": name, "side": side}, "seconds": seconds}


def measure_conversion(settings: Settings, name: str, earlier: Mapping[str, Record]) -> Record:
    """Measure the conversion of a network, once each."""
    train_size = QUICK_SIDE if settings.quick else TRAIN_SIZE
    convert = partial(partial, glocal.localize, train_size=train_size, verify=False)
    seconds = {
        way: [seconds_of(convert(network(name), rules=rules))]
        for way, rules in {"rule": glocal.DEFAULT_RULES, "rewritten": ()}.items()
    }
    return {"about": {"network": name, "train_size": train_size}, "seconds": seconds}


def measure_proof(settings: Settings, name: str, earlier: Mapping[str, Record]) -> Record:
    """Measure a conversion without and with its proof, and one call at the training size."""
    train_size = QUICK_SIDE if settings.quick else TRAIN_SIZE
    model = network(name)
    x = noise((1, 3, train_size, train_size), settings.device, "float32")
    with torch.inference_mode():
        model(x)
        call = min(seconds_of(partial(model, x)) for _ in range(3))
    convert = partial(glocal.localize, model, train_size)
    convert(verify=False)  # the first one imports and compiles
    seconds = {
        "unproven": [seconds_of(partial(convert, verify=False))],
        "proven": [seconds_of(convert)],
        "call": [call],
    }
    return {"about": {"proof of": name, "train_size": train_size}, "seconds": seconds}


def tables(records: Mapping[str, Record]) -> str:
    """One table of blocks, one of conversion times, one of proofs."""
    blocks = [r for r in records.values() if "block" in r["about"]]
    conversions = [r for r in records.values() if "network" in r["about"]]
    head = ["block", "map", "by rule ÷ global", "rewritten ÷ global", "rewritten ÷ by rule"]
    found = table(
        head,
        [
            [
                record["about"]["block"],
                f"{record['about']['side']}x{record['about']['side']}",
                times(ratio(record, "rule", "global")),
                times(ratio(record, "rewritten", "global")),
                times(ratio(record, "rewritten", "rule")),
            ]
            for record in blocks
        ],
    )
    if conversions:
        rows = [
            [record["about"]["network"], *(f"{median(s):.1f}" for s in record["seconds"].values())]
            for record in conversions
        ]
        found += f"\n\n{table(['converting', 'by rules, s', 'rewritten, s'], rows)}"
    proofs = [r for r in records.values() if "proof of" in r["about"]]
    if proofs:
        head = ["converting", "without proof, s", "with proof, s", "proof ÷ one call"]
        found += f"\n\n{table(head, [_proof_row(record) for record in proofs])}"
    return found


def _proof_row(record: Record) -> list[str]:
    unproven, proven, call = (median(record["seconds"][k]) for k in ("unproven", "proven", "call"))
    return [
        record["about"]["proof of"],
        f"{unproven:.1f}",
        f"{proven:.1f}",
        times((proven - unproven) / call),
    ]

"""Converted networks against slow, independent float64 references of the official semantics.

Parameters are random; inputs are a ramp plus noise, so that local statistics differ from the
global ones. Sizes are below, at and above the window, some of them odd; the batch is two.
`python tests/conversion/test_parity.py` prints the table of the README.
"""

import functools

import oracles
import pytest
import torch

import glocal
from glocal.networks import Baseline, HINet, MPRNet, NAFNet, Restormer

TOLERANCE = 1e-5  # relative to the largest value

CASES = {
    "NAFNet": (
        lambda: NAFNet(width=8, enc_blk_nums=[1, 1], middle_blk_num=1, dec_blk_nums=[1, 1]),
        oracles.nafnet_local,
    ),
    "Baseline": (
        lambda: Baseline(width=8, enc_blk_nums=[1, 1], middle_blk_num=1, dec_blk_nums=[1, 1]),
        oracles.baseline_local,
    ),
    "HINet": (
        lambda: HINet(wf=8, depth=3, hin_position_left=0, hin_position_right=2),
        oracles.hinet_local,
    ),
    "MPRNet": (
        lambda: MPRNet(n_feat=8, scale_unetfeats=4, scale_orsnetfeats=4, num_cab=1, reduction=2),
        oracles.mprnet_local,
    ),
    "Restormer": (
        lambda: Restormer(
            dim=8, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, heads=[1, 2, 2, 4]
        ),
        oracles.restormer_local,
    ),
}
TRAIN, WINDOW = 32, 48
SIZES = {
    "below the window": (40, 32),
    "at the window": (48, 48),
    "above on one axis": (40, 96),
    "above": (96, 136),
    "odd": (71, 93),
}


@functools.cache
def network(name):
    return oracles.randomise(CASES[name][0](), seed=1).eval()


def deviation(name, size):
    """Largest differences from the float64 reference, relative: of glocal, of global inference."""
    net, oracle = network(name).float(), CASES[name][1]
    x = oracles.ramp_noise(2, 3, *size, seed=2)
    local = glocal.localize(net, TRAIN, window=WINDOW, verify=False)
    with torch.no_grad():
        got = local(x.float()).double()
        wanted = oracle(net.state_dict(), x, TRAIN, WINDOW)
        whole = oracle(net.state_dict(), x)
    scale = wanted.abs().max()
    return float((got - wanted).abs().max() / scale), float((whole - wanted).abs().max() / scale)


# Only NAFNet's padding is the same in the official code at sizes that are no multiple of 8.
COMPARABLE = [
    (name, label)
    for name in CASES
    for label in SIZES
    if label != "odd" or name in ("NAFNet", "Baseline")
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "label"), COMPARABLE)
def test_converted_network_equals_the_reference(name, label):
    error, effect = deviation(name, SIZES[label])
    assert error <= TOLERANCE
    if label in ("below the window", "at the window"):
        assert effect < 1e-12
    else:
        assert effect > 100 * TOLERANCE, "the input does not tell local from global"


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "multiple"),
    [("HINet", 4), pytest.param("MPRNet", 8, marks=pytest.mark.long), ("Restormer", 8)],
)
def test_odd_sizes_are_padded_by_reflection_to_the_multiple(name, multiple):
    net, oracle = network(name).float(), CASES[name][1]
    x = oracles.ramp_noise(2, 3, *SIZES["odd"], seed=2)
    h, w = x.shape[-2:]
    padded = torch.nn.functional.pad(x, (0, -w % multiple, 0, -h % multiple), "reflect")
    with torch.no_grad():
        wanted = oracle(net.state_dict(), padded, TRAIN, WINDOW)[..., :h, :w]
        got = glocal.localize(net, TRAIN, window=WINDOW, verify=False)(x.float()).double()
    assert (got - wanted).abs().max() <= TOLERANCE * wanted.abs().max()


@pytest.mark.parametrize("size", [(48, 48), (31, 45), (16, 48)])
@pytest.mark.parametrize("name", CASES)
def test_law_of_equality(name, size):
    net = network(name).double()
    x = oracles.ramp_noise(2, 3, *size, seed=3)
    local = glocal.localize(net, TRAIN, window=WINDOW, verify=False)
    with torch.no_grad():
        got, wanted = local(x), net(x)
    if name == "Restormer":
        # Norms are divided out after the product, not before: equal up to rounding.
        assert (got - wanted).abs().max() <= 1e-12 * wanted.abs().max()
    else:
        assert torch.equal(got, wanted), "the same kernels run, so the same bits come out"


if __name__ == "__main__":
    print(f"train size {TRAIN}, window {WINDOW}, float32 against the float64 reference, batch 2\n")
    print("| network | " + " | ".join(f"{k} {v[0]}×{v[1]}" for k, v in SIZES.items()) + " |")
    print("|---|" + "---|" * len(SIZES))
    for name in CASES:
        cells = [
            f"{deviation(name, size)[0]:.1e}" if (name, label) in COMPARABLE else "–"
            for label, size in SIZES.items()
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")

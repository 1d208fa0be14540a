"""Metrics against other implementations and hand-worked values."""

import math
from typing import Any

import numpy as np
import pytest
from oracles import metrics as oracle
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio

from glocal.errors import ArgumentError
from glocal.metrics import METRICS, metric_named, psnr, psnr_y, ssim, ssim_3d, ssim_y

ORACLES = {
    "psnr": oracle.psnr,
    "psnr-y": lambda a, b: oracle.psnr(oracle.luma(a), oracle.luma(b)),
    "ssim": oracle.ssim,
    "ssim-3d": oracle.ssim_3d,
    "ssim-y": lambda a, b: oracle.ssim(oracle.luma(a), oracle.luma(b)),
}


def photograph():
    return astronaut()[:270, 100:350] / 255


def noisy(image, sigma=0.1):
    noise = np.random.default_rng(1).standard_normal(image.shape)
    return (image + sigma * noise).clip(0, 1)


def shifted(image):
    return 0.6 * image + 0.4 * np.roll(image, 3, axis=1)


# 270×250 and 131×240 need more than one tile along both axes or one.
PAIRS = {
    "noise on a photograph": lambda: (noisy(photograph()), photograph()),
    "blur": lambda: (shifted(photograph()), photograph()),
    "noise": lambda: tuple(np.random.default_rng(2).random((2, 131, 240, 3))),
    "constant": lambda: (np.full((30, 40, 3), 0.25), np.full((30, 40, 3), 0.75)),
    "noise on a constant": lambda: (noisy(np.full((30, 40, 3), 0.5)), np.full((30, 40, 3), 0.5)),
    "grey": lambda: (noisy(photograph()[..., :1]), photograph()[..., :1]),
    "one window": lambda: (noisy(photograph()[:11, :11]), photograph()[:11, :11]),
    "one tile and a row": lambda: (noisy(photograph()[:129, :128]), photograph()[:129, :128]),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", METRICS)
def test_metrics_equal_the_oracles(name, pair):
    restored, target = PAIRS[pair]()
    got, wanted = METRICS[name].function(restored, target), ORACLES[name](restored, target)
    # scikit-image adds the three products of luma in another order
    assert got == pytest.approx(wanted, abs=1e-11)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_equals_the_definition(channels):
    image = photograph()[60:80, 60:85, :channels]
    got, wanted = ssim(noisy(image), image), oracle.ssim_window_by_window(noisy(image), image)
    assert got == pytest.approx(wanted, abs=1e-11)


@pytest.mark.parametrize("name", METRICS)
def test_identical_images(name):
    best = METRICS[name].function(photograph(), photograph())
    assert best == math.inf if name.startswith("psnr") else best == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_less_noise_is_better(name):
    metric = METRICS[name]
    little, much = (metric.function(noisy(photograph(), s), photograph()) for s in (0.02, 0.2))
    assert (little > much) == metric.higher_is_better


def test_the_protocols_of_ssim_differ():
    photo = photograph()
    values = [f(noisy(photo), photo) for f in (ssim, ssim_3d, ssim_y)]
    assert max(values) - min(values) > 0.05
    assert values[1] > values[0]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_psnr_equals_scikit_image(dtype):
    rng = np.random.default_rng(0)
    if dtype == "float32":
        a, b = (rng.random((9, 11, 3)).astype(dtype) for _ in range(2))
    else:
        a, b = (rng.integers(0, np.iinfo(dtype).max, (9, 11, 3)).astype(dtype) for _ in range(2))
    peak = 1 if dtype == "float32" else np.iinfo(dtype).max
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=peak), abs=1e-6)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_integers_are_scaled_to_data_range_1(name, dtype):
    peak = np.iinfo(dtype).max
    pair = [np.rint(image * peak).astype(dtype) for image in PAIRS["noise on a photograph"]()]
    function = METRICS[name].function
    assert function(*pair) == pytest.approx(function(*(image / peak for image in pair)), abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_rounding_to_8_bits(name):
    photo = photograph()
    restored = photo + 0.2 * np.random.default_rng(1).standard_normal(photo.shape)  # overshoots
    target = photo.clip(0.1, 0.9) * 0.99
    eight = [np.rint(image.clip(0, 1) * 255).astype(np.uint8) for image in (restored, target)]
    function = METRICS[name].function
    rounded = function(restored, target, round8=True)
    assert rounded == function(*eight, round8=True)
    assert rounded != function(restored, target)
    if not name.endswith("-y"):
        assert rounded == pytest.approx(function(*eight), abs=1e-12)


def test_rounded_luma_equals_matlab():
    # rgb2ycbcr of uint8 (0, 0, 0), (255, 255, 255), (10, 200, 30), (11, 200, 30): Y is uint8 too
    pixels = np.array([[[0, 0, 0], [255, 255, 255], [10, 200, 30], [11, 200, 30]]], np.uint8)
    luma = np.array([[16, 235, 122, 123]]) / 255
    for column in range(4):
        got = psnr_y(pixels[:, :1], pixels[:, column : column + 1], round8=True)
        error = (luma[0, 0] - luma[0, column]) ** 2
        assert got == (pytest.approx(-10 * math.log10(error)) if error else math.inf)


@pytest.mark.parametrize("name", METRICS)
def test_a_border_is_cropped_first(name):
    restored, target = PAIRS["noise on a photograph"]()
    inside = restored[4:-4, 4:-4], target[4:-4, 4:-4]
    function = METRICS[name].function
    assert function(restored, target, border=4) == pytest.approx(function(*inside), abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_two_dimensions_are_one_channel(name):
    restored, target = PAIRS["grey"]()
    function = METRICS[name].function
    assert function(restored[..., 0], target[..., 0]) == function(restored, target)


@pytest.mark.parametrize("name", METRICS)
def test_images_are_not_changed(name):
    restored, target = PAIRS["one window"]()
    copies = restored.copy(), target.copy()
    METRICS[name].function(restored, target, round8=True)
    np.testing.assert_array_equal(restored, copies[0])
    np.testing.assert_array_equal(target, copies[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: psnr(np.zeros((2, 2)), np.zeros((2, 3))),
            r"got \(2, 2\) float64 and \(2, 3\) float64",
        ),
        (lambda: ssim_3d(np.zeros((2, 2)), np.zeros((2, 2), np.uint8)), "float64 and .* uint8"),
        (lambda: psnr(np.zeros(4), np.zeros(4)), r"takes \(h, w\) or \(h, w, c\)"),
        (lambda: psnr(np.zeros((2, 2), int), np.zeros((2, 2), int)), "floats in .* int64"),
        (lambda: ssim(np.zeros((10, 20)), np.zeros((10, 20))), "at least 11×11 .* image of 10×20"),
        (lambda: ssim_y(*np.zeros((2, 20, 20)), border=5), "and a border of 5"),
        (lambda: psnr(*np.zeros((2, 20, 20)), border=-1), "and a border of -1"),
        (lambda: psnr(*np.zeros((2, 4, 4, 4))), r"got 4 channels, .* pass image\[..., :3\]"),
        (lambda: psnr_y(*np.zeros((2, 4, 4, 2))), "got 2 channels, the last probably alpha"),
        (lambda: psnr(np.zeros((4, 4, 3)), np.zeros((4, 4, 4))), "got 4 channels"),
        (lambda: ssim_y(*np.zeros((2, 20, 20, 6))), "grey or colour images, got 6 channels"),
        (lambda: psnr(*np.full((2, 4, 4), 255.0)), "the target has values up to 255; scale floats"),
    ],
)
def test_images_that_cannot_be_compared(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_metrics_by_name():
    assert list(METRICS) == ["psnr", "psnr-y", "ssim-3d", "ssim", "ssim-y"]
    assert all(metric.name == name and metric.protocol for name, metric in METRICS.items())
    with pytest.raises(ArgumentError, match=r"called 'lpips'; choose from psnr, psnr-y, ssim-3d"):
        metric_named("lpips")


@pytest.mark.parametrize("name", METRICS)
def test_rounding_bounds_what_float32_changes(name):
    photo = photograph().astype(np.float32)
    restored = noisy(photo, 0.03).astype(np.float32)
    again = restored + np.float32(1e-6) * np.random.default_rng(3).choice([-1, 1], photo.shape)
    metric = METRICS[name]
    values = [
        metric.function(each.astype(np.float32), photo, round8=True) for each in (restored, again)
    ]
    assert 0 < metric.rounding < 5e-3
    assert abs(values[0] - values[1]) <= metric.rounding


@pytest.mark.parametrize(
    ("restored", "target", "said"),
    [
        ([1], [1], "compares NumPy arrays, got a list"),
        (np.zeros((3, 20, 30)), np.zeros((3, 20, 30)), r"pass image.transpose\(1, 2, 0\)"),
        (np.full((20, 30), 200.0), np.ones((20, 30)), "restored image has values up to 200"),
    ],
)
def test_images_that_would_be_misread_are_refused(restored: Any, target: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        psnr(restored, target)

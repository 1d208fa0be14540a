"""Pixels of pairs, and targets that differ from their images."""

from pathlib import Path

import numpy as np
import pytest
from versions import skip_unless_written

from glocal.data.datasets import pairs
from glocal.data.pairing import Pair
from glocal.data.pixels import ALPHA, CROPPED, GREY_DEGRADED, GREY_TARGET, matched, read_pair
from glocal.errors import ArgumentError
from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.images.limits import WRITTEN


def picture(path: Path, height: int = 6, width: int = 8, channels: int = 3, bits: int = 8) -> Path:
    dtype = np.uint8 if bits == 8 else np.uint16
    rng = np.random.default_rng(len(path.name))
    samples = rng.integers(0, 2**bits, (height, width, channels)).astype(dtype)
    images.write(path, Image(samples))
    return path


@pytest.mark.parametrize(("bits", "peak"), [(8, 255), (16, 65535)])
def test_pixels_are_floats(bits, peak, tmp_path):
    lq, gt = picture(tmp_path / "lq.png", bits=bits), picture(tmp_path / "target.png", bits=bits)
    degraded, target, _ = read_pair(Pair("a", lq, gt))
    for pixels, path in ((degraded, lq), (target, gt)):
        assert pixels.dtype == np.float32
        np.testing.assert_allclose(pixels, images.read(path).pixels / peak, atol=1e-7)
    assert read_pair(Pair("a", lq, None))[1] is None


def test_noise_is_that_of_the_published_results(tmp_path):
    path = picture(tmp_path / "clean.png")
    degraded, target, _ = read_pair(Pair("clean", path, path, noise_sigma=25))
    np.random.seed(0)  # as the authors' scripts do for every image
    expected = images.read(path).pixels / 255 + np.random.normal(0, 25 / 255, (6, 8, 3))
    np.testing.assert_allclose(degraded, expected, atol=1e-6)
    np.testing.assert_allclose(target, images.read(path).pixels / 255, atol=1e-7)


def test_reading_leaves_the_global_generator_alone(tmp_path):
    path = picture(tmp_path / "clean.png")
    np.random.seed(5)
    first = np.random.random()
    np.random.seed(5)
    read_pair(Pair("clean", path, path, noise_sigma=25))
    assert np.random.random() == first


def test_larger_targets_are_cropped_where_the_data_set_says_so(tmp_path):
    hazy, clear = picture(tmp_path / "hazy.png"), picture(tmp_path / "clear.png", 10, 12)
    _, target, _ = read_pair(Pair("a", hazy, clear, centre_crop=True))
    np.testing.assert_allclose(target, images.read(clear).pixels[2:8, 2:10] / 255, atol=1e-7)
    with pytest.raises(
        ArgumentError, match=r"is 6×8 with 3 channels, but its target .* 10×12 with 3"
    ):
        read_pair(Pair("a", hazy, clear))


def test_targets_of_super_resolution_are_larger_by_a_factor(tmp_path):
    small, large = picture(tmp_path / "small.png"), picture(tmp_path / "large.png", 12, 16)
    degraded, target, _ = read_pair(Pair("a", small, large))
    assert (degraded.shape, target.shape) == ((6, 8, 3), (12, 16, 3))
    for height, width in ((12, 8), (3, 4), (6, 4)):
        with pytest.raises(ArgumentError, match=f"its target .* {height}×{width}"):
            read_pair(Pair("a", small, picture(tmp_path / "odd.png", height, width)))


def test_two_views_lie_along_the_channels(tmp_path):
    left, right = picture(tmp_path / "l.png"), picture(tmp_path / "right.png")
    degraded, *_ = read_pair(Pair("a", left, left, second=right))
    expected = np.concatenate([images.read(left).pixels, images.read(right).pixels], axis=2)
    np.testing.assert_allclose(degraded, expected / 255, atol=1e-7)
    with pytest.raises(ArgumentError, match=r"second view .* is 5×8"):
        read_pair(Pair("a", left, left, second=picture(tmp_path / "s.png", 5)))


@pytest.mark.parametrize(
    ("size", "target", "cropped"),
    [
        ((24, 32), (97, 130), (96, 128)),
        ((24, 32), (99, 131), (96, 128)),
        ((5, 7), (11, 14), (10, 14)),
        ((24, 32), (96, 128), (96, 128)),
    ],
)
def test_targets_are_cropped_to_a_multiple_of_the_scale(size, target, cropped):
    whole = np.random.default_rng(0).random((*target, 3), np.float32)
    found = matched(np.zeros((*size, 3), np.float32), whole)
    np.testing.assert_array_equal(found.target, whole[: cropped[0], : cropped[1]])
    assert found.notes == ((CROPPED,) if target != cropped else ())


@pytest.mark.parametrize("target", [(100, 128), (96, 132), (95, 128), (24, 33), (48, 128)])
def test_other_sizes_are_no_scale(target, tmp_path):
    small = picture(tmp_path / "small.png", 24, 32)
    with pytest.raises(ArgumentError, match="24×32 with 3 channels, but its target"):
        read_pair(Pair("a", small, picture(tmp_path / "large.png", *target)))


@pytest.mark.parametrize("grey", ["degraded", "target"])
def test_grey_beside_colour_is_repeated(grey, tmp_path):
    channels = {"degraded": 3, "target": 3, grey: 1}
    files = [
        picture(tmp_path / f"{name}.png", channels=channels[name])
        for name in ("degraded", "target")
    ]
    found = read_pair(Pair("a", *files))
    for path, pixels in zip(files, found[:2], strict=True):
        expected = np.broadcast_to(images.read(path).pixels / 255, (6, 8, 3))
        np.testing.assert_allclose(pixels, expected, atol=1e-7)
    assert found.notes == ({"degraded": GREY_DEGRADED, "target": GREY_TARGET}[grey],)


def test_two_grey_images_stay_grey(tmp_path):
    files = [picture(tmp_path / f"{name}.png", channels=1) for name in "ab"]
    found = read_pair(Pair("a", *files))
    assert (found.degraded.shape, found.target.shape, found.notes) == ((6, 8, 1), (6, 8, 1), ())


@pytest.mark.parametrize(("opacity", "notes"), [(255, ()), (128, (ALPHA,))])
def test_alpha_is_left_out(opacity, notes, tmp_path):
    path = picture(tmp_path / "rgb.png")
    alpha = np.full((6, 8), opacity, np.uint8)
    images.write(tmp_path / "rgba.png", Image(images.read(path).pixels, alpha))
    found = read_pair(Pair("a", path, tmp_path / "rgba.png"))
    np.testing.assert_array_equal(found.degraded, found.target)
    assert found.notes == notes


@pytest.mark.parametrize("suffix", WRITTEN)
def test_every_format_is_paired_and_read(suffix, tmp_path):
    skip_unless_written(suffix)
    for name in ("input", "target"):
        (tmp_path / name).mkdir()
        picture(tmp_path / name / f"a{suffix.upper()}")
    (pair,) = pairs(tmp_path)
    assert read_pair(pair).target.shape == (6, 8, 3)
    assert pairs(tmp_path, "input/{}:target/{}") == [pair]

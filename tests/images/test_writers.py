"""Formats that are written: exactly, or with a note."""

import numpy as np
import pytest
from profiles import exif_block, profile_of

from glocal.images import image_files as images
from glocal.images.icc import linear_profile, srgb_decoded
from glocal.images.image_files import Image
from glocal.images.limits import FORMATS

rng = np.random.default_rng(0)
FLOATS = (rng.random((9, 14, 3)) * 5 - 1).astype(np.float32)


@pytest.mark.parametrize("suffix", [".tif", ".jxl", ".exr"])
@pytest.mark.parametrize("channels", [1, 3])
def test_floats_above_white_are_kept_exactly(suffix: str, channels: int) -> None:
    need(suffix)
    icc = linear_profile(channels) if suffix == ".exr" else None
    image = Image(FLOATS[..., :channels].copy(), icc=icc)
    data, notes = images.encode(image, suffix)
    back = images.decode(data)
    np.testing.assert_array_equal(back.pixels, image.pixels)
    assert notes == ()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif"])
def test_floats_are_clipped_where_the_format_has_none_and_it_is_said(suffix: str) -> None:
    data, notes = images.encode(Image(FLOATS), suffix)
    assert notes[0].startswith("floating-point samples were clipped to 0…1 and rounded to")
    if suffix == ".png":
        wanted = np.rint(np.clip(FLOATS.astype(float), 0, 1) * 65535)
        assert np.abs(images.decode(data).pixels - wanted).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_jpeg_xl_is_exact(dtype: type, channels: int, with_alpha: bool) -> None:
    need(".jxl")
    samples = rng.integers(0, np.iinfo(dtype).max, (9, 14, channels + 1), dtype)
    image = Image(samples[..., :channels].copy(), samples[..., -1].copy() if with_alpha else None)
    back = images.decode(images.encode(image, ".jxl")[0])
    np.testing.assert_array_equal(back.pixels, image.pixels)
    assert with_alpha == (back.alpha is not None)
    if with_alpha:
        np.testing.assert_array_equal(back.alpha, image.alpha)


def test_openexr_holds_linear_light() -> None:
    need(".exr")
    samples = rng.integers(0, 256, (9, 14, 3), np.uint8)
    back = images.decode(images.encode(Image(samples), ".exr")[0])
    np.testing.assert_allclose(back.pixels, srgb_decoded(samples / 255), atol=1e-6)
    seen = back.colours.seen(back.pixels)
    np.testing.assert_allclose(seen * 255, samples, atol=0.05)


@pytest.mark.parametrize("suffix", [".jxl", ".exr"])
def test_colours_are_converted_where_the_format_has_no_profile(suffix: str) -> None:
    need(suffix)
    image = Image(np.full((4, 4, 3), [40000, 41000, 39000], np.uint16), icc=profile_of("p3"))
    data, notes = images.encode(image, suffix)
    assert notes == (
        f"{FORMATS[suffix].name} files hold no colour profile: colours were converted",
    )
    back = images.decode(data)
    wanted = image.colours.seen(image.pixels)
    np.testing.assert_allclose(back.colours.seen(back.pixels) / peak(back), wanted, atol=1e-4)


def peak(image: Image) -> int:
    return 65535 if image.pixels.dtype == np.uint16 else 1


def test_webp_stays_lossless() -> None:
    samples = rng.integers(0, 256, (9, 14, 3), np.uint8)
    alpha = rng.integers(0, 256, (9, 14), np.uint8)
    data, _ = images.encode(Image(samples, alpha, lossless=True), ".webp")
    seen = images.decode(data)
    assert seen.lossless
    again = images.decode(images.encode(seen, ".webp")[0])
    np.testing.assert_array_equal(again.pixels, samples)
    np.testing.assert_array_equal(again.alpha, alpha)
    assert not images.decode(images.encode(Image(samples), ".webp")[0]).lossless


@pytest.mark.parametrize(("bits", "error"), [(8, 16), (16, 16 * 257)])
def test_avif_is_close(bits: int, error: int) -> None:
    rows = np.linspace(0, 2**bits - 1, 32).repeat(32).reshape(32, 32, 1)
    samples = rows.repeat(3, 2).astype(np.uint8 if bits == 8 else np.uint16)
    back = images.decode(images.encode(Image(samples), ".avif")[0])
    assert back.bits == bits
    assert np.abs(back.pixels.astype(int) - samples).max() < error


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_metadata_is_made_up(suffix: str) -> None:
    need(suffix)
    data, notes = images.encode(Image(np.zeros((9, 14, 3), np.uint8)), suffix)
    seen = images.decode(data)
    assert (seen.exif, seen.xmp, seen.iptc, seen.texts, notes) == (None, None, None, (), ())


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".jxl"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_copied_byte_for_byte(suffix: str, order: str) -> None:
    need(suffix)
    image = Image(np.zeros((40, 60, 3), np.uint8), exif=exif_block(order))
    block = images.decode(images.encode(image, suffix)[0]).exif
    assert block is not None
    wanted = images.decode(images.encode(image, ".png")[0]).exif
    assert block.removeprefix(b"Exif\0\0").rstrip(b"\0") == wanted.rstrip(b"\0")
    assert wanted != exif_block(order)  # upright


def need(suffix: str) -> None:
    """Skip without the library that a format needs."""
    pytest.importorskip({".jxl": "imagecodecs", ".exr": "OpenEXR"}.get(suffix, "numpy"))

"""Files of unusual form: read, or refused with the true reason."""

import io
import struct
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import pyvips

from glocal.errors import ImageError
from glocal.images import image_files as images
from glocal.images.formats import loaders
from glocal.images.image_files import Image
from glocal.images.kinds import KINDS

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")

rng = np.random.default_rng(0)
COLOUR = rng.integers(0, 256, (12, 20, 3), np.uint8)


def tiff(samples: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **{"photometric": "rgb", **options})
    return file.getvalue()


@pytest.mark.parametrize("compression", ["zstd", "lzma", "jpegxl", "lerc"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_compressions_that_libvips_lacks_are_read(compression: str, dtype: type) -> None:
    samples = rng.integers(0, np.iinfo(dtype).max, (12, 20, 3), dtype)
    seen = images.decode(tiff(samples, compression=compression, metadata=None, software=""))
    np.testing.assert_array_equal(seen.pixels, samples)
    assert (seen.exif, seen.notes) == (None, ())


def test_tiles_of_separate_planes_are_read() -> None:
    samples = rng.integers(0, 65535, (3, 32, 48), np.uint16)
    data = tiff(samples, planarconfig="separate", tile=(16, 16))
    np.testing.assert_array_equal(images.decode(data).pixels, samples.transpose(1, 2, 0))


@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
def test_float64_is_rounded_to_float32_and_said(photometric: str) -> None:
    shape = (12, 20, 3) if photometric == "rgb" else (12, 20)
    samples = rng.random(shape) * 3
    seen = images.decode(tiff(samples, photometric=photometric))
    np.testing.assert_array_equal(seen.pixels.squeeze(), samples.astype(np.float32))
    assert seen.notes == ("64-bit floating-point samples were rounded to 32 bits",)


def test_cielab_becomes_srgb_and_is_said() -> None:
    lab = np.zeros((4, 4, 3), np.uint8)
    lab[..., 0] = 255
    seen = images.decode(tiff(lab, photometric="cielab"))
    assert seen.pixels.min() == 65535
    assert seen.notes == ("CIELAB was converted to 16-bit sRGB",)


@pytest.mark.parametrize("dtype", [np.uint64, np.int64])
def test_other_samples_are_refused_by_their_name(dtype: type) -> None:
    with pytest.raises(ImageError, match=f"samples of {dtype.__name__}"):
        images.decode(tiff(np.ones((4, 4, 3), dtype)))


def test_an_orientation_of_0_is_none() -> None:
    data = tiff(COLOUR, extratags=[(274, "H", 1, 0, True)])
    np.testing.assert_array_equal(images.decode(data).pixels, COLOUR)


@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_samples_beyond_the_end_are_damage(tile: tuple[int, int] | None) -> None:
    data = tiff(rng.integers(0, 65535, (64, 64, 3), np.uint16), tile=tile)
    with pytest.raises(ImageError, match="damaged or cut short"):
        images.decode(data[:-100])


def test_frames_of_png_and_gif_are_refused() -> None:
    frames = [PIL.Image.fromarray(COLOUR), PIL.Image.fromarray(COLOUR[::-1].copy())]
    for kind in ("PNG", "GIF"):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        with pytest.raises(ImageError, match="has 2 pages or frames"):
            images.decode(file.getvalue())


def test_a_gif_of_one_frame_is_read() -> None:
    palette = PIL.Image.fromarray(COLOUR).quantize(8)
    file = io.BytesIO()
    palette.save(file, "GIF")
    seen = images.decode(file.getvalue())
    np.testing.assert_array_equal(seen.pixels, np.asarray(palette.convert("RGB")))


def test_a_dng_is_developed_and_not_damaged(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    mosaic = np.full((32, 48), 20000, np.uint16)
    tags = [
        (50706, "B", 4, (1, 4, 0, 0), True),
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, (0, 1, 1, 2), True),
        (271, "s", 0, "ACME", True),
    ]
    path = tmp_path / "a.dng"
    path.write_bytes(tiff(mosaic, photometric=32803, extratags=tags))
    seen = images.read(path)
    assert seen.pixels.dtype == np.uint16
    np.testing.assert_allclose(seen.pixels[8:-8, 8:-8], 20000, rtol=0.01)
    assert seen.notes[0] == "RAW samples were developed to linear 16-bit sRGB"
    assert b"ACME" in (seen.exif or b"")
    linear = images.Image(seen.pixels).colours
    assert linear.are_plain
    np.testing.assert_allclose(seen.colours.seen(seen.pixels)[16, 24], 0.588, atol=0.01)


def test_heic_is_read_with_its_metadata() -> None:
    heif = pytest.importorskip("pillow_heif")
    flat = np.full((64, 64, 3), 90, np.uint8)
    tags = PIL.Image.Exif()
    tags[0x010F] = "ACME"
    file = io.BytesIO()
    heif.from_bytes("RGB", (64, 64), flat.tobytes()).save(file, exif=tags.tobytes(), quality=95)
    seen = images.decode(file.getvalue())
    assert np.abs(seen.pixels.astype(int) - flat).max() <= 2
    assert b"ACME" in (seen.exif or b"")


def test_ten_bits_of_heic_fill_sixteen() -> None:
    heif = pytest.importorskip("pillow_heif")
    white = np.full((64, 64, 3), 65535, np.uint16)
    file = io.BytesIO()
    heif.from_bytes("RGB;16", (64, 64), white.tobytes()).save(file, quality=-1)
    seen = images.decode(file.getvalue())
    assert seen.pixels.dtype == np.uint16
    assert seen.pixels.min() > 65000


@pytest.mark.parametrize("level", [8, 16])
def test_jpeg_2000_keeps_its_bits(level: int) -> None:
    import imagecodecs

    samples = rng.integers(0, 2**level, (12, 20, 3)).astype(np.uint8 if level == 8 else np.uint16)
    data = imagecodecs.jpeg2k_encode(samples, level=0, reversible=True)
    np.testing.assert_array_equal(images.decode(bytes(data)).pixels, samples)


def test_bmp_is_read() -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(COLOUR).save(file, "BMP")
    np.testing.assert_array_equal(images.decode(file.getvalue()).pixels, COLOUR)


@pytest.mark.parametrize(
    ("data", "pixels"),
    [
        (b"P6 2 1 255\n\x01\x02\x03\x04\x05\x06", [[[1, 2, 3], [4, 5, 6]]]),
        (b"P5\n# a comment\n2 1\n65535\n\x01\x02\xff\xfe", [[[258], [65534]]]),
        (b"P5 2 1 15\n\x00\x0f", [[[0], [255]]]),
        (b"P2 2 1 255\n7 200", [[[7], [200]]]),
        (b"P3 1 1 255\n1 2 3", [[[1, 2, 3]]]),
        (b"P1 2 1\n1 0", [[[0], [255]]]),
        (b"P4 2 1\n\x80", [[[0], [255]]]),
    ],
)
def test_ppm_is_read(data: bytes, pixels: list) -> None:
    np.testing.assert_array_equal(images.decode(data).pixels, pixels)


def test_pfm_is_linear_light_from_the_bottom() -> None:
    data = b"Pf 1 2 -1.0\n" + struct.pack("<2f", 0.25, 4.0)
    seen = images.decode(data)
    np.testing.assert_array_equal(seen.pixels, [[[4.0]], [[0.25]]])
    assert seen.icc is not None


@pytest.mark.parametrize(
    "data", [b"P6 2 1 255\n\x01", b"P5 2 1 15\n\x00\xff", b"P6 2", b"P6 2 1 0\n"]
)
def test_damaged_ppm_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        images.decode(data)


@pytest.mark.parametrize("kind", ["heic", "raw", "jxl", "jp2", "exr", "bmp"])
def test_damage_is_said_of_other_libraries(kind: str) -> None:
    if not loaders()[kind][0]:
        pytest.skip(f"{KINDS[kind].library} is not installed")
    with pytest.raises(ImageError) as caught:
        images.decode(KINDS[kind].magic[0].replace(b"?", b"\0") + bytes(100))
    assert "\n" not in str(caught.value)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "OpenEXR", None)
    with pytest.raises(ImageError, match=r'OpenEXR: pip install "glocal\[formats\]"'):
        images.encode(Image(COLOUR), ".exr")
    assert loaders()["exr"] == (False, False)


def test_errors_of_other_files_are_not_told(tmp_path: Path) -> None:
    data, _ = images.encode(Image(rng.integers(0, 256, (64, 64, 3), np.uint8)), ".jpg")
    with pytest.raises(ImageError):
        images.decode(data[:800])
    pyvips.Image.new_from_array(COLOUR)
    surplus = data[:-2] + b"\0\0\0\0" + data[-2:]
    assert images.decode(surplus).size == (64, 64)

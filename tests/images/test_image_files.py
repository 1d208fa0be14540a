"""Reading and writing image files.

More than 300 lines: tests mirror the modules, one file for each.
"""

import io
import struct
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import pyvips

from glocal.errors import ImageError
from glocal.images import image_files as images
from glocal.images import writers
from glocal.images.image_files import Image

EXACT = (".png", ".tif", ".tiff")
LOSSY = (".jpg", ".jpeg", ".webp")


def smooth(channels: int, dtype: type = np.uint8, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    rows, columns = np.meshgrid(*(np.linspace(0, 1, n) for n in size), indexing="ij")
    planes = [rows, columns, (rows + columns) / 2][:channels]
    return np.rint(np.stack(planes, -1) * np.iinfo(dtype).max).astype(dtype)


def profile() -> bytes:
    vips = pyvips.Image.black(4, 4, bands=3).copy(interpretation="srgb")
    return bytes(vips.icc_transform("p3", input_profile="srgb").get("icc-profile-data"))


def exif(orientation: int = 1) -> bytes:
    tags = PIL.Image.Exif()
    tags[0x0112] = orientation
    tags[0x010F] = "Maker"
    tags.get_ifd(0x8769)[0x8827] = 400
    tags.get_ifd(0x8769)[0x927C] = bytes(range(256)) * 3
    tags.get_ifd(0x8825)[2] = (52.0, 30.0, 1.25)
    return tags.tobytes()


def pillow(image: PIL.Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", EXACT)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_lossless_round_trip(
    tmp_path: Path, suffix: str, dtype: type, channels: int, with_alpha: bool
) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (19, 23, channels), dtype)
    alpha = smooth(1, dtype, (19, 23))[..., 0] if with_alpha else None
    path = tmp_path / f"image{suffix}"
    assert images.write(path, Image(pixels, alpha)) == ()
    back = images.read(path)
    assert back.pixels.dtype == dtype
    assert back.bits == np.iinfo(dtype).bits
    assert back.size == (19, 23)
    np.testing.assert_array_equal(back.pixels, pixels)
    if with_alpha:
        np.testing.assert_array_equal(back.alpha, alpha)
    else:
        assert back.alpha is None


@pytest.mark.parametrize("suffix", LOSSY)
def test_lossy_round_trip_is_close(tmp_path: Path, suffix: str) -> None:
    pixels = smooth(3)
    images.write(tmp_path / f"image{suffix}", Image(pixels))
    back = images.read(tmp_path / f"image{suffix}").pixels
    assert np.abs(back.astype(int) - pixels).mean() < 2


def test_jpeg_keeps_full_colour_resolution() -> None:
    data, _ = images.encode(Image(smooth(3)), ".jpg")
    assert pyvips.Image.new_from_buffer(data, "").get("jpeg-chroma-subsample") == "4:4:4"


def test_jpeg_quality_is_adjustable() -> None:
    noise = Image(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    low, _ = images.encode(noise, ".jpg", quality=30)
    high, _ = images.encode(noise, ".jpg")
    assert len(low) < len(high) / 2


def test_grey_jpeg_stays_grey() -> None:
    data, _ = images.encode(Image(smooth(1)), ".jpg")
    assert images.decode(data).pixels.shape == (40, 60, 1)


def test_webp_keeps_alpha_exactly() -> None:
    alpha = smooth(1)[..., 0]
    data, notes = images.encode(Image(smooth(3), alpha), ".webp")
    assert notes == ()
    np.testing.assert_array_equal(images.decode(data).alpha, alpha)


def test_sixteen_bits_are_rounded_and_said_so() -> None:
    levels = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64, 1)
    _, notes = images.encode(Image(levels), ".jpg")
    assert notes == ("16-bit samples were rounded to 8 bits for .jpg",)
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    rounded = writers._to_8_bits(pyvips.Image.new_from_array(every)).numpy()
    np.testing.assert_array_equal(rounded, np.rint(every[..., 0] / 257))


def test_jpeg_lays_alpha_on_white_and_says_so() -> None:
    alpha = np.zeros((16, 16), np.uint8)
    data, notes = images.encode(Image(np.zeros((16, 16, 3), np.uint8), alpha), ".jpg")
    assert notes == ("JPEG has no alpha: the image was composited on white",)
    assert images.decode(data).pixels.min() == 255


@pytest.mark.parametrize("suffix", [*EXACT, *LOSSY])
def test_icc_profile_is_kept(suffix: str) -> None:
    data, _ = images.encode(Image(smooth(3), icc=profile()), suffix)
    assert images.decode(data).icc == profile()


def test_xmp_iptc_and_density_are_kept() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'
    iptc = b"Photoshop 3.0\0008BIM\x04\x04\0\0\0\0\0\x0a\x1c\x02\x78\0\x05hello"
    image = Image(smooth(3), xmp=xmp, iptc=iptc, density=(300 / 25.4, 300 / 25.4))
    data, _ = images.encode(image, ".jpg")
    back = images.decode(data)
    assert back.xmp == xmp
    assert back.iptc == iptc
    assert back.density == pytest.approx((300 / 25.4, 300 / 25.4))


@pytest.mark.parametrize("suffix", [".png", *LOSSY])
def test_exif_is_kept(suffix: str) -> None:
    data, notes = images.encode(Image(smooth(3), exif=exif()), suffix)
    tags = PIL.Image.open(io.BytesIO(data)).getexif()
    assert notes == ()
    assert tags[0x010F] == "Maker"
    assert tags.get_ifd(0x8769)[0x8827] == 400
    assert tags.get_ifd(0x8769)[0x927C] == bytes(range(256)) * 3
    assert tags.get_ifd(0x8825)[2] == (52.0, 30.0, 1.25)


@pytest.mark.parametrize("suffix", [*EXACT, *LOSSY])
def test_no_exif_is_made_up(suffix: str) -> None:
    data, _ = images.encode(Image(smooth(3)), suffix)
    assert images.decode(data).exif is None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_orientation_is_applied_once(orientation: int, kind: str) -> None:
    stored = PIL.Image.fromarray(smooth(3, size=(20, 30)))
    tags = PIL.Image.Exif()
    tags[0x0112] = orientation
    seen = images.decode(pillow(stored, kind, exif=tags))
    stored.getexif()[0x0112] = orientation
    upright = np.asarray(PIL.ImageOps.exif_transpose(stored))
    np.testing.assert_array_equal(seen.pixels, upright)
    again, _ = images.encode(seen, ".png")
    np.testing.assert_array_equal(images.decode(again).pixels, upright)
    assert PIL.Image.open(io.BytesIO(again)).getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("suffix", [".png", *LOSSY])
def test_orientation_tags_are_reset(suffix: str) -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    seen = images.decode(
        pillow(PIL.Image.fromarray(smooth(3)), "JPEG", exif=exif(orientation=6), xmp=xmp)
    )
    assert seen.size == (60, 40)
    assert seen.xmp == xmp.replace(b"6", b"1")
    assert seen.exif is not None
    assert PIL.Image.open(io.BytesIO(images.encode(seen, suffix)[0])).getexif()[0x0112] == 1
    data = images.encode(seen, suffix)[0]
    assert images.decode(data).size == (60, 40)
    assert pyvips.Image.new_from_buffer(data, "").get("orientation") == 1


def test_thumbnail_of_the_unrestored_image_is_dropped() -> None:
    thumbnail = pillow(PIL.Image.fromarray(smooth(3, size=(8, 8))), "JPEG")
    entries = struct.pack("<HHII", 0x0201, 4, 1, 44) + struct.pack(
        "<HHII", 0x0202, 4, 1, len(thumbnail)
    )
    block = b"II*\0" + struct.pack("<IHI", 8, 0, 14) + struct.pack("<H", 2) + entries
    block += struct.pack("<I", 0)
    assert len(block) == 44
    block = b"Exif\0\0" + block + thumbnail
    data, _ = images.encode(Image(smooth(3), exif=block), ".jpg")
    assert thumbnail[:200] not in data


def test_palette_and_bilevel_become_plain_samples() -> None:
    rgb = PIL.Image.fromarray(smooth(3))
    palette = rgb.quantize(16)
    seen = images.decode(pillow(palette, "PNG"))
    np.testing.assert_array_equal(seen.pixels, np.asarray(palette.convert("RGB")))
    bilevel = images.decode(pillow(rgb.convert("1"), "PNG"))
    assert set(np.unique(bilevel.pixels)) == {0, 255}
    assert bilevel.pixels.shape == (40, 60, 1)


def test_cmyk_becomes_srgb_and_is_said() -> None:
    data = pillow(PIL.Image.fromarray(smooth(3)).convert("CMYK"), "JPEG", quality=95)
    seen = images.decode(data)
    assert seen.pixels.shape == (40, 60, 3)
    assert seen.notes == ("CMYK was converted to sRGB, whose colours differ slightly",)


@pytest.mark.parametrize("kind", ["int", "short", "uint"])
def test_other_sample_types_are_refused(kind: str) -> None:
    data = pyvips.Image.new_from_array(smooth(3)).cast(kind).write_to_buffer(".tif")
    with pytest.raises(ImageError, match="only grey, RGB and CMYK"):
        images.decode(data)


def test_many_channels_are_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 6), np.uint8)
    with pytest.raises(ImageError, match="only grey, RGB and CMYK"):
        images.decode(pyvips.Image.new_from_array(noise).write_to_buffer(".tif"))


@pytest.mark.parametrize("kind", ["TIFF", "WEBP"])
def test_several_pages_are_refused(kind: str) -> None:
    page = PIL.Image.fromarray(smooth(3))
    data = pillow(page, kind, save_all=True, append_images=[page.rotate(90)])
    with pytest.raises(ImageError, match="2 pages or frames"):
        images.decode(data)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_cut_files_are_refused(tmp_path: Path, suffix: str, part: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data, _ = images.encode(Image(noise), suffix)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ImageError, match="damaged or cut short") as caught:
        images.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_jpeg_is_refused_and_surplus_bytes_are_not() -> None:
    data, _ = images.encode(Image(smooth(3)), ".jpg")
    middle = len(data) - 200
    with pytest.raises(ImageError, match="damaged"):
        images.decode(data[:middle] + b"\xff\xd9" * 10 + data[middle + 20 :])
    assert images.decode(data[:-2] + b"\0\0\0\0" + data[-2:]).size == (40, 60)


@pytest.mark.parametrize("data", [b"", b"GIF8", b"%PDF-1.4", b"<svg/>", b"RIFFxxxxWAVE"])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(ImageError, match="is not an image of a format that can be read"):
        images.read(tmp_path / "x.png")


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        images.read(tmp_path / "none.png")
    with pytest.raises(ImageError, match="cannot be read"):
        images.read(tmp_path)


def test_format_is_told_by_content(tmp_path: Path) -> None:
    data, _ = images.encode(Image(smooth(3)), ".png")
    (tmp_path / "photo.jpg").write_bytes(data)
    np.testing.assert_array_equal(images.read(tmp_path / "photo.jpg").pixels, smooth(3))


@pytest.mark.parametrize("name", ["x.bmp", "x", "x.gif"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="cannot write"):
        images.write(tmp_path / name, Image(smooth(3)))
    assert list(tmp_path.iterdir()) == []


def test_size_beyond_the_format_is_refused() -> None:
    with pytest.raises(ImageError, match=r"cannot be written as \.webp"):
        images.encode(Image(np.zeros((1, 20000, 3), np.uint8)), ".webp")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_after_a_failed_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "out.png"
    images.write(path, Image(smooth(3)))
    before = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise error

    monkeypatch.setattr(images.os, "fsync", fail)
    with pytest.raises((ImageError, KeyboardInterrupt)):
        images.write(path, Image(smooth(1)))
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]
    assert path.read_bytes() == before


def test_missing_output_folder_is_an_image_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be written"):
        images.write(tmp_path / "none" / "out.png", Image(smooth(3)))


def test_written_files_have_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    images.write(tmp_path / "out.png", Image(smooth(3)))
    assert (tmp_path / "out.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("pixels", "alpha"),
    [
        (np.zeros((4, 4), np.uint8), None),
        (np.zeros((4, 4, 2), np.uint8), None),
        (np.zeros((0, 4, 3), np.uint8), None),
        (np.zeros((4, 4, 3), np.float64), None),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16)),
    ],
)
def test_images_of_other_layouts_are_refused(pixels: np.ndarray, alpha: np.ndarray | None) -> None:
    with pytest.raises(ImageError, match="expected"):
        Image(pixels, alpha)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_pages_of_tiff_are_written_and_read(tmp_path: Path, dtype: type, with_alpha: bool) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (3, 12, 9, 4)).astype(dtype)
    pages = [
        Image(each[..., :3].copy(), each[..., 3].copy() if with_alpha else None, exif=exif())
        for each in samples
    ]
    (note,) = images.write_pages(tmp_path / "a.tif", pages)
    assert "maker notes" in note
    for number, page in enumerate(pages):
        back = images.read(tmp_path / "a.tif", number)
        np.testing.assert_array_equal(back.pixels, page.pixels)
        assert b"Maker" in (back.exif or b"")
    with pytest.raises(ImageError, match="has 3 pages or frames"):
        images.read(tmp_path / "a.tif")


def test_pages_that_no_file_holds_are_refused(tmp_path: Path) -> None:
    pages = [Image(smooth(3)), Image(smooth(1))]
    with pytest.raises(ImageError, match="the 2 pages differ in size, samples or colour profile"):
        images.write_pages(tmp_path / "a.tif", pages)
    with pytest.raises(ImageError, match="only TIFF files hold several pages"):
        images.write_pages(tmp_path / "a.png", pages[:1] * 2)
    assert list(tmp_path.iterdir()) == []

"""Metadata in files, as Pillow reads it."""

import io

import numpy as np
import PIL.Image
import PIL.TiffImagePlugin
import pytest
import pyvips
from profiles import IPTC, exif_block

from glocal.images import image_files as images
from glocal.images.exif import Entry, parsed
from glocal.images.image_files import Image
from glocal.images.limits import SEGMENT

PIXELS = np.zeros((40, 60, 3), np.uint8)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'
TEXTS = (("Comment", "grüß"), ("Title", "a 日本 title"))
FULL = Image(PIXELS, exif=exif_block(), xmp=XMP, iptc=IPTC, texts=TEXTS)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_pillow_reads_the_tags(suffix: str, order: str) -> None:
    data, _ = images.encode(Image(PIXELS, exif=exif_block(order)), suffix)
    with PIL.Image.open(io.BytesIO(data)) as seen:
        tags = seen.getexif()
        assert np.asarray(seen).shape == (40, 60, 3)
    assert tags[0x010F] == "ACME"
    assert tags.get(0x0112, 1) == 1
    assert tags.get_ifd(0x8769)[0x8827] == 800
    assert tags.get_ifd(0x8825)[2] == (52.0, 30.0, 1.25)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_metadata_passes_through_every_pair_of_formats(suffix: str) -> None:
    first = images.decode(images.encode(FULL, suffix)[0])
    for other in (".png", ".jpg", ".tif"):
        second = images.decode(images.encode(first, other)[0])
        assert (second.xmp, second.iptc) == (XMP, IPTC)
        assert parsed(second.exif or b"").gps == parsed(exif_block()).gps
        assert parsed(second.exif or b"").exif == parsed(exif_block()).exif


@pytest.mark.parametrize(("suffix", "texts"), [(".png", TEXTS), (".jpg", TEXTS[:1]), (".tif", ())])
def test_texts_are_kept_or_named(suffix: str, texts: tuple) -> None:
    data, notes = images.encode(Image(PIXELS, texts=TEXTS), suffix)
    assert images.decode(data).texts == texts
    lost = ", ".join(key for key, _ in TEXTS if key not in dict(texts))
    assert bool(lost) == any(lost in note for note in notes if "texts were dropped" in note)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tags_of_tiff_files_are_read_and_kept(big: bool, order: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    tags = [(315, "s", 0, "Me", True), (33432, "s", 0, "(c) Me", True), (37387, "H", 1, 5, True)]
    tifffile.imwrite(
        file, PIXELS, bigtiff=big, byteorder=order, extratags=tags, description="A view",
        photometric="rgb", metadata=None, software="",
    )  # fmt: skip
    seen = images.decode(file.getvalue())
    for _ in range(2):
        main = parsed(seen.exif or b"").main
        assert {main[tag].value for tag in (270, 315, 33432)} == {b"A view\0", b"Me\0", b"(c) Me\0"}
        assert set(main) == {270, 315, 33432, 37387}
        seen = images.decode(images.encode(seen, ".tif")[0])


def test_maker_notes_that_move_are_said() -> None:
    tags = parsed(exif_block())
    tags.exif[0x927C] = Entry(7, 9, b"maker 123")
    from glocal.images.exif import built

    image = Image(PIXELS, exif=built(tags))
    assert images.encode(image, ".jpg")[1] == ()
    data, notes = images.encode(image, ".tif")
    assert "maker notes were moved" in notes[0]
    assert images.decode(data).notes == notes


@pytest.mark.parametrize("name", ["exif", "xmp"])
def test_blocks_beyond_a_segment_of_jpeg_are_dropped_and_said(name: str) -> None:
    block = exif_block() + bytes(SEGMENT) if name == "exif" else b"<x/>" + b" " * SEGMENT
    image = Image(PIXELS, **{name: block})
    data, notes = images.encode(image, ".jpg")
    assert notes[0].startswith(f"{name.upper()} was dropped: JPEG files hold at most")
    assert getattr(images.decode(data), name) is None
    assert images.encode(image, ".png")[1] == ()


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_webp_of_any_form_takes_metadata(lossless: bool, with_alpha: bool) -> None:
    alpha = np.full((40, 60), 9, np.uint8) if with_alpha else None
    image = Image(PIXELS, alpha, exif=exif_block(), xmp=XMP, lossless=lossless)
    seen = images.decode(images.encode(image, ".webp")[0])
    assert seen.xmp == XMP
    assert seen.exif is not None
    assert seen.size == (40, 60)
    assert with_alpha == (seen.alpha is not None)


@pytest.mark.parametrize("density", [(300 / 25.4, 300 / 25.4), (12.3, 45.6)])
def test_jpeg_states_the_resolution(density: tuple[float, float]) -> None:
    data, _ = images.encode(Image(PIXELS, density=density), ".jpg")
    assert images.decode(data).density == pytest.approx(density, rel=1e-3)
    assert images.decode(data).exif is None


def test_the_profile_of_libvips_is_kept_beside_metadata() -> None:
    vips = pyvips.Image.black(4, 4, bands=3).copy(interpretation="srgb")
    icc = bytes(vips.icc_transform("p3", input_profile="srgb").get("icc-profile-data"))
    image = Image(PIXELS, icc=icc, exif=exif_block(), xmp=XMP)
    for suffix in (".png", ".jpg", ".tif", ".webp", ".avif"):
        assert images.decode(images.encode(image, suffix)[0]).icc == icc

"""Damage is never taken for a picture; faults that say nothing about the picture are no damage."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import pyvips

from glocal.errors import ImageError
from glocal.images import image_files as images
from glocal.images.embedded import EXIF_DROPPED
from glocal.images.formats import DAMAGED
from glocal.images.icc import linear_profile
from glocal.images.image_files import Image
from glocal.images.sample_files import SampleFile, decode_file, read_header

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")  # tifffile compresses with it

rng = np.random.default_rng(0)
COLOUR = rng.integers(0, 256, (64, 96, 3), np.uint8)
EVEN = np.repeat(np.arange(64, dtype=np.uint8)[:, None, None], 96, 1).repeat(3, 2)


def tiff(samples: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, photometric="rgb", **options)
    return file.getvalue()


def jpeg(**options: object) -> bytes:
    return pyvips.Image.new_from_array(COLOUR).jpegsave_buffer(Q=90, **options)


# --- orientation -----------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", [0, 9, 65535])
@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}])
def test_orientations_that_no_picture_has_are_upright(
    orientation: int, options: dict, tmp_path: Path
) -> None:
    data = tiff(COLOUR, extratags=[(274, "H", 1, orientation, True)], **options)
    np.testing.assert_array_equal(images.decode(data).pixels, COLOUR)
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    np.testing.assert_array_equal(images.read(path).pixels, COLOUR)
    assert path.read_bytes() == data
    samples = SampleFile(tmp_path / "samples", (64, 96), 3, np.dtype(np.uint8))
    decode_file(path, samples, None)
    np.testing.assert_array_equal(samples.read(slice(None), slice(None)), COLOUR)


def test_damage_behind_a_wrong_orientation_is_seen() -> None:
    data = tiff(EVEN, compression="packbits", extratags=[(274, "H", 1, 0, True)], rowsperstrip=8)
    assert images.decode(data).size == (64, 96)
    with pytest.raises(ImageError, match="damaged"):
        images.decode(_with_longer_run(data))


# --- surplus bytes of JPEG files -------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 4, 200])
@pytest.mark.parametrize("marker", [b"\xff\xd1", b"\xff\xd7"])
def test_zeros_before_a_restart_marker_change_no_pixel(number: int, marker: bytes) -> None:
    data = jpeg(restart_interval=2)
    at = data.index(marker, data.index(b"\xff\xda"))
    surplus = data[:at] + bytes(number) + data[at:]
    assert _strictly_refused(surplus)  # so that this is what `without_surplus` mends
    np.testing.assert_array_equal(images.decode(surplus).pixels, images.decode(data).pixels)


def test_zeros_before_several_markers_change_no_pixel() -> None:
    data = jpeg(restart_interval=2)
    surplus = data
    for marker in (b"\xff\xd1", b"\xff\xd3", b"\xff\xd5"):
        at = surplus.index(marker, surplus.index(b"\xff\xda"))
        surplus = surplus[:at] + bytes(3) + surplus[at:]
    np.testing.assert_array_equal(images.decode(surplus).pixels, images.decode(data).pixels)


def test_other_surplus_bytes_are_damage() -> None:
    data = jpeg(restart_interval=2)
    at = data.index(b"\xff\xd3", data.index(b"\xff\xda"))
    with pytest.raises(ImageError, match="extraneous"):
        images.decode(data[:at] + b"\x12\x34" + data[at:])


def test_damage_behind_surplus_bytes_is_seen() -> None:
    data = jpeg(restart_interval=2)
    start = data.index(b"\xff\xda")
    first, later = data.index(b"\xff\xd1", start), data.index(b"\xff\xd4", start)
    damaged = data[:first] + bytes(3) + data[first:later] + b"\x12\x34" + data[later:]
    with pytest.raises(ImageError, match="damaged"):
        images.decode(damaged)


def _strictly_refused(data: bytes) -> bool:
    try:
        pyvips.Image.jpegload_buffer(data, fail_on="warning").copy_memory()
    except pyvips.Error:
        return True
    return False


# --- damage ----------------------------------------------------------------------------------


def _with_longer_run(data: bytes) -> bytes:
    """A PackBits file in whose first row the last run is longer than the row."""
    at = struct.unpack_from("<I", data, 4)[0]
    tags = {
        struct.unpack_from("<H", data, place)[0]: struct.unpack_from("<I", data, place + 8)[0]
        for place in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", data, at)[0], 12)
    }
    strip = struct.unpack_from("<I", data, tags[273])[0]
    assert data[strip : strip + 6] == b"\x81\0\x81\0\xe1\0"
    return data[: strip + 4] + b"\x81" + data[strip + 5 :]


def damaged_file(kind: str) -> bytes:
    if kind == "packbits":
        return _with_longer_run(tiff(EVEN, compression="packbits", rowsperstrip=8))
    if kind == "tiles":
        return tiff(COLOUR, tile=(32, 32))[:-5000]
    if kind == "jpeg":
        data = jpeg()
        return data[: len(data) // 2]
    data = tiff(COLOUR, compression="zlib")
    return data[:2000] + bytes(100) + data[2100:]


@pytest.mark.parametrize("kind", ["packbits", "tiles", "jpeg", "zlib"])
def test_damage_is_refused_and_can_be_accepted(kind: str, tmp_path: Path) -> None:
    data = damaged_file(kind)
    path = tmp_path / "a.img"
    path.write_bytes(data)
    with pytest.raises(ImageError, match="is damaged or cut short"):
        images.read(path)
    found = images.read(path, accept_damaged=True)
    assert found.size == (64, 96)
    assert DAMAGED in found.notes
    header = read_header(path, accept_damaged=True)
    samples = SampleFile(tmp_path / "samples", (64, 96), 3, np.dtype(np.uint8))
    assert DAMAGED in decode_file(path, samples, None, accept_damaged=True)
    np.testing.assert_array_equal(samples.read(slice(None), slice(None)), found.pixels)
    assert header.size == (64, 96)


def test_whole_files_are_not_noted_when_damage_is_accepted() -> None:
    data, _ = images.encode(Image(COLOUR), ".png")
    assert images.decode(data, accept_damaged=True).notes == ()


def test_a_file_without_a_picture_is_refused_even_so() -> None:
    data, _ = images.encode(Image(COLOUR), ".png")
    with pytest.raises(ImageError, match="damaged"):
        images.decode(data[:30], accept_damaged=True)


# --- damaged metadata ------------------------------------------------------------------------

GARBAGE = b"this is no block of any kind " * 20
PROFILE_NOTE = "the colour profile is damaged and was dropped: colours were taken as sRGB"


def with_metadata(kind: str, **blocks: bytes) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(COLOUR).save(file, kind, **blocks)
    return file.getvalue()


def png_with(kind: bytes, data: bytes) -> bytes:
    whole = with_metadata("PNG")
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return whole[:33] + chunk + whole[33:]


@pytest.mark.parametrize(
    "data",
    [
        *(with_metadata(kind, icc_profile=GARBAGE) for kind in ("JPEG", "WEBP", "TIFF")),
        png_with(b"iCCP", b"x\0\0" + zlib.compress(GARBAGE)),
        png_with(b"iCCP", b"x\0\0" + GARBAGE),
    ],
    ids=["jpeg", "webp", "tiff", "png", "png, not packed"],
)
def test_a_damaged_profile_is_dropped_with_a_note(data: bytes) -> None:
    image = images.decode(data)
    assert (image.icc, image.notes) == (None, (PROFILE_NOTE,))


@pytest.mark.parametrize(
    "data",
    [
        *(with_metadata(kind, exif=b"Exif\0\0" + GARBAGE) for kind in ("JPEG", "WEBP")),
        with_metadata("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0"),
        png_with(b"eXIf", GARBAGE),
    ],
    ids=["jpeg", "webp", "jpeg, cut", "png"],
)
def test_damaged_exif_is_dropped_with_a_note(data: bytes) -> None:
    image = images.decode(data)
    assert (image.exif, image.notes) == (None, (EXIF_DROPPED,))


def test_whole_metadata_have_no_note() -> None:
    exif = PIL.Image.Exif()
    exif[0x010F] = "camera"
    data = with_metadata("JPEG", exif=exif.tobytes(), icc_profile=linear_profile(3))
    image = images.decode(data)
    assert image.notes == ()
    assert image.exif is not None
    assert image.icc == linear_profile(3)

"""Damage that decoders pass over, and valid files that only look damaged."""

import io
import struct
import zlib

import numpy as np
import pytest

from glocal.errors import ImageError
from glocal.images import image_files as images
from glocal.images.wholeness import damage

PIL = pytest.importorskip("PIL.Image")
tifffile = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")  # compresses for it

rng = np.random.default_rng(0)
TEXTURE = rng.integers(0, 256, (32, 48, 3), np.uint8)


def pillow(form, samples=TEXTURE, **options):
    file = io.BytesIO()
    PIL.fromarray(samples).save(file, form, **options)
    return file.getvalue()


def tiff(samples=TEXTURE, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, samples, photometric="rgb", **options)
    return file.getvalue()


def refused(data):
    with pytest.raises(ImageError, match="is damaged or cut short") as caught:
        images.decode(data)
    return str(caught.value)


def with_number(data, tag, value):
    """A TIFF file with another value of a tag of its first directory."""
    data = bytearray(data)
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry)[0] == tag:
            struct.pack_into("<HII", data, entry + 2, 4, 1, value)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        pillow("JPEG", quality=95),
        pillow("JPEG", progressive=True),
        pillow("JPEG", subsampling=2, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
        pillow("JPEG") + b"\xff\xd8 a preview after the end",
        pillow("JPEG", restart_marker_blocks=2),
        pillow("GIF", TEXTURE[..., 0]),
        pillow("GIF", np.zeros((1000, 1000), np.uint8)),
        pillow("PNG", np.zeros((3000, 3000), np.uint8)),
        tiff(),
        tiff(compression="zlib", rowsperstrip=7),
        tiff(compression="zlib", tile=(32, 32)),
        tiff(np.zeros((500, 500, 3), np.uint8), compression="lzw"),
    ],
)
def test_whole_files_are_whole(data):
    from glocal.images.kinds import kind_of

    assert damage(kind_of(data), data) == ""
    images.decode(data)


def test_a_marker_among_the_samples_of_a_jpeg_file_is_damage():
    data = bytearray(pillow("JPEG", quality=95))
    at = data.find(b"\xff\xda")
    data[-40:-38] = b"\xff\x99"
    assert at < len(data) - 40
    assert "the marker 0x99 lies among the samples" in refused(bytes(data))


def test_samples_after_the_last_ones_of_a_jpeg_file_are_damage():
    data = pillow("JPEG")
    scan = data[data.find(b"\xff\xda") : -2]
    interval = b"\xff\xdd\x00\x04\x00\x01"
    for more in (scan, interval, interval + scan):
        assert "samples follow the complete ones" in refused(data[:-2] + more + data[-2:])


def test_a_comment_after_the_samples_of_a_jpeg_file_is_none():
    data = pillow("JPEG")
    assert damage("jpeg", data[:-2] + b"\xff\xfe\x00\x04ab" + data[-2:]) == ""


def test_a_gif_file_holds_all_its_pixels():
    data = bytearray(pillow("GIF", TEXTURE[..., 0]))
    data[-600] ^= 8
    with pytest.raises(ImageError):
        images.decode(bytes(data))


@pytest.mark.parametrize("end", range(10, 60))
def test_a_gif_file_may_end_anywhere(end):
    with pytest.raises(ImageError):
        images.decode(pillow("GIF", TEXTURE[..., 0])[:end])


@pytest.mark.parametrize("change", ["a bit", "a width"])
def test_the_checksum_of_deflated_strips_counts(change):
    data = tiff(compression="zlib", rowsperstrip=32, predictor=False)
    if change == "a width":
        data = with_number(data, 256, 5)
    else:  # a value that deflate stores as it is, so that only the checksum tells
        stored = zlib.compress(TEXTURE.tobytes(), 0)
        changed = bytearray(stored)
        changed[100] ^= 1
        data = with_number(with_number(data, 273, len(data)), 279, len(changed)) + bytes(changed)
    assert "do not inflate to what the sizes state" in refused(data)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits", None])
def test_a_tiff_file_promises_what_its_bytes_can_hold(compression):
    data = with_number(tiff(compression=compression), 256, 2**26)
    assert "cannot hold" in refused(data)


@pytest.mark.parametrize(("tag", "value"), [(256, 16), (257, 3), (278, 2)])
@pytest.mark.parametrize("compression", ["packbits", None])
def test_strips_hold_what_the_sizes_of_a_tiff_file_demand(compression, tag, value):
    data = tiff(compression=compression, rowsperstrip=8)
    assert any(
        said in refused(with_number(data, tag, value))
        for said in ("do not unpack", "bytes of samples alone", "its size demands")
    )


def test_offsets_of_strips_are_whole_numbers_of_their_type():
    data = bytearray(tiff(rowsperstrip=8))
    at = data.find(struct.pack("<HH", 273, 4))
    data[at + 2] = 1  # bytes
    assert "it lists 0 strips or tiles" in refused(bytes(data))


def test_the_size_of_a_tiff_file_is_of_whole_numbers():
    data = bytearray(tiff())
    at = data.find(struct.pack("<HH", 256, 4))
    data[at + 2] = 5  # a fraction
    assert "it states no size" in refused(bytes(data))


def test_samples_of_a_tiff_file_fit_its_colours():
    data = tiff(np.zeros((9, 8, 4), np.uint8), extrasamples=["unassalpha"])
    assert damage("tiff", data) == ""
    data = with_number(data, 277, 3)
    assert "2 colours a pixel" in refused(data)


def test_the_image_of_a_gif_file_covers_it():
    data = bytearray(pillow("GIF", TEXTURE[..., 0]))
    data[6] += 1
    assert "does not cover it" in refused(bytes(data))


def test_png_and_jpeg_files_promise_what_their_bytes_can_hold():
    header = struct.pack(">4sIIBBBBB", b"IHDR", 2**25, 24, 8, 2, 0, 0, 0)
    png = pillow("PNG")
    png = png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]
    assert "cannot hold its 805306368 pixels" in refused(png)
    jpeg = bytearray(pillow("JPEG", progressive=True))
    at = jpeg.find(b"\xff\xc2")
    jpeg[at + 5 : at + 9] = b"\xff\x00\xff\x00"
    assert "cannot hold" in refused(bytes(jpeg))


@pytest.mark.parametrize(
    "data",
    [
        b"P3\n1 1\n255\n1 2 256\n",
        b"P3\n1 1\n255\n1 -2 3\n",
        b"P406\n4\n" + bytes(9),
        b"P6\n0 0\n255\n",
    ],
)
def test_values_of_netpbm_files_are_within_their_range(data):
    with pytest.raises(ImageError, match="is damaged"):
        images.decode(data)


def test_names_of_texts_need_not_be_utf8():
    body = b"tEXtComm\xe9nt\0a text"
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    png = pillow("PNG")
    seen = images.decode(png[:33] + chunk + png[33:])
    np.testing.assert_array_equal(seen.pixels, TEXTURE)

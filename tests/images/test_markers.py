"""What files say in places that libvips does not read."""

import io
import struct

import pytest

from glocal.errors import ImageError
from glocal.images.markers import jpeg_comments, jpeg_notes, nclx_notes, png_texts, raw_profile


def box(primaries: int, transfer: int) -> bytes:
    return b"....colrnclx" + struct.pack(">HHHB", primaries, transfer, 6, 128)


def test_other_primaries_are_said() -> None:
    assert nclx_notes(box(1, 13)) == nclx_notes(b"no box") == nclx_notes(box(1, 13)[:14]) == ()
    assert "other primaries" in nclx_notes(box(9, 13))[0]


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range_is_refused(transfer: int) -> None:
    with pytest.raises(ImageError, match="high dynamic range"):
        nclx_notes(box(9, transfer))


@pytest.mark.parametrize("data", ["grüß".encode(), "grüß".encode("latin-1")])
def test_comments_of_jpeg_are_read_in_either_encoding(data: bytes) -> None:
    segment = b"\xff\xfe" + struct.pack(">H", len(data) + 2) + data
    file = io.BytesIO(b"\xff\xd8" + segment + b"\xff\xda\0\x02")
    assert jpeg_comments(file) == (("Comment", "grüß"),)


def test_raw_profiles_are_told_from_other_texts() -> None:
    assert raw_profile("\niptc profile\n       2\n1c02\n") == b"\x1c\x02"
    assert raw_profile("\niptc\n       2\nno digits") is None
    assert raw_profile("a text of words") is None


@pytest.mark.parametrize("end", range(8, 40))
def test_cut_files_have_fewer_texts(end: int) -> None:
    chunk = struct.pack(">I", 9) + b"tEXtTitle\0abc" + bytes(4)
    png_texts(io.BytesIO((bytes(8) + chunk)[:end]))


def test_xmp_that_goes_on_in_other_segments_is_said() -> None:
    data = b"http://ns.adobe.com/xmp/extension/\0" + bytes(40)
    segment = b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data
    assert "extended XMP" in jpeg_notes(io.BytesIO(b"\xff\xd8" + segment))[0]
    assert jpeg_notes(io.BytesIO(b"\xff\xd8\xff\xda\0\x02")) == ()

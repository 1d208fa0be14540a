"""Metadata that is stripped, and blocks that formats share."""

import pytest
from profiles import IPTC, exif_block

from glocal.images.exif import parsed
from glocal.images.metadata import (
    Metadata,
    iptc_records,
    photoshop_block,
    stripped,
    upright_xmp,
    without_records,
)

XMP = (
    b'<rdf:Description exif:GPSLatitude="52,30N" dc:title="a" tiff:Orientation="6">'
    b"<exif:GPSLongitude>13,24E</exif:GPSLongitude><exif:GPSMapDatum/><xmp:Rating>4</xmp:Rating>"
    b"</rdf:Description>"
)
CITY = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x13\x1c\x02\x5a\0\x04Rome\x1c\x02\x78\0\x05hello\0"
FULL = Metadata(icc=b"icc", exif=exif_block(), xmp=XMP, iptc=CITY, texts=(("Comment", "a"),))


def test_gps_is_stripped_everywhere() -> None:
    kept = stripped(FULL, "gps")
    assert kept.xmp == (
        b'<rdf:Description dc:title="a" tiff:Orientation="6"><xmp:Rating>4</xmp:Rating>'
        b"</rdf:Description>"
    )
    assert kept.exif is not None
    assert not parsed(kept.exif).gps
    assert iptc_records(kept.iptc) == b"\x1c\x02\x78\0\x05hello"
    assert (kept.icc, kept.texts) == (FULL.icc, FULL.texts)


def test_all_strips_what_describes_the_picture() -> None:
    kept = stripped(FULL, "all")
    assert kept == Metadata(icc=b"icc")
    assert stripped(FULL, None) is FULL


def test_iptc_without_a_place_stays_as_it_is() -> None:
    assert stripped(Metadata(iptc=IPTC), "gps").iptc == IPTC


def test_only_resources_that_describe_the_picture_are_kept() -> None:
    def resource(kind: bytes, data: bytes) -> bytes:
        return b"8BIM" + kind + b"\0\0" + len(data).to_bytes(4) + data + bytes(len(data) % 2)

    layers = resource(b"\x04\x0c", b"thumbnail") + resource(b"\x04\x0b", b"http://a")
    block = photoshop_block(layers, b"\x1c\x02\x78\0\x05hello")
    assert block is not None
    assert b"thumbnail" not in block
    assert iptc_records(block) == b"\x1c\x02\x78\0\x05hello"
    assert without_records(block) == resource(b"\x04\x0b", b"http://a")
    assert photoshop_block(resource(b"\x04\x0c", b"thumbnail")) is None


@pytest.mark.parametrize("end", range(len(CITY)))
def test_cut_blocks_of_iptc_are_no_error(end: int) -> None:
    photoshop_block(CITY[:end])
    stripped(Metadata(iptc=CITY[:end]), "gps")


@pytest.mark.parametrize("quote", [b'"', b"'"])
def test_xmp_becomes_upright(quote: bytes) -> None:
    packet = b"<a tiff:Orientation=" + quote + b"8" + quote + b"/>"
    assert upright_xmp(packet) == packet.replace(b"8", b"1")

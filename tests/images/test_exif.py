"""EXIF blocks, changed in place or read and built."""

import struct

import pytest
from profiles import exif_block

from glocal.images.exif import Entry, Tags, built, native, parsed, upright, with_size, without_gps

ORDERS = ("<", ">")


def number(order: str, entry: Entry) -> int:
    return int(struct.unpack(order + ("I" if entry.type == 4 else "H"), entry.value)[0])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_a_built_block_is_read_again(order: str, prefix: bytes) -> None:
    tags = parsed(prefix + exif_block(order))
    assert tags.order == order
    assert tags.main[0x010F].value == b"ACME\0"
    assert number(order, tags.exif[0x8827]) == 800
    assert struct.unpack(order + "6I", tags.gps[2].value) == (52, 1, 30, 1, 5, 4)
    assert tags.interop[1].value == b"R98\0"
    assert built(tags) == exif_block(order)


@pytest.mark.parametrize("order", ORDERS)
def test_values_change_their_byte_order(order: str) -> None:
    other = "<" if order == ">" else ">"
    assert built(native(parsed(exif_block(order)), other)) == exif_block(other)


@pytest.mark.parametrize("order", ORDERS)
def test_upright_changes_the_orientation_only(order: str) -> None:
    block = exif_block(order)
    changed = upright(block)
    assert number(order, parsed(changed).main[0x0112]) == 1
    assert sum(a != b for a, b in zip(block, changed, strict=True)) == 1


@pytest.mark.parametrize("order", ORDERS)
def test_the_size_is_that_of_the_result(order: str) -> None:
    tags = parsed(with_size(exif_block(order), (80, 120)))
    assert [number(order, tags.exif[tag]) for tag in (0xA002, 0xA003)] == [120, 80]


@pytest.mark.parametrize("order", ORDERS)
def test_the_place_is_wiped_and_the_rest_stays(order: str) -> None:
    block = without_gps(exif_block(order))
    assert block is not None
    assert struct.pack(order + "6I", 52, 1, 30, 1, 5, 4) not in block
    tags = parsed(block)
    whole = parsed(exif_block(order))
    assert not tags.gps
    assert (tags.main, tags.exif, tags.interop) == (whole.main, whole.exif, whole.interop)


def test_a_block_with_nothing_but_the_place_is_left_out() -> None:
    assert without_gps(built(Tags(gps={2: Entry(5, 1, bytes(8))}))) is None
    assert without_gps(built(Tags(main={0x010F: Entry(2, 2, b"A\0")}))) is not None


@pytest.mark.parametrize("change", [upright, without_gps, lambda b: with_size(b, (1, 2)), parsed])
def test_cut_blocks_are_no_error(change) -> None:
    block = exif_block()
    for end in range(len(block)):
        change(block[:end])


@pytest.mark.parametrize("at", range(8, 60, 4))
def test_damaged_blocks_are_no_error(at: int) -> None:
    block = exif_block()
    block = block[:at] + b"\xff\xff\xff\xff" + block[at + 4 :]
    for change in (upright, without_gps, parsed):
        change(block)

"""Colour profiles and blocks of metadata for tests of image files."""

import struct

import numpy as np
import pyvips

from glocal.images.exif import Entry, Tags, built


def profile_of(name: str) -> bytes:
    """A profile that libvips has, such as p3 or srgb."""
    vips = pyvips.Image.black(4, 4, bands=3).copy(interpretation="srgb")
    return bytes(vips.icc_transform(name, input_profile="srgb").get("icc-profile-data"))


def table_profile() -> bytes:
    """An RGB profile that converts to CIELAB by tables: L, a and b of 2×2×2 corners of sRGB."""
    corners = [(r, g, b) for r in (0, 1) for g in (0, 1) for b in (0, 1)]
    rgb = np.array(corners, np.float32).reshape(1, 8, 3) * 255
    lab = pyvips.Image.new_from_array(rgb).copy(interpretation="srgb").cast("uchar")
    lab = lab.icc_transform("srgb", input_profile="srgb").icc_import(pcs="lab", embedded=True)
    values = lab.numpy().reshape(8, 3)
    grid = np.stack([values[:, 0] * 652.8, *((values[:, 1:] + 128).T * 256)], -1).round()
    curves = struct.pack(">4H", 0, 65535, 0, 65535) + struct.pack(">2H", 0, 65535)
    identity = struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))

    def table(entries: np.ndarray) -> bytes:
        head = b"mft2" + bytes(4) + bytes([3, 3, 2, 0]) + identity + struct.pack(">2H", 2, 2)
        return head + curves + entries.astype(">u2").tobytes() + curves

    inverse = np.array(corners) * 65535
    tags = {b"A2B0": table(grid), b"B2A0": table(inverse), b"wtpt": _white()}
    data, entries = b"", b""
    start = 132 + 12 * len(tags)
    for key, value in tags.items():
        entries += key + struct.pack(">2I", start + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    head = struct.pack(">I4x", start + len(data)) + b"\x02\x40\0\0mntrRGB Lab "
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + entries + data


def _white() -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)


def exif_block(order: str = "<", **others: dict[int, Entry]) -> bytes:
    """A block with a camera, an exposure and a place."""
    return built(
        Tags(
            order,
            main={
                0x010F: Entry(2, 5, b"ACME\0"),
                0x0112: Entry(3, 1, struct.pack(order + "H", 6)),
            },
            exif={
                0x8827: Entry(3, 1, struct.pack(order + "H", 800)),
                0xA002: Entry(4, 1, struct.pack(order + "I", 60)),
                0xA003: Entry(4, 1, struct.pack(order + "I", 40)),
            },
            gps={2: Entry(5, 3, struct.pack(order + "6I", 52, 1, 30, 1, 5, 4))},
            interop={1: Entry(2, 4, b"R98\0")},
        )
    )


IPTC = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0a\x1c\x02\x78\0\x05hello"
"""A block with a caption."""

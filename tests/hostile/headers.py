"""glocal's parsers of headers, as functions of bytes that raise a GlocalError at most."""

import io
from collections.abc import Callable
from contextlib import suppress

from glocal.errors import GlocalError
from glocal.images import exif, icc, markers, tiff_tags
from glocal.images.kinds import kind_of
from glocal.images.readers import decoded
from glocal.images.wholeness import damage
from glocal.json_files import JsonError, parsed
from glocal.networks.checkpoints import bounds

Parser = Callable[[bytes], object]


def _of_file(parser: Callable[[io.BytesIO], object]) -> Parser:
    return lambda data: parser(io.BytesIO(data))


def _tiff(data: bytes) -> None:
    found = tiff_tags.read_tags(io.BytesIO(data))
    if found.tags:
        exif.parsed(exif.built(found.tags))


def _exif(data: bytes) -> None:
    exif.is_damaged(data)
    exif.built(exif.parsed(exif.upright(data)))
    exif.without_gps(data)
    exif.with_size(data, (3, 4))


def _pickle(data: bytes) -> None:
    from pathlib import Path

    bounds._count(Path("a"), io.BytesIO(data))
    bounds._directory_bytes(io.BytesIO(data), len(data))
    list(bounds._pickles(Path("a"), io.BytesIO(data)))


PARSERS: dict[str, Parser] = {
    "kinds": kind_of,
    "jpeg comments": _of_file(markers.jpeg_comments),
    "jpeg notes": _of_file(markers.jpeg_notes),
    "png texts": _of_file(markers.png_texts),
    "png frames": _of_file(markers.png_frames),
    "nclx": markers.nclx_notes,
    "webp": _of_file(markers.is_lossless_webp),
    "tiff": _tiff,
    "orientation": _of_file(tiff_tags.wrong_orientation),
    "exif": _exif,
    "icc": icc.matrix_profile,
    "icc space": lambda data: icc.is_profile(data) and icc.colour_space(data),
    "netpbm": lambda data: decoded("netpbm", data),
    "whole png": lambda data: damage("png", data),
    "whole jpeg": lambda data: damage("jpeg", data),
    "whole gif": lambda data: damage("gif", data),
    "whole tiff": lambda data: damage("tiff", data),
    "json": lambda data: parsed(data, dict[str, object]),
    "pickle": _pickle,
}


def check(name: str, data: bytes) -> None:
    """Parse; any error but those of users' mistakes goes through."""
    with suppress(GlocalError, JsonError):
        PARSERS[name](data)

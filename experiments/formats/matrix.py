"""What reaches a result from the metadata of a photograph, judged by exiftool.

`python experiments/formats/matrix.py` writes the tables of docs/formats.md. It needs exiftool
(Debian's libimage-exiftool-perl) and the libraries of the extra "formats".
"""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyvips

from glocal.images.image_files import Image, read, write
from glocal.images.kinds import KINDS
from glocal.images.limits import FORMATS, READ_ONLY, format_named

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
BEGIN, END = "<!-- made by experiments/formats/matrix.py: edit that -->", "<!-- end -->"

SOURCES = (".jpg", ".png", ".tif", ".webp", ".avif", ".jxl")
"""Formats in which exiftool can write metadata."""

WRITTEN_TAGS = (
    "-EXIF:Make=ACME", "-EXIF:Artist=Me", "-EXIF:Copyright=(c) Me", "-EXIF:ISO=800",
    "-EXIF:ImageDescription=A view",
    "-GPS:GPSLatitude=52.5", "-GPS:GPSLatitudeRef=N",
    "-XMP-dc:Title=Hello", "-XMP-xmp:Rating=4",
    "-IPTC:Keywords=cat", "-IPTC:Caption-Abstract=cap",
    "-File:Comment=note", "-PNG:Comment=note",
)  # fmt: skip

BLOCKS = {
    "EXIF": ("IFD0:Make", "IFD0:Artist", "IFD0:Copyright", "ExifIFD:ISO", "IFD0:ImageDescription"),
    "GPS": ("GPS:GPSLatitude", "GPS:GPSLatitudeRef"),
    "XMP": ("XMP-dc:Title", "XMP-xmp:Rating"),
    "IPTC": ("IPTC:Keywords", "IPTC:Caption-Abstract"),
    "texts": ("Comment",),
    "ICC": ("ICC-header:ProfileConnectionSpace",),
}
"""Tags of exiftool that show a block of metadata."""


def profile() -> bytes:
    """Display P3, as libvips has it."""
    vips = pyvips.Image.black(4, 4, bands=3).copy(interpretation="srgb")
    return bytes(vips.icc_transform("p3", input_profile="srgb").get("icc-profile-data"))


def exiftool(*arguments: str | Path) -> str:
    """The output of exiftool."""
    done = subprocess.run(
        ["exiftool", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return done.stdout


def tags_of(paths: list[Path]) -> dict[str, dict[str, Any]]:
    """The tags of each file by its name, as exiftool reads them."""
    listed = json.loads(exiftool("-j", "-G1", "-n", *paths))
    return {Path(tags["SourceFile"]).name: _named(tags) for tags in listed}


def _named(tags: dict[str, Any]) -> dict[str, Any]:
    """Formats name a comment differently."""
    comment = next((v for k, v in tags.items() if k.endswith(":Comment")), None)
    return tags if comment is None else {**tags, "Comment": comment}


def held(tags: dict[str, Any], wanted: dict[str, Any] | None = None) -> set[str]:
    """The blocks of which a file has all tags, equal to those wanted if given."""
    return {
        name
        for name, keys in BLOCKS.items()
        if all(key in tags and (wanted is None or tags[key] == wanted[key]) for key in keys)
    }


def matrix(folder: Path) -> dict[tuple[str, str], tuple[set[str], set[str], tuple[str, ...]]]:
    """What each source has, what of it each result has, and the notes, by both suffixes."""
    rows, columns = np.mgrid[0:16, 0:24]
    pixels = np.stack([rows * 9, columns * 9, rows + columns], -1).astype(np.uint8)
    sources = [folder / f"source{suffix}" for suffix in SOURCES]
    for path in sources:
        icc = profile() if FORMATS[path.suffix].icc else None
        write(path, Image(pixels, icc=icc))
    exiftool("-q", "-q", "-m", "-overwrite_original", *WRITTEN_TAGS, *sources)
    results, notes = {}, {}
    for source in sources:
        image = read(source)
        for suffix in FORMATS:
            path = folder / f"{source.suffix[1:]}-to{suffix}"
            notes[source.suffix, suffix] = write(path, image)
            results[source.suffix, suffix] = path
    had, have = tags_of(sources), tags_of([*results.values()])
    found = {}
    for (source, suffix), path in results.items():
        own = had[f"source{source}"]
        blocks = held(own)
        wanted = {key: own.get(key) for keys in BLOCKS.values() for key in keys}
        found[source, suffix] = (
            blocks,
            held(have[path.name], wanted) & blocks,
            notes[source, suffix],
        )
    return found


def tables(found: dict[tuple[str, str], tuple[set[str], set[str], tuple[str, ...]]]) -> str:
    """The tables of the page."""
    lines = ["| format | suffixes | read by | written | samples | alpha | metadata it can hold |"]
    lines.append("|---|---|---|---|---|---|---|")
    for kind, entry in KINDS.items():
        suffix = next((s for s, each in FORMATS.items() if each.kind == kind), None)
        reader = entry.library or ("libvips" if entry.loader else "glocal")
        if suffix is None:
            names = " ".join(s for s in READ_ONLY if _KIND_OF.get(s) == kind)
            lines.append(f"| {entry.name} | {names} | {reader} | – | as in the file | – | – |")
            continue
        each = FORMATS[suffix]
        names = " ".join(s for s in (suffix, ".jpeg", ".tiff") if format_named(s)[1] is each)
        samples = f"{'8' if each.bits == 8 else f'8, {each.bits}'} bits"
        if kind == "exr":
            samples = "float"
        elif each.floats:
            samples += ", float"
        holds = [name for name in ("EXIF", "XMP", "IPTC", "ICC") if getattr(each, name.lower())]
        holds += ["texts" if "*" in each.texts else "comment"] if each.texts else []
        lines.append(
            f"| {each.name} | {names} | {reader} | yes | {samples} | "
            f"{'yes' if each.alpha else 'no'} | {', '.join(holds) or '–'} |"
        )
    lines += ["", "| from, with | " + " | ".join(FORMATS) + " |", "|---|" + "---|" * len(FORMATS)]
    for source in SOURCES:
        had = found[source, source][0]
        cells = []
        for suffix in FORMATS:
            _, kept, _ = found[source, suffix]
            lost = [name for name in BLOCKS if name in had - kept]
            cells.append("all" if not lost else "no " + ", ".join(lost))
        all_of_it = ", ".join(name for name in BLOCKS if name in had)
        lines.append(f"| {source}: {all_of_it} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


_KIND_OF = {
    ".heic": "heic", ".heif": "heic", ".hif": "heic", ".gif": "gif", ".bmp": "bmp",
    ".jp2": "jp2", ".j2k": "jp2", ".jpf": "jp2", ".ppm": "netpbm",
    ".pgm": "netpbm", ".pbm": "netpbm", ".pnm": "netpbm",
    **{suffix: "raw" for suffix, result in READ_ONLY.items() if result == ".tif"},
    ".pfm": "netpbm",
}  # fmt: skip


def page_with(text: str, made: str) -> str:
    """The page with its tables replaced."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(page_with(PAGE.read_text(), tables(matrix(Path(folder)))))

"""Make a paired data set from clean images.

Images are written to `OUT/degraded` and `OUT/target` under their original names, as PNG, so that
only the degradation loses information. `data.datasets.pairs` reads the set. `OUT/degradation.json`
records the settings and the seed of each image. The seed depends only on the image's name and the
seed of the set: an image gives the same files whatever else is in the set.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from glocal.data.degrade import degrade, settings
from glocal.errors import ArgumentError, ImageError
from glocal.images.files import make_folder, write_whole
from glocal.images.image_files import read, write
from glocal.images.limits import SUFFIXES
from glocal.json_files import JsonError, converted, read_json
from glocal.runs.jobs import folder_jobs
from glocal.scanning.user_code import full_traceback

__all__ = ["RECORD", "SetEntry", "image_seed", "make_paired_set", "plan_paired_set"]

RECORD = "degradation.json"
"""File name of the record of settings."""


@dataclass(frozen=True)
class SetEntry:
    """One image of a paired set: its files, and whether they were made.

    Attributes:
        name: name of the pair: the source's path inside its folder, without suffix.
        source: the clean image.
        degraded, target: files that were written, or would have been.
        seed: seed of this image's degradation.
        status: "planned", "made", "skipped" (both files exist) or "failed".
        notes: what was converted on reading or writing, one sentence each.
        error: the reason for status "failed", else None.
        trace: the traceback of that error, as text; empty otherwise.
    """

    name: str
    source: Path
    degraded: Path
    target: Path
    seed: int
    status: Literal["planned", "made", "skipped", "failed"] = "planned"
    notes: tuple[str, ...] = ()
    error: str | None = None
    trace: str = field(default="", repr=False, compare=False)


def image_seed(seed: int, name: str) -> int:
    """The 32-bit seed of one image, from the seed of the set and the image's name.

    >>> image_seed(0, "photo"), image_seed(1, "photo"), image_seed(0, "other")
    (1199637980, 3023896285, 1286925362)
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def make_paired_set(
    source: Path,
    out: Path,
    kind: str,
    strength: float | None = None,
    seed: int = 0,
    *,
    recursive: bool = True,
    resume: bool = True,
    overwrite: bool = False,
) -> Iterator[SetEntry]:
    """Degrade an image, or every image of a folder, and write the pairs.

    Bit depth, colour profile, EXIF and alpha are preserved. An image that cannot be read is
    reported, and the run continues. Files are written atomically.

    Args:
        source: an image, or a folder of images.
        out: folder of the set; created if missing.
        kind: a name in `glocal.data.degrade.DEGRADATIONS`.
        strength: in the unit of the kind; None: its default.
        seed: seed of the set.
        recursive: include subfolders of `source`.
        resume: skip existing pairs; add to a set with the same settings.
        overwrite: replace existing pairs; takes precedence over `resume`.

    Yields:
        One entry per image, sorted by name.

    Raises:
        ArgumentError: the kind or strength is invalid; an output would overwrite an input; or
            `out` has a set with other settings and `overwrite` is not set, or one with the same
            settings and neither `resume` nor `overwrite` is set.
        ImageError: `source` does not exist or has no images.
    """
    # not a generator, so that arguments are checked at the call
    chosen, strength = settings(kind, strength)
    planned = plan_paired_set(source, out, seed, recursive=recursive)
    existing = [each for each in planned if each.degraded.exists() or each.target.exists()]
    settings_of_set = {"kind": kind, "strength": strength, "seed": seed}
    before = {} if overwrite else _recorded_images(out, settings_of_set, not_empty=bool(existing))
    if existing and not resume and not overwrite:
        raise ArgumentError(
            f"{existing[0].degraded}: exists already{_others(len(existing) - 1)}; "
            "overwrite them, resume, or choose another folder"
        )
    entries = {
        each.name: {"source": _relative(each.source, source), "seed": each.seed} for each in planned
    }
    record = {
        **settings_of_set,
        "meaning_of_strength": chosen.meaning,
        "versions": {name: version(name) for name in ("glocal", "numpy", "torch")},
        "images": before | entries,
    }
    _write_record(out, record)
    return _with_record(_run(planned, kind, strength, resume and not overwrite), out, record)


def plan_paired_set(
    source: Path, out: Path, seed: int = 0, *, recursive: bool = True
) -> list[SetEntry]:
    """The entries that `make_paired_set` would make. Reads and writes no files.

    Raises:
        ArgumentError: an output would overwrite an input, or two images have the same name.
        ImageError: `source` does not exist or has no images.
    """
    if out.exists() and not out.is_dir():
        raise ArgumentError(f"{out} is a file; a data set must be a folder")
    if source.is_dir():
        files = folder_jobs(source, out, recursive=recursive, suffix=".png")
        names = {path: target.relative_to(out) for path, target in files}
    elif source.suffix.lower() in SUFFIXES and source.is_file():
        names = {source: Path(source.name).with_suffix(".png")}
    else:
        what = "not an image file" if source.is_file() else "no such file or folder"
        raise ImageError(f"{source}: {what}")
    planned = []
    read_from = {path.resolve() for path in names}
    for path, file in names.items():
        outputs = out / "degraded" / file, out / "target" / file
        for output in outputs:
            if output.resolve() in read_from:
                raise ArgumentError(f"{output} is an input file; choose another folder")
        name = file.with_suffix("").as_posix()
        planned.append(SetEntry(name, path, *outputs, image_seed(seed, name)))
    return planned


def _run(
    planned: Iterable[SetEntry], kind: str, strength: float, skip_existing: bool
) -> Iterator[SetEntry]:
    for each in planned:
        if skip_existing and each.degraded.exists() and each.target.exists():
            yield dataclasses.replace(each, status="skipped")
            continue
        try:
            yield _make(each, kind, strength)
        except ImageError as error:
            yield dataclasses.replace(
                each, status="failed", error=str(error), trace=full_traceback(error)
            )


def _make(each: SetEntry, kind: str, strength: float) -> SetEntry:
    image = read(each.source)
    is_float = image.pixels.dtype.kind == "f"
    peak = 1 if is_float else np.iinfo(image.pixels.dtype).max
    degraded = degrade(image.pixels / np.float64(peak), kind, strength, each.seed)
    levels = degraded.astype(np.float64).clip(0, 1) * peak
    samples = (levels if is_float else np.rint(levels)).astype(image.pixels.dtype)
    notes = image.notes
    for path, pixels in ((each.target, image.pixels), (each.degraded, samples)):
        make_folder(path.parent, ImageError)
        notes += write(path, dataclasses.replace(image, pixels=pixels))
    return dataclasses.replace(each, status="made", notes=tuple(dict.fromkeys(notes)))


_MOST_BYTES = 2**28  # of the record, which has a line for each image

# --- the record ------------------------------------------------------------------------------


def _recorded_images(
    out: Path, settings_of_set: Mapping[str, object], *, not_empty: bool
) -> dict[str, Any]:
    """Return the recorded images of a set; raise if its settings differ."""
    file = out / RECORD
    if not file.exists():
        if not_empty:
            raise ArgumentError(
                f"{out}: has images, but no {RECORD} that records how they were made; "
                "overwrite them, or choose another folder"
            )
        return {}
    try:
        record = read_json(file, dict[str, object], most_bytes=_MOST_BYTES)
        images: dict[str, Any] = converted(record["images"], dict[str, object], "images")
        known = {name: record[name] for name in settings_of_set}
    except (OSError, JsonError, KeyError):
        raise ArgumentError(
            f"{file}: is not a record of a paired set; overwrite it, or choose another folder"
        ) from None
    if known != settings_of_set:
        was, now = (
            ", ".join(f"{k} {v}" for k, v in each.items()) for each in (known, settings_of_set)
        )
        raise ArgumentError(
            f"{out}: was made with {was}, not {now}; overwrite it, or choose another folder"
        )
    return images


def _with_record(
    results: Iterable[SetEntry], out: Path, record: dict[str, Any]
) -> Iterator[SetEntry]:
    """Yield the results; remove images that could not be made from the record."""
    for each in results:
        if each.status == "failed" and not (each.degraded.exists() and each.target.exists()):
            record["images"].pop(each.name, None)
            _write_record(out, record)
        yield each


def _write_record(out: Path, record: Mapping[str, object]) -> None:
    make_folder(out, ImageError)
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    write_whole(out / RECORD, text, ImageError)


def _others(count: int) -> str:
    if not count:
        return ""
    return ", as does 1 other pair" if count == 1 else f", as do {count} other pairs"


def _relative(path: Path, source: Path) -> str:
    return path.name if path == source else path.relative_to(source).as_posix()

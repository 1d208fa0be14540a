"""Clean photographs to a paired data set on disk: degraded and target images, and how they came.

The set lies in `OUT/degraded` and `OUT/target` under the names of the photographs, all as PNG so
that nothing but the degradation is lost; `data.datasets.pairs` reads it. `OUT/degradation.json`
records the settings and the seed of each image, which follows from its name and the set's seed
alone: the same photograph gives the same files in whatever order and company.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from glocal.data.degrade import degrade, settings
from glocal.errors import ArgumentError, ImageError
from glocal.images.files import make_folder, write_whole
from glocal.images.images import SUFFIXES, read, write
from glocal.runs.jobs import folder_jobs

__all__ = ["RECORD", "Made", "image_seed", "make_paired_set", "plan_paired_set"]

RECORD = "degradation.json"
"""Name of the record of a set's settings."""


@dataclass(frozen=True)
class Made:
    """What is to become, or became, of one photograph.

    Attributes:
        name: of the pair in the set: the photograph's path inside its folder without suffix.
        source: the photograph read.
        degraded, target: the files written, or that would have been.
        seed: of the degradation of this image.
        status: "planned", "made", "skipped" (both files were there) or "failed".
        notes: what had to be changed on reading or writing, one sentence each.
        error: why it failed, None where it did not.
    """

    name: str
    source: Path
    degraded: Path
    target: Path
    seed: int
    status: Literal["planned", "made", "skipped", "failed"] = "planned"
    notes: tuple[str, ...] = ()
    error: str | None = None


def image_seed(seed: int, name: str) -> int:
    """The seed of one image of a set: 32 bits, from the set's seed and the image's name.

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
) -> Iterator[Made]:
    """Degrade a photograph, or every photograph of a folder, and write the pairs.

    Bit depth, colour profile, EXIF and alpha are kept. A photograph that cannot be read is
    reported and the run goes on; files are written whole or not at all.

    Args:
        source: a photograph, or a folder of them.
        out: folder of the set; made where missing.
        kind: a name of `glocal.data.degrade.DEGRADATIONS`.
        strength: in the unit of that kind; its default where None.
        seed: of the set.
        recursive: read the folders inside `source` too.
        resume: leave pairs that are there as they are; add to a set of the same settings.
        overwrite: make pairs that are there anew; goes before `resume`.

    Yields:
        What became of each photograph, in the order of their names.

    Raises:
        ArgumentError: the kind or strength is wrong; an output would overwrite an input; or `out`
            holds a set of other settings and `overwrite` is not set, or one of the same and
            neither `resume` nor `overwrite` is.
        ImageError: there is no such photograph, or the folder holds none.
    """
    # not a generator itself: its arguments are judged at the call, not at the first file
    chosen, strength = settings(kind, strength)
    planned = plan_paired_set(source, out, seed, recursive=recursive)
    there = [each for each in planned if each.degraded.exists() or each.target.exists()]
    facts = {"kind": kind, "strength": strength, "seed": seed}
    before = {} if overwrite else _recorded(out, facts, bool(there))
    if there and not resume and not overwrite:
        raise ArgumentError(
            f"{there[0].degraded}: exists already{_others(len(there) - 1)}; "
            "overwrite them, resume, or choose another folder"
        )
    entries = {
        each.name: {"source": _relative(each.source, source), "seed": each.seed} for each in planned
    }
    record = {
        **facts,
        "meaning_of_strength": chosen.meaning,
        "versions": {name: version(name) for name in ("glocal", "numpy", "torch")},
        "images": before | entries,
    }
    _write_record(out, record)
    return _noted(_run(planned, kind, strength, resume and not overwrite), out, record)


def plan_paired_set(
    source: Path, out: Path, seed: int = 0, *, recursive: bool = True
) -> list[Made]:
    """What `make_paired_set` would make of these photographs; nothing is read or written.

    Raises:
        ArgumentError: an output would overwrite an input, or two photographs have one name.
        ImageError: there is no such photograph, or the folder holds none.
    """
    if out.exists() and not out.is_dir():
        raise ArgumentError(f"{out}: is a file; a set needs a folder")
    if source.is_dir():
        files = folder_jobs(source, out, recursive=recursive, suffix=".png")
        names = {path: target.relative_to(out) for path, target in files}
    elif source.suffix.lower() in SUFFIXES and source.is_file():
        names = {source: Path(source.name).with_suffix(".png")}
    else:
        what = "not an image by its name" if source.is_file() else "no such file or folder"
        raise ImageError(f"{source}: {what}")
    planned = []
    read_from = {path.resolve() for path in names}
    for path, file in names.items():
        outputs = out / "degraded" / file, out / "target" / file
        for output in outputs:
            if output.resolve() in read_from:
                raise ArgumentError(f"{output}: would overwrite an input; name another folder")
        name = file.with_suffix("").as_posix()
        planned.append(Made(name, path, *outputs, image_seed(seed, name)))
    return planned


def _run(
    planned: Iterable[Made], kind: str, strength: float, skip_existing: bool
) -> Iterator[Made]:
    for each in planned:
        if skip_existing and each.degraded.exists() and each.target.exists():
            yield dataclasses.replace(each, status="skipped")
            continue
        try:
            yield _make(each, kind, strength)
        except ImageError as error:
            yield dataclasses.replace(each, status="failed", error=str(error))


def _make(each: Made, kind: str, strength: float) -> Made:
    image = read(each.source)
    peak = np.iinfo(image.pixels.dtype).max
    degraded = degrade(image.pixels / np.float64(peak), kind, strength, each.seed)
    samples = np.rint(degraded.astype(np.float64).clip(0, 1) * peak).astype(image.pixels.dtype)
    notes = image.notes
    for path, pixels in ((each.target, image.pixels), (each.degraded, samples)):
        make_folder(path.parent, ImageError)
        notes += write(path, dataclasses.replace(image, pixels=pixels))
    return dataclasses.replace(each, status="made", notes=tuple(dict.fromkeys(notes)))


# --- the record ------------------------------------------------------------------------------


def _recorded(out: Path, facts: Mapping[str, object], filled: bool) -> dict[str, Any]:
    """The images that a set of the same settings has already; raises for other settings."""
    file = out / RECORD
    if not file.exists():
        if filled:
            raise ArgumentError(
                f"{out}: holds images, but no {RECORD} says how they were made; "
                "overwrite them, or choose another folder"
            )
        return {}
    try:
        record = json.loads(file.read_text("utf-8"))
        images = dict(record["images"])
        known = {name: record[name] for name in facts}
    except (OSError, ValueError, TypeError, KeyError):
        raise ArgumentError(
            f"{file}: is no record of a set; overwrite it, or choose another folder"
        ) from None
    if known != facts:
        was, now = (", ".join(f"{k} {v}" for k, v in each.items()) for each in (known, facts))
        raise ArgumentError(
            f"{out}: was made with {was}, not {now}; overwrite it, or choose another folder"
        )
    return images


def _noted(results: Iterable[Made], out: Path, record: dict[str, Any]) -> Iterator[Made]:
    """The results; what could not be made leaves the record, which lists the images of the set."""
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

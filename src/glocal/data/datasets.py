"""Find the image pairs of a data set.

Published RealBlur figures align each image to its target by a homography first; this module does
not. Convert the MATLAB files of SIDD and DND, and LMDB databases, to PNG first.
"""

from collections.abc import Iterable
from pathlib import Path

from glocal.data.layouts import LAYOUTS, Layout, layout_named
from glocal.data.pairing import Pair, UnpairedError, natural_key, stems_of
from glocal.data.suggestions import suggested_layout
from glocal.errors import ArgumentError
from glocal.texts import few_names

__all__ = ["LAYOUTS", "Layout", "Pair", "pairs"]


def pairs(
    root: str | Path, layout: str = "auto", *, noise_sigma: float | None = None
) -> list[Pair]:
    """The pairs of degraded and target images of a data set, in natural order.

    Args:
        root: folder of the data set, or of its test images.
        layout: name of one of `LAYOUTS`, with "-x4" for one of several scales;
            "DEGRADED:TARGET", two folders inside `root` with equal file names, or two templates
            of names, such as "LR/{}x4.png:HR/{}.png", where `{}` stands for what both names share
            and `*` for any text; or "auto", the first layout that matches.
        noise_sigma: for a folder of clean images (Kodak, McMaster, Urban100): standard deviation
            of the Gaussian noise to add, in 1/255.

    Raises:
        ArgumentError: the folder does not match the layout, or files have no counterpart.
    """
    root = Path(root)
    if not root.is_dir():
        raise ArgumentError(f"{root}: no such folder")
    if noise_sigma is not None:
        return _clean(root, layout, noise_sigma)
    try:
        return _guess(root) if layout == "auto" else _find(root, layout)
    except UnpairedError as error:
        better = suggested_layout(root, error.degraded, error.target, error.paired)
        if better is None:
            raise
        raise ArgumentError(f"{error}\n{better}") from None


# --- choosing a layout -----------------------------------------------------------------------


def _find(root: Path, layout: str) -> list[Pair]:
    chosen = layout_named(layout)
    found = chosen.find(root)
    if not found:
        raise ArgumentError(
            f"{root}: does not match the layout {chosen.name}, which has {chosen.expects};\n"
            f"{_contents(root)}"
        )
    return found


def _guess(root: Path) -> list[Pair]:
    for layout in (layout for layout in LAYOUTS if layout.auto):
        found = layout.find(root)
        if not found:
            continue
        others = [
            other.name
            for other in LAYOUTS
            if layout.family and other.family == layout.family
            if other is not layout and (other.find(root) or found) != found
        ]
        if others:
            raise ArgumentError(
                f"{root}: matches the layouts {' and '.join([layout.name, *others])}; choose one "
                "of them as the layout"
            )
        return found
    tried = ", ".join(each.name for each in LAYOUTS if each.auto)
    raise ArgumentError(
        f"{root}: matches no known layout; {_contents(root)}\n"
        f"tried {tried} (--layout NAME shows what is missing for one of them). Give the two "
        "folders as the layout DEGRADED:TARGET, or templates of the names as LR/{}x4:HR/{}; clean "
        "images need a noise_sigma (--noise-sigma), images without targets the layout dnd "
        "(--layout dnd)"
    )


def _clean(root: Path, layout: str, noise_sigma: float) -> list[Pair]:
    if layout != "auto":
        raise ArgumentError(
            f"the layout {layout} has degraded images; noise_sigma is only for clean images"
        )
    if not noise_sigma >= 0:
        raise ArgumentError(f"noise_sigma must be 0 or more (in 1/255), got {noise_sigma}")
    images = stems_of(root, recursive=False)
    if not images:
        raise ArgumentError(f"{root}: has no images to add noise to; {_contents(root)}")
    return [Pair(name, path, path, noise_sigma=noise_sigma) for name, path in images.items()]


def _contents(root: Path) -> str:
    """The contents of a folder as text, with a hint on formats that cannot be read."""
    entries = sorted(
        (path for path in root.iterdir() if not path.name.startswith(".")),
        key=lambda path: natural_key(path.name),
    )
    listed = few_names((f"{path.name}/" if path.is_dir() else path.name for path in entries), 5)
    return f"it contains {listed or 'nothing'}" + _unreadable([root, *entries])


def _unreadable(paths: Iterable[Path]) -> str:
    suffixes = {
        inside.suffix for path in paths if path.is_dir() for inside in [path, *path.iterdir()]
    }
    if ".lmdb" in suffixes:
        return " (LMDB databases cannot be read: convert them to PNG files)"
    if ".mat" in suffixes:
        return " (MATLAB files cannot be read: convert them to PNG files)"
    return ""

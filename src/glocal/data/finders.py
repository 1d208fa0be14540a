"""Functions that find the pairs of a data set, each for one folder structure.

Folder names match case-insensitively. The given folder may also be the parent of the test images
(`GoPro` for `GoPro/test`).
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from glocal.data.pairing import Pair, child_folder, natural_key, pair_folders, stems_of
from glocal.data.templates import PairTemplate, pair_by_template
from glocal.errors import ArgumentError
from glocal.texts import few_names

__all__ = [
    "SCALES",
    "Find",
    "by_scale",
    "by_templates",
    "dnd",
    "dpdd",
    "dpdd_dual",
    "first_of",
    "gopro",
    "hide",
    "named_folders",
    "paired",
    "realblur",
    "reds",
    "sidd",
]

Find = Callable[[Path], list[Pair] | None]
"""Returns the pairs of a folder, or None if it has another structure."""

SCALES = (2, 3, 4, 8, 16)
"""Scales of super-resolution that are looked for."""


def named_folders(degraded: str, target: str) -> Find:
    """Find pairs of equal file names in two folders inside the data set."""

    def find(root: Path) -> list[Pair] | None:
        folders = root / degraded, root / target
        return pair_folders(*folders) if all(folder.is_dir() for folder in folders) else None

    return find


def by_templates(
    *rows: str,
    inside: Iterable[str] = (),
    here: bool = True,
    strict: bool = True,
    centre_crop: bool = False,
) -> Find:
    """Find pairs by the first template that fits, see `glocal.data.templates`.

    Args:
        rows: "DEGRADED:TARGET", relative to the data set.
        inside: folders that may contain the data set.
        here: whether the given folder itself may be the data set.
        strict: the folder of degraded images must contain no others.
        centre_crop: crop targets that are larger than the degraded images.
    """
    templates = [PairTemplate.of(row) for row in rows]
    names = tuple(inside)

    def find(root: Path) -> list[Pair] | None:
        folders = [child for name in names if (child := child_folder(root, name)) is not None]
        for folder in dict.fromkeys((*folders, *(_test_folders(root) if here else ()))):
            for template in templates:
                apart = template.degraded.folder != template.target.folder
                found = pair_by_template(
                    folder, template, strict=strict and apart, recursive=False,
                    centre_crop=centre_crop,
                )  # fmt: skip
                if found:
                    return found
        return None

    return find


def first_of(*finds: Find) -> Find:
    """Find pairs by the first function that finds any."""

    def find(root: Path) -> list[Pair] | None:
        return next((found for each in finds if (found := each(root))), None)

    return find


def by_scale(find_at: Callable[[int], Find], name: str) -> Find:
    """Find the pairs of a super-resolution data set that has one scale."""

    def find(root: Path) -> list[Pair] | None:
        found = {scale: pairs for scale in SCALES if (pairs := find_at(scale)(root))}
        if len(found) > 1:
            choices = ", ".join(f"{name}-x{scale}" for scale in found)
            raise ArgumentError(
                f"{root}: has images of several scales; choose one of the layouts {choices}"
            )
        return next(iter(found.values()), None)

    return find


def _test_folders(root: Path) -> list[Path]:
    """The folder itself, and folders of test images inside it."""
    inside = (child_folder(root, name) for name in ("test", "val", "validation"))
    return [root, *(folder for folder in inside if folder is not None)]


def _subfolders(folder: Path, names: Iterable[tuple[str, str]]) -> Iterator[tuple[Path, Path]]:
    """The existing pairs of subfolders with these names."""
    for first, second in names:
        degraded, target = child_folder(folder, first), child_folder(folder, second)
        if degraded is not None and target is not None:
            yield degraded, target


def _first_pairs(root: Path, names: Iterable[tuple[str, str]]) -> list[Pair] | None:
    listed = list(names)
    found = (both for folder in _test_folders(root) for both in _subfolders(folder, listed))
    return next((pair_folders(*both) for both in found), None)


def gopro(root: Path) -> list[Pair] | None:
    """GoPro: scenes with blurred and sharp frames."""
    for folder in _test_folders(root):
        scenes = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
        found = [
            pair
            for scene in scenes
            if scene.is_dir()
            for blur, sharp in _subfolders(scene, [("blur", "sharp")])
            for pair in pair_folders(blur, sharp, prefix=f"{scene.name}/")
        ]
        if found:
            return found
    return None


def hide(root: Path) -> list[Pair] | None:
    """HIDE: two halves with common targets."""
    target, test = child_folder(root, "GT"), child_folder(root, "test")
    if target is None or test is None:
        return None
    parts = [child_folder(test, "test-close-ups"), child_folder(test, "test-long-shot")]
    return [
        pair
        for part in parts
        if part is not None
        # GT also has the targets of the training images
        for pair in pair_folders(part, target, prefix=f"{part.name}/", allow_unused_targets=True)
    ] or None


def realblur(camera: str) -> Find:
    """RealBlur: the test images of a list, or of a copy, of camera J or R."""

    def find(root: Path) -> list[Pair] | None:
        file = root / f"RealBlur_{camera}_test_list.txt"
        if not file.is_file():
            copy = child_folder(root, f"RealBlur_{camera}", f"RealBlur-{camera}")
            return None if copy is None else paired(copy)
        lines = [line.split() for line in file.read_text("utf-8").splitlines() if line.strip()]
        if any(len(words) < 2 for words in lines):
            raise ArgumentError(f"{file}: every line must name a target and a blurred image")
        missing = [word for words in lines for word in words[:2] if not (root / word).is_file()]
        if missing:
            raise ArgumentError(
                f"{file}: {len(missing)} of its files are missing: {few_names(missing)}"
            )
        return [
            Pair(Path(blur).with_suffix("").as_posix(), root / blur, root / target)
            for target, blur, *_ in lines
        ]

    return find


def reds(degraded: str) -> Find:
    """REDS: every tenth frame of the validation set."""

    def find(root: Path) -> list[Pair] | None:
        found = _first_pairs(root, [(degraded, "val_sharp")])
        # 300 of 3000 frames: the authors of HINet, NAFNet and TLC use those ending in 9
        return found and [pair for pair in found if pair.name.endswith("9")]

    return find


def sidd(root: Path) -> list[Pair] | None:
    """SIDD: validation crops as PNG files."""
    return _first_pairs(root, [("input_crops", "gt_crops"), ("input_crops", "target_crops")])


def _by_order(degraded: Path, target: Path) -> list[Pair]:
    """Pair by name, or by order if names differ: DPDD numbers its views separately."""
    inputs, targets = stems_of(degraded), stems_of(target)
    if inputs.keys() == targets.keys() or len(inputs) != len(targets) or not inputs:
        return pair_folders(degraded, target)
    files = zip(inputs.items(), targets.values(), strict=True)
    return [Pair(stem, path, clean) for (stem, path), clean in files]


def _dpdd_folders(root: Path, view: str) -> tuple[Path, Path] | None:
    for folder in _test_folders(root):
        degraded, target = child_folder(folder, f"input{view}"), child_folder(folder, "target")
        if degraded is not None and target is not None:
            return degraded, target
        sides = child_folder(folder, f"test_{view}"), child_folder(folder, "test_c")
        if sides[0] is not None and sides[1] is not None:
            degraded, target = child_folder(sides[0], "source"), child_folder(sides[1], "target")
            if degraded is not None and target is not None:
                return degraded, target
    return None


def dpdd(root: Path) -> list[Pair] | None:
    """DPDD: the centre view."""
    folders = _dpdd_folders(root, "c")
    return None if folders is None else _by_order(*folders)


def dpdd_dual(root: Path) -> list[Pair] | None:
    """DPDD: the left and the right view of a dual-pixel image."""
    left, right = _dpdd_folders(root, "l"), _dpdd_folders(root, "r")
    if left is None or right is None:
        return None
    lefts, rights = _by_order(*left), _by_order(*right)
    return [
        Pair(one.name, one.degraded, one.target, second=other.degraded)
        for one, other in zip(lefts, rights, strict=True)
    ]


PAIRED_FOLDERS = (
    *(("input", name) for name in ("target", "gt", "groundtruth")),
    *((name, "sharp") for name in ("blur", "blurry", "blurred")),
    *((name, "gt") for name in ("lq", "blur", "hazy", "noisy", "rainy", "rain", "low")),
    *((name, "clear") for name in ("hazy", "haze")),
    *((name, "clean") for name in ("noisy", "hazy", "rainy", "degraded")),
    *((name, "target") for name in ("degraded", "lq", "source", "blur")),
    ("lq", "hq"),
    ("lr", "hr"),
    ("low", "high"),
    ("rain", "norain"),
    ("rain_x2", "norain"),
    ("blur_300", "sharp_300"),
)


def paired(root: Path) -> list[Pair] | None:
    """Two folders with usual names and equal file names."""
    found = [both for folder in _test_folders(root) for both in _subfolders(folder, PAIRED_FOLDERS)]
    if len(found) > 1:
        paths = ((lq.relative_to(root), gt.relative_to(root)) for lq, gt in found)
        listed = few_names(f"{lq.as_posix()}:{gt.as_posix()}" for lq, gt in paths)
        raise ArgumentError(
            f"{root}: has several pairs of folders ({listed}); choose one of them as the layout"
        )
    return pair_folders(*found[0]) if found else None


def dnd(root: Path) -> list[Pair] | None:
    """Images without targets."""
    for folder in filter(None, (child_folder(root, "input"), root)):
        stems = stems_of(folder, recursive=False)
        if stems:
            return [Pair(stem, path, None) for stem, path in stems.items()]
    return None

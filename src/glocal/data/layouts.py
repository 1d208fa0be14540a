"""Layouts of published data sets: folders of degraded and target images.

The layouts follow the releases and the copies distributed with MPRNet, Restormer and NAFNet. Folder
names match case-insensitively. The given folder may also be the parent of the test images (`GoPro`
for `GoPro/test`).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from glocal.data.pairing import Pair, child_folder, natural_key, pair_folders, stems_of
from glocal.errors import ArgumentError
from glocal.texts import few_names

__all__ = ["LAYOUTS", "Layout", "folders_layout"]

Find = Callable[[Path], list[Pair] | None]


@dataclass(frozen=True)
class Layout:
    """The folder structure of a data set.

    Attributes:
        name: name of the layout.
        expects: the folders and files that it looks for, as text.
        find: returns the pairs of a folder, or None if it has another layout; raises
            ArgumentError if files have no counterpart.
        family: layouts of one family can occur in one folder; the user must choose one.
        auto: whether layout "auto" tries it.
    """

    name: str
    expects: str
    find: Find
    family: str = ""
    auto: bool = True


def folders_layout(degraded: str, target: str) -> Layout:
    """The layout with these two folders inside the data set, paired by file names."""

    def find(root: Path) -> list[Pair] | None:
        folders = root / degraded, root / target
        return pair_folders(*folders) if all(folder.is_dir() for folder in folders) else None

    return Layout(f"{degraded}:{target}", f"{degraded}/ and {target}/", find)


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


def _gopro(root: Path) -> list[Pair] | None:
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


def _hide(root: Path) -> list[Pair] | None:
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


def _realblur(camera: str) -> Find:
    def find(root: Path) -> list[Pair] | None:
        file = root / f"RealBlur_{camera}_test_list.txt"
        if not file.is_file():
            return None
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


def _reds(degraded: str) -> Find:
    def find(root: Path) -> list[Pair] | None:
        found = _first_pairs(root, [(degraded, "val_sharp")])
        # 300 of 3000 frames: the authors of HINet, NAFNet and TLC use those ending in 9
        return found and [pair for pair in found if pair.name.endswith("9")]

    return find


def _sidd(root: Path) -> list[Pair] | None:
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


def _dpdd(root: Path) -> list[Pair] | None:
    folders = _dpdd_folders(root, "c")
    return None if folders is None else _by_order(*folders)


def _dpdd_dual(root: Path) -> list[Pair] | None:
    left, right = _dpdd_folders(root, "l"), _dpdd_folders(root, "r")
    if left is None or right is None:
        return None
    lefts, rights = _by_order(*left), _by_order(*right)
    return [
        Pair(one.name, one.degraded, one.target, second=other.degraded)
        for one, other in zip(lefts, rights, strict=True)
    ]


def _sots(inside: str = "") -> Find:
    names = [(hazy, clear) for hazy in ("hazy", "haze", "input") for clear in ("clear", "gt")]

    def find(root: Path) -> list[Pair] | None:
        folder = child_folder(root, inside) if inside else root
        if folder is None:
            return None
        folder = child_folder(folder, "nyuhaze500") or folder
        found = (both for each in _test_folders(folder) for both in _subfolders(each, names))
        for hazy, clear in found:
            scenes = stems_of(clear).keys()
            # several hazy images per scene: 1400_1 and 1400_2, or 0001_0.8_0.2
            if any(stem not in scenes and _scene(stem) in scenes for stem in stems_of(hazy)):
                return pair_folders(
                    hazy,
                    clear,
                    key=lambda stem: stem if stem in scenes else _scene(stem),
                    allow_unused_targets=True,
                    centre_crop=True,
                )
        return None

    return find


def _scene(stem: str) -> str:
    return stem.split("_")[0]


def _rain(root: Path) -> list[Pair] | None:
    names = [("rainy", "."), ("rain", "norain"), ("rainy", "norain"), ("input", "target")]
    for folder in _test_folders(root):
        for first, second in names:
            rainy = child_folder(folder, first)
            clean = folder if second == "." else child_folder(folder, second)
            if rainy is None or clean is None:
                continue
            targets = stems_of(clean, recursive=False)
            stems = stems_of(rainy, recursive=False)
            if any(stem not in targets and _norain(stem) in targets for stem in stems):
                return pair_folders(
                    rainy,
                    clean,
                    key=lambda stem: stem if stem in targets else _norain(stem),
                    # the release has rain streak images beside the clean ones
                    allow_unused_targets=second == ".",
                    recursive=False,
                )
    return None


def _norain(stem: str) -> str:
    return f"no{stem}" if stem.startswith("rain-") else stem


PAIRED_FOLDERS = (
    *(("input", name) for name in ("target", "gt", "groundtruth")),
    *((name, "sharp") for name in ("blur", "blurry", "blurred")),
    *((name, "gt") for name in ("lq", "blur", "hazy", "noisy", "rainy", "rain", "low")),
    *((name, "clear") for name in ("hazy", "haze")),
    *((name, "clean") for name in ("noisy", "hazy", "rainy", "degraded")),
    *((name, "target") for name in ("degraded", "lq", "source", "blur")),
    ("lq", "hq"),
    ("low", "high"),
    ("rain", "norain"),
    ("blur_300", "sharp_300"),
)


def _paired(root: Path) -> list[Pair] | None:
    found = [both for folder in _test_folders(root) for both in _subfolders(folder, PAIRED_FOLDERS)]
    if len(found) > 1:
        paths = ((lq.relative_to(root), gt.relative_to(root)) for lq, gt in found)
        listed = few_names(f"{lq.as_posix()}:{gt.as_posix()}" for lq, gt in paths)
        raise ArgumentError(
            f"{root}: has several pairs of folders ({listed}); choose one of them as the layout"
        )
    return pair_folders(*found[0]) if found else None


def _dnd(root: Path) -> list[Pair] | None:
    for folder in filter(None, (child_folder(root, "input"), root)):
        stems = stems_of(folder, recursive=False)
        if stems:
            return [Pair(stem, path, None) for stem, path in stems.items()]
    return None


LAYOUTS: tuple[Layout, ...] = (
    Layout("gopro", "<scene>/blur/ and <scene>/sharp/", _gopro),
    Layout("hide", "test/test-close-ups/, test/test-long-shot/ and GT/", _hide),
    Layout("realblur-j", "RealBlur_J_test_list.txt", _realblur("J"), "realblur"),
    Layout("realblur-r", "RealBlur_R_test_list.txt", _realblur("R"), "realblur"),
    Layout("reds", "val_blur/ and val_sharp/ (every tenth frame)", _reds("val_blur"), "reds"),
    Layout("reds-jpeg", "val_blur_jpeg/ and val_sharp/", _reds("val_blur_jpeg"), "reds"),
    Layout("sidd", "input_crops/ and gt_crops/ of PNG files", _sidd),
    Layout("dpdd", "inputC/ and target/, or test_c/source/ and test_c/target/", _dpdd),
    Layout("dpdd-dual", "inputL/, inputR/ and target/", _dpdd_dual, auto=False),
    Layout("sots", "hazy/ (1400_1.png) and clear/ (1400.png)", _sots(), "sots"),
    Layout("sots-indoor", "indoor/hazy/ and indoor/clear/", _sots("indoor"), "sots"),
    Layout("sots-outdoor", "outdoor/hazy/ and outdoor/clear/", _sots("outdoor"), "sots"),
    Layout("rain", "rainy/rain-001.png and norain-001.png", _rain),
    Layout("paired", "input/ and target/, lq/ and gt/, blur/ and sharp/ …", _paired),
    Layout("dnd", "images without targets", _dnd, auto=False),
)
"""All layouts, in the order in which "auto" tries them."""

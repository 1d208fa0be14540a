"""Layouts of published data sets: folders of degraded and target images.

The layouts follow the releases and the copies distributed with BasicSR, EDSR, MPRNet, Restormer and
NAFNet. Super-resolution data sets are looked for at each scale; "set5-x4" chooses one.
"""

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from glocal.data.finders import (
    Find,
    by_scale,
    by_templates,
    dnd,
    dpdd,
    dpdd_dual,
    first_of,
    gopro,
    hide,
    named_folders,
    paired,
    realblur,
    reds,
    sidd,
)
from glocal.data.pairing import Pair
from glocal.data.templates import PairTemplate, pair_by_template
from glocal.errors import ArgumentError

__all__ = ["LAYOUTS", "Layout", "layout_named"]


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
        find_at: finds the pairs of one scale; None if the layout has no scales.
    """

    name: str
    expects: str
    find: Find
    family: str = ""
    auto: bool = True
    find_at: Callable[[int], Find] | None = None


def layout_named(name: str) -> Layout:
    """Return the layout of a name, of two folders, or of two templates.

    >>> layout_named("set5-x4").name, layout_named("LR/{}x4:HR/{}").expects
    ('set5-x4', 'LR/{}x4 and HR/{}')

    Raises:
        ArgumentError: there is none.
    """
    if re.search(r"\{\}|[:*]", name):
        template = PairTemplate.of(name)
        degraded, target = name.split(":")
        if re.search(r"\{\}|\*", name):
            return Layout(name, f"{degraded} and {target}", partial(_all_of, template))
        return Layout(name, f"{degraded}/ and {target}/", named_folders(degraded, target))
    layout = next((layout for layout in LAYOUTS if layout.name == name.lower()), None)
    if layout is not None:
        return layout
    scaled = re.fullmatch(r"(.+)-x([1-9]\d*)", name.lower())
    for layout in LAYOUTS if scaled else ():
        if scaled and layout.name == scaled[1] and layout.find_at is not None:
            scale = int(scaled[2])
            expects = layout.expects.replace(_SCALE, str(scale))
            return dataclasses.replace(
                layout, name=name, expects=expects, find=layout.find_at(scale)
            )
    known = ", ".join(layout.name for layout in LAYOUTS)
    raise ArgumentError(
        f"unknown layout {name!r}; use one of {known}, or DEGRADED:TARGET, which may be templates "
        "as LR/{}x4.png:HR/{}.png"
    )


def _all_of(template: PairTemplate, root: Path) -> list[Pair] | None:
    return pair_by_template(root, template, required=True)


# --- super-resolution ------------------------------------------------------------------------

_SCALE = "SCALE"
"""Stands for the scale in the templates of this section."""

_BENCHMARK = (
    "LR_bicubic/XSCALE/{}xSCALE:HR/{}",  # EDSR, SwinIR
    "LR_bicubic/XSCALE/{}:HR/{}",
    "LRbicxSCALE/{}:GTmod12/{}",  # BasicSR
    "LRbicxSCALE/{}:original/{}",
    "image_SRF_SCALE/{}_SRF_SCALE_LR:image_SRF_SCALE/{}_SRF_SCALE_HR",  # Huang et al.
    "{}_SRF_SCALE_LR:{}_SRF_SCALE_HR",
    "LR/XSCALE/{}xSCALE:HR/{}",
    "LR/XSCALE/{}:HR/{}",
    "LR_xSCALE/{}:HR/{}",
    "LRxSCALE/{}:HR/{}",
)
_ALL_SCALES = ("LR/{}xSCALE:HR/{}",)
"""Templates of folders that have the images of several scales."""


def _rcan(folder: str) -> tuple[str, ...]:
    """Templates of the copies distributed with RCAN, which have a common parent."""
    names = f"{folder}/xSCALE/{{}}_LRBI_xSCALE:HR/{folder}/xSCALE/{{}}_HR_xSCALE"
    return f"LR/LRBI/{names}", f"LRBI/{names}"


def _scaled(
    name: str,
    expects: str,
    rows: tuple[str, ...],
    *,
    shared: tuple[str, ...] = (),
    inside: tuple[str, ...] = (),
    family: str = "sr",
) -> Layout:
    def find_at(scale: int) -> Find:
        own, others = (
            [row.replace(_SCALE, str(scale)) for row in templates] for templates in (rows, shared)
        )
        return first_of(
            by_templates(*own, inside=inside), by_templates(*others, inside=inside, strict=False)
        )

    return Layout(name, expects, by_scale(find_at, name), family, find_at=find_at)


def _benchmark(name: str, *folders: str) -> Layout:
    rows = (*_BENCHMARK, *(row for folder in folders for row in _rcan(folder)))
    expects = (
        "HR/ and LR_bicubic/XSCALE/, GTmod12/ and LRbicxSCALE/, or image_SRF_SCALE/"
        + (f", also inside {folders[0]}/" if folders else "")
    )  # fmt: skip
    return _scaled(name, expects, rows, shared=_ALL_SCALES, inside=folders)


def _div2k(kind: str, rows: str, name: str = "") -> Layout:
    return _scaled(
        f"div2k{name and '-'}{name}",
        f"DIV2K_valid_HR/ and DIV2K_valid_LR_{kind}/",
        tuple(f"DIV2K_valid_LR_{row}:DIV2K_valid_HR/{{}}" for row in rows.split()),
        family="div2k",
    )


# --- the other tasks -------------------------------------------------------------------------


def _rows(folders: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """Templates of every pair of folders with every pair of names."""
    return tuple(
        f"{degraded}/{name}:{target}/{target_name}"
        for degraded, target in (both.split(":") for both in folders)
        for name, target_name in (both.split(":") for both in names)
    )


_SOTS = _rows(
    tuple(
        f"{at}{hazy}:{at}{clear}"
        for at in ("", "nyuhaze500/")
        for hazy in ("hazy", "haze", "input")
        for clear in ("clear", "gt")
    ),
    ("{}_*:{}",),
)
_RAIN = _rows(
    (
        "rainy:.", "rain:norain", "rainy:norain", "input:target", "rainy:gt", "rain:gt", "input:gt",
        "rain:target", "rainy:target", "rain_x2:norain", "rain_heavy:norain", "rain/X2:norain",
        "rain:.", ".:.",
    ),
    ("rain-{}:norain-{}", "norain-{}x2:norain-{}", "rain-{}x2:norain-{}"),
)  # fmt: skip
_HAZE = _rows(("hazy:GT", ".:."), ("{}_hazy:{}_GT",))
_RAINDROP = _rows(("data:gt",), ("{}_rain:{}_clean",))


def _lol_v2(half: str, names: str) -> Find:
    parents = ("", "Test/", f"{half}/Test/")
    rows = _rows(tuple(f"{parent}Low:{parent}Normal" for parent in parents), (names,))
    return by_templates(*rows, inside=["LOL-v2", "LOLv2"])


LAYOUTS: tuple[Layout, ...] = (
    Layout("gopro", "<scene>/blur/ and <scene>/sharp/", gopro),
    Layout("hide", "test/test-close-ups/, test/test-long-shot/ and GT/", hide),
    *(
        Layout(
            f"realblur-{camera.lower()}",
            f"RealBlur_{camera}_test_list.txt, or RealBlur_{camera}/ with input/ and target/ "
            "(for all scenes, {}/blur/blur_{}:{}/gt/gt_{} is a layout)",
            realblur(camera), "realblur",
        )
        for camera in "JR"
    ),
    Layout("reds", "val_blur/ and val_sharp/ (every tenth frame)", reds("val_blur"), "reds"),
    Layout("reds-jpeg", "val_blur_jpeg/ and val_sharp/", reds("val_blur_jpeg"), "reds"),
    Layout("sidd", "input_crops/ and gt_crops/ of PNG files", sidd),
    Layout("dpdd", "inputC/ and target/, or test_c/source/ and test_c/target/", dpdd),
    Layout("dpdd-dual", "inputL/, inputR/ and target/", dpdd_dual, auto=False),
    Layout(
        "sots", "hazy/ (1400_1.png) and clear/ (1400.png)",
        by_templates(*_SOTS, centre_crop=True), "sots",
    ),
    *(
        Layout(
            f"sots-{half}", f"{half}/hazy/ and {half}/clear/",
            by_templates(*_SOTS, inside=[half], here=False, centre_crop=True), "sots",
        )
        for half in ("indoor", "outdoor")
    ),
    *(
        Layout(
            name, f"hazy/ (01{kind}_hazy.jpg) and GT/ (01{kind}_GT.jpg)",
            by_templates(*(row.replace("}_", f"}}{kind}_") for row in _HAZE), inside=folders),
            "haze",
        )
        for name, kind, folders in (
            ("o-haze", "_outdoor", ("# O-HAZY NTIRE 2018", "O-HAZE", "O-HAZY")),
            ("i-haze", "_indoor", ("# I-HAZY NTIRE 2018", "I-HAZE", "I-HAZY")),
            ("dense-haze", "", ("Dense-Haze", "Dense_Haze_NTIRE19")),
            ("nh-haze", "", ("NH-HAZE", "NH-HAZE-2020")),
        )
    ),
    *(
        Layout(
            name, "rainy/rain-001.png and norain-001.png, or rain/ and norain/",
            by_templates(*_RAIN, inside=folders), "rain",
        )
        for name, folders in (
            ("rain", ()),
            ("rain100l", ("Rain100L", "rain_data_test_Light", "rain_light_test")),
            ("rain100h", ("Rain100H", "rain_data_test_Heavy", "rain_heavy_test")),
        )
    ),
    *(
        Layout(
            f"raindrop-{half}", f"test_{half}/data/ (0_rain.png) and test_{half}/gt/ (0_clean.png)",
            by_templates(*_RAINDROP, inside=[f"test_{half}"]), "raindrop",
        )
        for half in "ab"
    ),
    Layout(
        "lol-v1", "eval15/low/ and eval15/high/",
        by_templates("low/{}:high/{}", inside=["eval15"], here=False),
    ),
    Layout(
        "lol-v2-real", "Real_captured/Test/Low/ (low00690.png) and Normal/ (normal00690.png)",
        _lol_v2("Real_captured", "low{}:normal{}"), "lol-v2",
    ),
    Layout(
        "lol-v2-synthetic", "Synthetic/Test/Low/ and Synthetic/Test/Normal/",
        _lol_v2("Synthetic", "{}:{}"), "lol-v2",
    ),
    _benchmark("sr"),
    _benchmark("set5", "Set5"),
    _benchmark("set14", "Set14"),
    _benchmark("b100", "B100", "BSD100", "BSDS100"),
    _benchmark("urban100", "Urban100"),
    _benchmark("manga109", "Manga109"),
    _div2k("bicubic", "bicubic/XSCALE/{}xSCALE xSCALE/{}xSCALE"),
    _div2k("unknown", "unknown/XSCALE/{}xSCALE", "unknown"),
    _div2k("mild", "mild/{}xSCALEm", "mild"),
    _div2k("difficult", "difficult/{}xSCALEd", "difficult"),
    _div2k("wild", "wild/{}xSCALEw*", "wild"),
    Layout("paired", "input/ and target/, lq/ and gt/, blur/ and sharp/ …", paired),
    Layout("dnd", "images without targets", dnd, auto=False),
)  # fmt: skip
"""All layouts, in the order in which "auto" tries them."""

"""Layouts whose images are paired by templates: releases, and their copies."""

from pathlib import Path

import pytest
from data_sets import grow, listed

from glocal.data.datasets import pairs
from glocal.data.layouts import LAYOUTS, layout_named
from glocal.errors import ArgumentError

# layout, degraded file, its target, and what else is in the folder
RELEASES = [
    ("realblur-r", "RealBlur_R/input/1.png", "RealBlur_R/target/1.png", ""),
    ("realblur-j", "RealBlur_J/test/input/1.png", "RealBlur_J/test/target/1.png", ""),
    ("set5-x4", "LR_bicubic/X4/babyx4.png", "HR/baby.png", "HR/bird.png"),
    ("set5-x3", "LRbicx3/baby.png", "GTmod12/baby.png", "original/baby.png"),
    ("set5-x2", "LRbicx2/baby.png", "original/baby.png", ""),
    ("set14-x4", "image_SRF_4/img_001_SRF_4_LR.png", "image_SRF_4/img_001_SRF_4_HR.png",
     "image_SRF_4/img_001_SRF_4_bicubic.png"),
    ("b100-x8", "BSD100/LR_bicubic/X8/3096x8.png", "BSD100/HR/3096.png", ""),
    ("urban100-x2", "LR_bicubic/X2/img001x2.png", "HR/img001.png", ""),
    ("manga109-x4", "Manga109/LR_bicubic/X4/ARMSx4.png", "Manga109/HR/ARMS.png", ""),
    ("set5-x4", "LR/LRBI/Set5/x4/baby_LRBI_x4.png", "HR/Set5/x4/baby_HR_x4.png", ""),
    ("sr-x4", "LR/0801x4.png", "HR/0801.png", ""),
    ("div2k-x4", "DIV2K_valid_LR_bicubic/X4/0801x4.png", "DIV2K_valid_HR/0801.png",
     "DIV2K_train_HR/0001.png"),
    ("div2k-x8", "DIV2K_valid_LR_x8/0801x8.png", "DIV2K_valid_HR/0801.png", ""),
    ("div2k-unknown-x3", "DIV2K_valid_LR_unknown/X3/0801x3.png", "DIV2K_valid_HR/0801.png", ""),
    ("div2k-mild-x4", "DIV2K_valid_LR_mild/0801x4m.png", "DIV2K_valid_HR/0801.png", ""),
    ("div2k-wild-x4", "DIV2K_valid_LR_wild/0801x4w2.png", "DIV2K_valid_HR/0801.png", ""),
    ("lol-v1", "eval15/low/1.png", "eval15/high/1.png", "our485/low/2.png our485/high/2.png"),
    ("paired", "low/1.png", "high/1.png", ""),
    ("lol-v2-real", "Real_captured/Test/Low/low00690.png",
     "Real_captured/Test/Normal/normal00690.png", "Real_captured/Train/Low/low00001.png"),
    ("lol-v2-real", "Low/low00690.png", "Normal/normal00690.png", ""),
    ("lol-v2-synthetic", "LOLv2/Synthetic/Test/Low/r1.png", "LOLv2/Synthetic/Test/Normal/r1.png",
     ""),
    ("raindrop-a", "test_a/data/0_rain.png", "test_a/gt/0_clean.png",
     "train/data/1_rain.png train/gt/1_clean.png"),
    ("raindrop-b", "test_b/data/0_rain.jpg", "test_b/gt/0_clean.jpg", ""),
    ("raindrop-a", "data/0_rain.png", "gt/0_clean.png", ""),
    ("rain100l", "Rain100L/rain-001.png", "Rain100L/norain-001.png", ""),
    ("rain100h", "Rain100H/rain_x2/norain-1x2.png", "Rain100H/norain/norain-1.png", ""),
    ("rain", "rain/X2/norain-001x2.png", "norain/norain-001.png", ""),
    ("rain", "rain/rain-1.png", "norain/norain-1.png", ""),
    ("rain", "rainy/rain-1.png", "gt/norain-1.png", ""),
    ("rain", "rain-1.png", "norain-1.png", "rainstreak-1.png"),
    ("sots-indoor", "indoor/hazy/1400_1.png", "indoor/gt/1400.png", ""),
    ("sots-outdoor", "outdoor/hazy/0001_0.8_0.2.jpg", "outdoor/gt/0001.png", ""),
    ("o-haze", "hazy/01_outdoor_hazy.jpg", "GT/01_outdoor_GT.jpg", ""),
    ("i-haze", "I-HAZE/hazy/01_indoor_hazy.JPG", "I-HAZE/GT/01_indoor_GT.jpg", ""),
    ("dense-haze", "hazy/01_hazy.png", "GT/01_GT.png", ""),
    ("nh-haze", "NH-HAZE/01_hazy.png", "NH-HAZE/01_GT.png", ""),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "degraded", "target", "others"), RELEASES)
def test_releases_are_found_and_guessed(
    layout: str, degraded: str, target: str, others: str, tmp_path: Path
) -> None:
    root = grow(tmp_path, f"{degraded} {target} {others}")
    expected = [(degraded, target)]
    for name in (layout, "auto"):
        assert [files[1:] for files in listed(root, pairs(root, name))] == expected


def test_the_folder_of_the_release_of_o_haze(tmp_path: Path) -> None:
    root = tmp_path / "# O-HAZY NTIRE 2018"
    grow(root, "hazy/01_outdoor_hazy.jpg GT/01_outdoor_GT.jpg")
    assert [pair.name for pair in pairs(tmp_path)] == ["01_outdoor_hazy"]


@pytest.mark.parametrize("layout", ["set5", "auto"])
def test_several_scales_ask_for_a_choice(layout: str, tmp_path: Path) -> None:
    root = grow(tmp_path, "LR_bicubic/X2/ax2.png LR_bicubic/X4/ax4.png HR/a.png")
    name = "sr" if layout == "auto" else layout
    with pytest.raises(ArgumentError, match=f"choose one of the layouts {name}-x2, {name}-x4"):
        pairs(root, layout)
    assert [pair.name for pair in pairs(root, "set5-x4")] == ["ax4"]


@pytest.mark.parametrize(
    ("tree", "choices"),
    [
        ("test_a/data/0_rain.png test_a/gt/0_clean.png "
         "test_b/data/0_rain.jpg test_b/gt/0_clean.jpg",
         "raindrop-a and raindrop-b"),
        ("Real_captured/Test/Low/low1.png Real_captured/Test/Normal/normal1.png "
         "Synthetic/Test/Low/1.png Synthetic/Test/Normal/1.png",
         "lol-v2-real and lol-v2-synthetic"),
        ("RealBlur_J/input/1.png RealBlur_J/target/1.png "
         "RealBlur_R/input/1.png RealBlur_R/target/1.png", "realblur-j and realblur-r"),
        ("Set5/LR_bicubic/X2/ax2.png Set5/HR/a.png Set14/LR_bicubic/X2/bx2.png Set14/HR/b.png",
         "set5 and set14"),
        ("Rain100L/rain-1.png Rain100L/norain-1.png Rain100H/rain-1.png Rain100H/norain-1.png",
         "rain100l and rain100h"),
    ],
)  # fmt: skip
def test_several_data_sets_ask_for_a_choice(tree: str, choices: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=f"matches the layouts {choices}; choose one"):
        pairs(grow(tmp_path, tree))


def test_a_missing_low_resolution_image_of_another_scale_is_no_error(tmp_path: Path) -> None:
    root = grow(tmp_path, "LR/ax2.png LR/ax4.png LR/bx4.png HR/a.png HR/b.png")
    assert [pair.name for pair in pairs(root, "sr-x4")] == ["ax4", "bx4"]


def test_equal_names_are_not_shortened(tmp_path: Path) -> None:
    root = grow(tmp_path, "hazy/a.png hazy/a_1.png gt/a.png gt/a_1.png")
    assert [pair.target.stem for pair in pairs(root)] == ["a", "a_1"]


def test_other_files_beside_degraded_images_are_told(tmp_path: Path) -> None:
    root = grow(tmp_path, "data/0_rain.png data/other.png gt/0_clean.png")
    with pytest.raises(ArgumentError, match="1 of 2 have no target: other"):
        pairs(root)


def test_layouts_are_named() -> None:
    assert layout_named("Set5-x4").find_at is not None
    assert layout_named("GoPro").name == "gopro"
    with pytest.raises(ArgumentError, match="unknown layout 'gopro-x4'; use one of gopro, hide"):
        layout_named("gopro-x4")
    with pytest.raises(ArgumentError, match="does not match the layout div2k-x4, which has DIV2K_"):
        pairs(Path(__file__).parent, "div2k-x4")


def test_layouts_have_names_of_their_own() -> None:
    names = [layout.name for layout in LAYOUTS]
    assert len(set(names)) == len(names)
    assert all(layout.expects for layout in LAYOUTS)

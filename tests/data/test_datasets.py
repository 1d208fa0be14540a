"""The pairs of data sets, by layout.

Above 300 lines: trees of files as the releases have them.
"""

import pytest
from data_sets import grow, listed

from glocal.data.datasets import pairs
from glocal.data.pairing import natural_key
from glocal.errors import ArgumentError

# Trees as the releases have them; files are empty, for nothing but names is looked at.
GOPRO = """
test/GOPR0384_11_00/blur/000001.png          test/GOPR0384_11_00/sharp/000001.png
test/GOPR0384_11_00/blur/000002.png          test/GOPR0384_11_00/sharp/000002.png
test/GOPR0384_11_00/blur_gamma/000001.png    test/GOPR0384_11_00/blur_gamma/000002.png
test/GOPR0854_11_00/blur/000001.png          test/GOPR0854_11_00/sharp/000001.png
train/GOPR0372_07_00/blur/000047.png         train/GOPR0372_07_00/sharp/000047.png
"""
HIDE = """
test/test-close-ups/10fromGOPR0939.png       GT/10fromGOPR0939.png
test/test-long-shot/9fromGOPR0950.png        GT/9fromGOPR0950.png
train/1fromGOPR1096.MP4.png                  GT/1fromGOPR1096.MP4.png
"""
REDS = """
val/val_blur/000/00000008.png   val/val_blur/000/00000009.png   val/val_blur/000/00000019.png
val/val_sharp/000/00000008.png  val/val_sharp/000/00000009.png  val/val_sharp/000/00000019.png
"""
SIDD = """
val/input_crops/ValidationBlocksSrgb_10.png  val/gt_crops/ValidationBlocksSrgb_10.png
val/input_crops/ValidationBlocksSrgb_9.png   val/gt_crops/ValidationBlocksSrgb_9.png
"""
DPDD = """
test_c/source/1P0A1793.png  test_c/target/1P0A1792.png
test_c/source/1P0A1801.png  test_c/target/1P0A1800.png
test_l/source/1P0A1793_L.png  test_r/source/1P0A1793_R.png
test_l/source/1P0A1801_L.png  test_r/source/1P0A1801_R.png
"""
DPDD_COPY = """
inputC/1.png  inputL/1.png  inputR/1.png  target/1.png
"""
SOTS = """
hazy/1400_1.png  hazy/1400_10.png  hazy/1400_2.png  hazy/1401_1.png
clear/1400.png   clear/1401.png    clear/1402.png
"""
SOTS_OUTDOOR = """
outdoor/hazy/0001_0.8_0.2.jpg  outdoor/hazy/0002_0.8_0.08.jpg
outdoor/gt/0001.png            outdoor/gt/0002.png
"""
RAIN = """
rainy/rain-001.png  norain-001.png  rainstreak-001.png
rainy/rain-002.png  norain-002.png  rainregion-002.png
"""
RAIN_COPY = """
test/input/rain-1.png  test/target/norain-1.png
"""
COPY = """
test/input/GOPR0384_11_00-000001.png   test/target/GOPR0384_11_00-000001.png
test/input/.hidden.png                 test/input/readme.txt
"""
REALBLUR = """
RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene199/blur/blur_1.png
RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene199/gt/gt_1.png
"""


@pytest.mark.parametrize(
    ("layout", "tree", "expected"),
    [
        (
            "gopro",
            GOPRO,
            [
                (f"{at}/{frame}", f"test/{at}/blur/{frame}.png", f"test/{at}/sharp/{frame}.png")
                for at, frame in [
                    ("GOPR0384_11_00", "000001"),
                    ("GOPR0384_11_00", "000002"),
                    ("GOPR0854_11_00", "000001"),
                ]
            ],
        ),
        (
            "hide",
            HIDE,
            [
                (
                    "test-close-ups/10fromGOPR0939",
                    "test/test-close-ups/10fromGOPR0939.png",
                    "GT/10fromGOPR0939.png",
                ),
                (
                    "test-long-shot/9fromGOPR0950",
                    "test/test-long-shot/9fromGOPR0950.png",
                    "GT/9fromGOPR0950.png",
                ),
            ],
        ),
        (
            "reds",
            REDS,
            [
                (f"000/{frame}", f"val/val_blur/000/{frame}.png", f"val/val_sharp/000/{frame}.png")
                for frame in ("00000009", "00000019")
            ],
        ),
        (
            "reds-jpeg",
            "val_blur_jpeg/000/00000009.jpg val_sharp/000/00000009.png",
            [("000/00000009", "val_blur_jpeg/000/00000009.jpg", "val_sharp/000/00000009.png")],
        ),
        (
            "sidd",
            SIDD,
            [
                (name, f"val/input_crops/{name}.png", f"val/gt_crops/{name}.png")
                for name in ("ValidationBlocksSrgb_9", "ValidationBlocksSrgb_10")
            ],
        ),
        (
            "dpdd",
            DPDD,
            [
                ("1P0A1793", "test_c/source/1P0A1793.png", "test_c/target/1P0A1792.png"),
                ("1P0A1801", "test_c/source/1P0A1801.png", "test_c/target/1P0A1800.png"),
            ],
        ),
        ("dpdd", DPDD_COPY, [("1", "inputC/1.png", "target/1.png")]),
        (
            "sots",
            SOTS,
            [
                ("1400_1", "hazy/1400_1.png", "clear/1400.png"),
                ("1400_2", "hazy/1400_2.png", "clear/1400.png"),
                ("1400_10", "hazy/1400_10.png", "clear/1400.png"),
                ("1401_1", "hazy/1401_1.png", "clear/1401.png"),
            ],
        ),
        (
            "sots-outdoor",
            SOTS_OUTDOOR,
            [
                ("0001_0.8_0.2", "outdoor/hazy/0001_0.8_0.2.jpg", "outdoor/gt/0001.png"),
                ("0002_0.8_0.08", "outdoor/hazy/0002_0.8_0.08.jpg", "outdoor/gt/0002.png"),
            ],
        ),
        (
            "rain",
            RAIN,
            [
                ("rain-001", "rainy/rain-001.png", "norain-001.png"),
                ("rain-002", "rainy/rain-002.png", "norain-002.png"),
            ],
        ),
        ("rain", RAIN_COPY, [("rain-1", "test/input/rain-1.png", "test/target/norain-1.png")]),
        (
            "paired",
            COPY,
            [
                (
                    "GOPR0384_11_00-000001",
                    "test/input/GOPR0384_11_00-000001.png",
                    "test/target/GOPR0384_11_00-000001.png",
                )
            ],
        ),
        (
            "paired",
            "LQ/a/10.PNG LQ/a/9.jpg LQ/b.tif GT/b.tif GT/a/9.png GT/a/10.png",
            [
                ("a/9", "LQ/a/9.jpg", "GT/a/9.png"),
                ("a/10", "LQ/a/10.PNG", "GT/a/10.png"),
                ("b", "LQ/b.tif", "GT/b.tif"),
            ],
        ),
    ],
)
def test_published_layouts_are_found_and_guessed(layout, tree, expected, tmp_path):
    root = grow(tmp_path, tree)
    assert listed(root, pairs(root, layout)) == expected
    assert listed(root, pairs(root)) == expected


def test_realblur_is_read_from_its_list(tmp_path):
    root = grow(tmp_path, REALBLUR)
    blur, sharp = REALBLUR.split()
    (root / "RealBlur_J_test_list.txt").write_text(f"{sharp} {blur}\n")
    expected = [(blur.removesuffix(".png"), blur, sharp)]
    assert listed(root, pairs(root)) == expected
    dark_blur, dark_sharp = (
        name.replace("RealBlur-J_", "RealBlur-R_BM3D_") for name in (blur, sharp)
    )
    grow(root, f"{dark_blur} {dark_sharp}")
    (root / "RealBlur_R_test_list.txt").write_text(f"{dark_sharp} {dark_blur}\n")
    expected = [(dark_blur.removesuffix(".png"), dark_blur, dark_sharp)]
    assert listed(root, pairs(root, "realblur-r")) == expected
    with pytest.raises(
        ArgumentError, match="matches the layouts realblur-j and realblur-r; choose one"
    ):
        pairs(root)
    (root / blur).unlink()
    with pytest.raises(ArgumentError, match=r"1 of its files are missing: .*blur_1.png"):
        pairs(root, "realblur-j")
    (root / "RealBlur_J_test_list.txt").write_text(f"{sharp}\n")
    with pytest.raises(ArgumentError, match="every line must name a target and a blurred image"):
        pairs(root, "realblur-j")


def test_dual_pixel_views(tmp_path):
    root = grow(tmp_path / "a", DPDD)
    found = pairs(root, "dpdd-dual")
    assert [(p.degraded.name, p.second.name, p.target.name) for p in found] == [
        ("1P0A1793_L.png", "1P0A1793_R.png", "1P0A1792.png"),
        ("1P0A1801_L.png", "1P0A1801_R.png", "1P0A1800.png"),
    ]
    root = grow(tmp_path / "b", DPDD_COPY)
    (pair,) = pairs(root, "dpdd-dual")
    assert (pair.degraded.parent.name, pair.second.parent.name) == ("inputL", "inputR")


def test_both_halves_of_sots_ask_for_a_choice(tmp_path):
    root = grow(tmp_path, SOTS_OUTDOOR + "indoor/nyuhaze500/hazy/1400_1.png")
    grow(root, "indoor/nyuhaze500/gt/1400.png")
    assert [pair.name for pair in pairs(root, "sots-indoor")] == ["1400_1"]
    with pytest.raises(
        ArgumentError, match="matches the layouts sots-indoor and sots-outdoor; choose one"
    ):
        pairs(root)


def test_folders_may_be_named(tmp_path):
    root = grow(tmp_path, "one/shaken/a.png one/still/a.png")
    assert [pair.name for pair in pairs(root, "one/shaken:one/still")] == ["a"]
    with pytest.raises(
        ArgumentError, match=r"does not match the layout x:y, which has x/ and y/;\n.* one/"
    ):
        pairs(root, "x:y")


def test_all_frames_of_reds_by_naming_its_folders(tmp_path):
    root = grow(tmp_path, REDS)
    assert len(pairs(root, "val/val_blur:val/val_sharp")) == 3


def test_images_without_targets(tmp_path):
    root = grow(tmp_path, "0010_2.png 0009_1.png")
    assert [(p.name, p.target) for p in pairs(root, "dnd")] == [("0009_1", None), ("0010_2", None)]


def test_clean_images_need_a_noise_level(tmp_path):
    root = grow(tmp_path, "kodim10.png kodim9.png")
    with pytest.raises(ArgumentError, match="clean images need a noise_sigma"):
        pairs(root)
    found = pairs(root, noise_sigma=25)
    assert [pair.name for pair in found] == ["kodim9", "kodim10"]
    assert all(pair.degraded == pair.target and pair.noise_sigma == 25 for pair in found)


@pytest.mark.parametrize(
    ("tree", "options", "message"),
    [
        ("a/b.png", {}, r"matches no known layout; it contains a/\ntried gopro, hide, "),
        (
            "a.png",
            {"layout": "gopro"},
            r"does not match the layout gopro, which has .*;\nit contains a.png",
        ),
        ("a.png", {"layout": "gopr"}, "unknown layout 'gopr'; use one of gopro, hide"),
        ("a.png", {"layout": "paired", "noise_sigma": 5}, "paired has degraded images; noise"),
        ("a.png", {"noise_sigma": -1}, r"0 or more \(in 1/255\), got -1"),
        ("a.txt", {"noise_sigma": 5}, "no images to add noise to; it contains a.txt"),
        ("input/a.png target/a.txt", {}, "target: has no images"),
        (
            "input/a.png input/a.jpg target/a.png",
            {},
            "input: a.jpg and a.png differ only in their suffix",
        ),
        (
            "input/1.png input/2.png input/3.png input/4.png input/5.png target/1.png target/6.png",
            {},
            r"4 of 5 have no target: 2, 3, 4 and 1 more; 1 of 2 targets are not used: 6",
        ),
        (
            "input/img_1.png input/img_2.png target/img_1.png",
            {},
            "1 of 2 have no target: img_2$",
        ),
        (
            "test/input/a.png test/target/a.png val/input/a.png val/target/a.png",
            {},
            r"several pairs of folders \(test/input:test/target, val/input:val/target\)",
        ),
        ("test/input.lmdb/data.mdb", {}, "LMDB databases cannot be read: convert them"),
        ("ValidationNoisyBlocksSrgb.mat", {"layout": "sidd"}, "MATLAB files cannot be read"),
        ("images_srgb/0001.mat info.mat", {"layout": "dnd"}, "cannot be read: convert them to PNG"),
        (
            "val_blur/0/1.png val_sharp/0/1.png",
            {"layout": "reds"},
            "does not match the layout reds",
        ),
        ("hazy/1400_1.png hazy/7_1.png clear/1400.png", {}, "1 of 2 have no target: 7_1$"),
    ],
)
def test_what_does_not_fit_is_told(tree, options, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        pairs(grow(tmp_path, tree), **options)


def test_a_missing_folder(tmp_path):
    with pytest.raises(ArgumentError, match="no such folder"):
        pairs(tmp_path / "none")


def test_numbers_are_sorted_as_numbers():
    assert sorted(["b1", "a10", "a9", "a09x"], key=natural_key) == ["a9", "a09x", "a10", "b1"]

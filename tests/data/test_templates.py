"""Pairs by templates of their names."""

from pathlib import Path

import pytest
from data_sets import grow, listed

from glocal.data.datasets import pairs
from glocal.data.templates import NameTemplate
from glocal.errors import ArgumentError


@pytest.mark.parametrize(
    ("layout", "tree", "expected"),
    [
        (
            "LR/{}x4.png:HR/{}.png",
            "LR/0801x4.png LR/0801x2.png LR/0802x4.PNG HR/0801.png HR/0802.png HR/0803.png",
            [("0801x4", "HR/0801.png"), ("0802x4", "HR/0802.png")],
        ),
        (
            "Low/low{}:Normal/normal{}",
            "Low/low00690.png Normal/normal00690.jpg",
            [("low00690", "Normal/normal00690.jpg")],
        ),
        (
            "hazy/{}_*:clear/{}",
            "hazy/1_0.8_0.2.jpg hazy/1_2.png hazy/a_b_3.png clear/1.png clear/a_b.png",
            [("1_0.8_0.2", "clear/1.png"), ("1_2", "clear/1.png"), ("a_b_3", "clear/a_b.png")],
        ),
        ("{}_rain:{}_clean", "0_rain.png 0_clean.png", [("0_rain", "0_clean.png")]),
        ("LR/{}x4:HR", "LR/a/1x4.png HR/a/1.png", [("a/1x4", "HR/a/1.png")]),
        (
            "{}/blur/blur_{}:{}/gt/gt_{}",
            "s1/blur/blur_1.png s1/gt/gt_1.png s2/blur/blur_1.png s2/gt/gt_1.png",
            [("s1/blur/blur_1", "s1/gt/gt_1.png"), ("s2/blur/blur_1", "s2/gt/gt_1.png")],
        ),
        ("burst/{}:gt.png", "burst/1.png burst/2.png gt.png", [("1", "gt.png"), ("2", "gt.png")]),
        ("lr/x4/{}:hr/{}", "LR/X4/1.png HR/1.png", [("1", "HR/1.png")]),
    ],
)
def test_names_are_paired(layout: str, tree: str, expected: list, tmp_path: Path) -> None:
    root = grow(tmp_path, tree)
    found = listed(root, pairs(root, layout))
    assert [(name, target) for name, _, target in found] == expected


@pytest.mark.parametrize(
    ("layout", "tree", "message"),
    [
        ("a:b:c", "a/1.png", "needs two sides, DEGRADED:TARGET"),
        ("LR/{}x4", "LR/1x4.png", "needs two sides"),
        ("LR/x4:", "LR/1x4.png", "needs two sides"),
        ("LR/{}:HR/{}{}", "LR/1.png", "has 1 {} on the left and 2 on the right"),
        ("LR/{}x4:HR/{}", "LR/1x4.png LR/2x4.png HR/1.png", "1 of 2 have no target: 2x4"),
        ("LR/{}x4:HR/{}", "LR/1x4.png HR/2.png", "1 of 1 have no target: 1x4"),
        ("LR/{}x4:HR/{}", "LR/1x2.png HR/1.png", "does not match the layout LR/{}x4:HR/{}"),
        ("LR/{}x4:GT/{}", "LR/1x4.png HR/1.png", r"it contains HR/, LR/"),
        (
            "LR/{}:HR/{}",
            "LR/1.png LR/1.jpg HR/1.png",
            "1.jpg and 1.png differ only in their suffix",
        ),
    ],
)
def test_what_does_not_fit_is_told(layout: str, tree: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=message):
        pairs(grow(tmp_path, tree), layout)


def test_a_suffix_chooses_among_formats(tmp_path: Path) -> None:
    root = grow(tmp_path, "LR/1.png LR/1.jpg HR/1.png")
    (pair,) = pairs(root, "LR/{}.jpg:HR/{}")
    assert pair.degraded.name == "1.jpg"


def test_special_characters_are_themselves() -> None:
    template = NameTemplate.of("a (1)/{}+[x].png")
    assert template.folder == "a (1)"
    assert template.shared("0+[x].png") == [("0",)]
    assert template.shared("00x.png") == []

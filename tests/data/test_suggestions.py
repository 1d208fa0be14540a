"""Suggestions of templates where names nearly match."""

from pathlib import Path

import pytest
from data_sets import grow

from glocal.data.datasets import pairs
from glocal.errors import ArgumentError


@pytest.mark.parametrize(
    ("tree", "layout", "pairs_of"),
    [
        ("LR/0801x4.png HR/0801.png", "LR/{}x4:HR/{}", "1 pair of 1"),
        ("LR/birdx4.png LR/babyx4.png HR/bird.png HR/baby.png", "LR/{}x4:HR/{}", "2 pairs of 2"),
        ("LR/low00690.png HR/normal00690.png", "LR/low{}:HR/normal{}", "1 pair of 1"),
        ("LR/1_rain.png LR/10_rain.png HR/1_clean.png HR/10_clean.png",
         "LR/{}_rain:HR/{}_clean", "2 pairs of 2"),
        ("LR/img_001_SRF_4_LR.png HR/img_001_SRF_4_HR.png",
         "LR/{}_LR:HR/{}_HR", "1 pair of 1"),
        ("LR/7_1.png LR/7_2.png LR/8_1.png HR/7.png HR/8.png", "LR/{}_*:HR/{}", "3 pairs of 3"),
        ("LR/rain-1.png LR/rain-2.png LR/x.png HR/norain-1.png HR/norain-2.png",
         "LR/{}:HR/no{}", "2 pairs of 3"),
    ],
)  # fmt: skip
def test_near_names_are_suggested(tree: str, layout: str, pairs_of: str, tmp_path: Path) -> None:
    root = grow(tmp_path, tree)
    with pytest.raises(ArgumentError) as caught:
        pairs(root, "LR:HR")
    assert f'--layout "{layout}" would give {pairs_of} images' in str(caught.value)


def test_the_suggestion_gives_the_pairs_that_it_names(tmp_path: Path) -> None:
    root = grow(tmp_path, "in_put/a/1_x4.png in_put/a/2_x4.png target/a/1.png target/a/2.png")
    with pytest.raises(ArgumentError) as caught:
        pairs(root, "in_put:target")
    layout = str(caught.value).split('"')[1]
    assert [pair.name for pair in pairs(root, layout)] == ["a/1_x4", "a/2_x4"]


@pytest.mark.parametrize(
    "tree",
    ["LR/photo1.png HR/photo2.png", "LR/a.png HR/b.png", "LR/1.png LR/2.png HR/1.png HR/22.png"],
)
def test_other_names_are_not(tree: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError) as caught:
        pairs(grow(tmp_path, tree), "LR:HR")
    assert "would give" not in str(caught.value)

from typing import Any

import numpy as np
import pytest
import torch
from evaluations import Gate

import glocal
from glocal.errors import ArgumentError
from glocal.study.evaluation.ways import ways

TRAIN = 32


@pytest.fixture
def model() -> Gate:
    return Gate()


def test_ways_are_those_of_restore_and_localize(model: Gate) -> None:
    image = np.random.default_rng(0).random((70, 90, 3), np.float32)
    full, stitched, tlc, wide = ways(
        model, TRAIN, windows=(None, (40, 50)), tile=(32, 24), overlap=8, blend="cut"
    )
    assert [way.name for way in (full, stitched, tlc, wide)] == [
        "full image",
        "crop-and-stitch 32x24/8 cut",
        "TLC 48",
        "TLC 40x50",
    ]
    assert [way.converted for way in (full, stitched, tlc, wide)] == [False, False, True, True]
    expected = [
        glocal.restore(model, image),
        glocal.restore(model, image, tiles=glocal.Tiles((32, 24), overlap=8, blend="cut")),
        glocal.restore(glocal.localize(model, TRAIN), image),
        glocal.restore(glocal.localize(model, TRAIN, window=(40, 50)), image),
    ]
    for way, restored in zip((full, stitched, tlc, wide), expected, strict=True):
        np.testing.assert_array_equal(way.restore(image), restored)
        np.testing.assert_array_equal(
            way.restore(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0), restored
        )
    assert len({restored.tobytes() for restored in expected}) == 4


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"windows": ()}, ArgumentError, "at least one window"),
        ({"windows": (None, 48)}, ArgumentError, "TLC 48 more than once"),
        ({"tile": 8, "overlap": 8}, ArgumentError, "tiles of 8 cannot overlap by 8 pixels"),
        ({"blend": "soft"}, ArgumentError, "blend is one of linear, mean, cut, got 'soft'"),
        ({"keep_global": "nothing"}, ArgumentError, "no global operation in 'nothing'"),
    ],
)
def test_impossible_ways(model: Gate, options: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        ways(model, TRAIN, **options)


def test_a_way_without_tiles_never_takes_to_them(monkeypatch, model: Gate) -> None:
    def short(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("glocal.inference.blending._stitch", short)
    with pytest.raises(glocal.GlocalError, match="not enough memory on cpu"):
        ways(model, TRAIN)[0].restore(np.zeros((300, 300, 3), np.float32))

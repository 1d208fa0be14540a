from typing import Any

import numpy as np
import pytest
import torch
from evaluations import Gate

import glocal
from glocal.errors import ArgumentError
from glocal.study.evaluation.methods import methods_of
from glocal.study.options import ConversionOptions

TRAIN = 32


@pytest.fixture
def model() -> Gate:
    return Gate()


def test_methods_are_those_of_restore_and_localize(model: Gate) -> None:
    image = np.random.default_rng(0).random((70, 90, 3), np.float32)
    full, stitched, tlc, wide = methods_of(
        model, TRAIN, windows=(None, (40, 50)), tiles=glocal.Tiles((32, 24), overlap=8, blend="cut")
    )
    assert [method.name for method in (full, stitched, tlc, wide)] == [
        "full image",
        "crop-and-stitch 32x24/8 cut",
        "TLC 48",
        "TLC 40x50",
    ]
    assert [method.converted for method in (full, stitched, tlc, wide)] == [
        False,
        False,
        True,
        True,
    ]
    expected = [
        glocal.restore(model, image),
        glocal.restore(model, image, tiles=glocal.Tiles((32, 24), overlap=8, blend="cut")),
        glocal.restore(glocal.localize(model, TRAIN), image),
        glocal.restore(glocal.localize(model, TRAIN, window=(40, 50)), image),
    ]
    for method, restored in zip((full, stitched, tlc, wide), expected, strict=True):
        np.testing.assert_array_equal(method.restore(image), restored)
        np.testing.assert_array_equal(
            method.restore(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0), restored
        )
    assert len({restored.tobytes() for restored in expected}) == 4


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"windows": ()}, ArgumentError, "windows is empty"),
        ({"windows": (None, 48)}, ArgumentError, "two windows are equal: both give TLC 48"),
        (
            {"tiles": glocal.Tiles(8, overlap=8)},
            ArgumentError,
            "tiles of 8 cannot overlap by 8 pixels",
        ),
        ({"tiles": glocal.Tiles(8, halo=2)}, ArgumentError, "leave out halo"),
        (
            {"conversion": ConversionOptions("nothing")},
            ArgumentError,
            "keep_global: no global operation .*'nothing'",
        ),
    ],
)
def test_wrong_arguments_are_refused(model: Gate, options: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        methods_of(model, TRAIN, **options)


def test_a_method_without_tiles_never_uses_tiles(monkeypatch, model: Gate) -> None:
    def short(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("glocal.inference.blending._stitch", short)
    with pytest.raises(glocal.GlocalError, match="not enough memory on cpu"):
        methods_of(model, TRAIN)[0].restore(np.zeros((300, 300, 3), np.float32))

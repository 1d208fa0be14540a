from typing import Any

import numpy as np
import pytest
import torch
from evaluations import Gate

import glocal
from glocal.errors import ArgumentError
from glocal.inference.settings import Settings
from glocal.study.evaluation.methods import method_of, methods_of
from glocal.study.options import ConversionOptions

TRAIN = 32


@pytest.fixture
def model() -> Gate:
    return Gate()


def test_the_window_of_a_network_is_the_default(model: Gate) -> None:
    model.glocal_train_size, model.glocal_window = TRAIN, 40
    assert [each.name for each in methods_of(model, ways=["windows"])] == ["TLC 40"]


def test_methods_are_those_of_restore_and_localize(model: Gate) -> None:
    image = np.random.default_rng(0).random((70, 90, 3), np.float32)
    methods = methods_of(
        model,
        TRAIN,
        ways=("full", "stitch", "windows", "crops", Settings("auto", stride=0.5)),
        windows=(None, (40, 50)),
        strides=(1.0, 2.0),
        tiles=glocal.Tiles((32, 24), overlap=8, blend="cut"),
    )
    assert [method.name for method in methods] == [
        "full image",
        "crop-and-stitch 32x24/8 cut",
        "TLC 48",
        "TLC 40x50",
        "crops 32",
        "crops 32 stride 2",
        "auto 48 stride 0.5",
    ]
    assert [method.plan is not None for method in methods] == [False, False, *[True] * 5]
    sparse, auto = methods[-2:]
    assert auto.settings == Settings("auto", TRAIN, stride=0.5)
    assert "crops of 32x32, at most 64x64 apart, in input pixels (1 local" in sparse.protocol
    expected = [
        glocal.restore(model, image),
        glocal.restore(model, image, tiles=glocal.Tiles((32, 24), overlap=8, blend="cut")),
        glocal.restore(glocal.localize(model, TRAIN), image),
        glocal.restore(glocal.localize(model, TRAIN, window=(40, 50)), image),
        glocal.restore(glocal.localize(model, TRAIN, statistics="crops"), image),
        glocal.restore(glocal.localize(model, TRAIN, statistics="crops", stride=2.0), image),
        glocal.restore(glocal.localize(model, TRAIN, statistics="auto", stride=0.5), image),
    ]
    for method, restored in zip(methods, expected, strict=True):
        np.testing.assert_array_equal(method.restore(image), restored)
        np.testing.assert_array_equal(
            method.restore(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0), restored
        )
    assert len({restored.tobytes() for restored in expected}) == 6  # a pool of "auto" is TLC's


def test_overlaps_are_pixels_or_fractions(model: Gate) -> None:
    methods = methods_of(model, (32, 24), ways=["stitch"], overlaps=(None, 0.5, 6))
    assert [method.name.split()[1] for method in methods] == ["32x24/4x3", "32x24/16x12", "32x24/6"]
    image = np.random.default_rng(0).random((70, 90, 3), np.float32)
    expected = glocal.restore(model, image, tiles=glocal.Tiles((32, 24), overlap=0.5))
    np.testing.assert_array_equal(methods[1].restore(image), expected)


def test_what_stays_global_adds_up() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.InstanceNorm2d(3), torch.nn.Conv2d(3, 3, 1), torch.nn.InstanceNorm2d(3)
    )
    method = method_of(network, Settings("crops", TRAIN, keep_global="0"), ConversionOptions("2"))
    assert method.plan is not None
    assert [row.status for row in method.plan.rows] == ["kept", "kept"]
    assert method.settings.keep_global == ("2", "0")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"windows": ()}, ArgumentError, "windows is empty"),
        ({"ways": ()}, ArgumentError, "ways is empty"),
        ({"ways": ("crop",)}, ArgumentError, "way must be one of full, windows, crops"),
        ({"strides": (0.0,)}, ArgumentError, "stride must be a number above 0"),
        ({"overlaps": (1.0,)}, ArgumentError, "overlap=1.0"),
        ({"windows": (None, 48)}, ArgumentError, "two methods are equal: TLC 48 is given twice"),
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

    monkeypatch.setattr("glocal.inference.blending._stitched", short)
    with pytest.raises(glocal.GlocalError, match="not enough memory on cpu"):
        methods_of(model, TRAIN)[0].restore(np.zeros((300, 300, 3), np.float32))

"""What is measured, how often, and on which images."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn
from tunings import TRAIN, Gate, GateAndNorm, dataset_in, photo

import glocal
from glocal.errors import ArgumentError, GlocalWarning
from glocal.inference.restore import restore
from glocal.inference.settings import Settings
from glocal.metrics import metric_named
from glocal.study.dataset import open_dataset
from glocal.study.evaluation.methods import method_of
from glocal.study.options import ConversionOptions, ScoreOptions
from glocal.study.tuning.measuring import Measuring, Quality
from glocal.study.tuning.search import tune


@pytest.fixture
def dataset(tmp_path):
    return dataset_in(tmp_path / "set")


def test_a_log_is_continued(dataset, tmp_path: Path, monkeypatch) -> None:
    model, log = Gate(), tmp_path / "log.jsonl"
    data = dataset(glocal.localize(model, TRAIN, window=40), 2)
    restored = []

    def counting(network, image, **options):
        if image.shape[:2] != (TRAIN, TRAIN):  # no warm-up
            restored.append(image.shape)
        return restore(network, image, **options)

    monkeypatch.setattr("glocal.study.evaluation.methods.restore", counting)

    def interrupt(stage, done, total):
        if (stage, done) == ("windows", 5):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(model, data, TRAIN, log=log, progress=interrupt)
    before = len(restored)
    assert before == 2 + 5
    assert len(log.read_text().splitlines()) == 1 + before
    resumed = tune(model, data, TRAIN, log=log)
    lines = len(log.read_text().splitlines()) - 1
    assert len(restored) == lines
    assert resumed == tune(model, data, TRAIN, log=log)
    assert len(restored) == lines
    assert resumed == tune(model, data, TRAIN)
    with pytest.raises(ArgumentError, match=r"was made with metric psnr, not ssim"):
        tune(model, data, TRAIN, log=log, score=ScoreOptions(("ssim",)))


def test_equal_plans_run_once(dataset, monkeypatch) -> None:
    # windows of 9 to 96 pixels are at most six on a map of a sixteenth: fewer than are tried
    model = nn.Sequential(nn.Conv2d(3, 12, 16, 16), nn.InstanceNorm2d(12), nn.Upsample(None, 16))
    model.append(nn.Conv2d(12, 3, 1))
    calls = []

    def counting(network, image, **options):
        # the images themselves are scored too, and the first run of a network is not timed
        if image.shape[:2] != (TRAIN, TRAIN) and type(network) is not nn.Identity:
            calls.append(image.shape)
        return restore(network, image, **options)

    monkeypatch.setattr("glocal.study.evaluation.methods.restore", counting)
    found = tune(model, dataset(nn.Identity(), 1), TRAIN)
    windows = [trial.window for trial in found.trials if trial.way == "windows"]
    local = [glocal.localize(model, TRAIN, window=window) for window in windows]
    distinct = {glocal.plan_of(each).rows for each in local}
    others = [trial for trial in found.trials if trial.way != "windows"]
    assert [trial.way for trial in others] == ["crops"] * 2 + ["stitch"]
    assert len(distinct) < len(windows)
    assert len(calls) == 1 + len(distinct) + len(others)


def test_crops_are_the_centres(dataset, monkeypatch) -> None:
    seen = []

    def spy(network, image, **options):
        seen.append(image)
        return restore(network, image, **options)

    monkeypatch.setattr("glocal.study.evaluation.methods.restore", spy)
    found = tune(Gate(), dataset(Gate(), 1, (201, 100)), TRAIN, crop=(97, 300))
    assert {image.shape for image in seen} == {(97, 100, 3), (TRAIN, TRAIN, 3)}
    np.testing.assert_allclose(seen[1], photo(0, (201, 100))[52:149], atol=1e-5)
    assert found.original[0] > 40  # target and image are cropped alike


def test_a_part_of_a_rewritten_block_cannot_stay_global_alone(dataset):
    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.InstanceNorm2d(3)

        def forward(self, x):
            return self.norm(x) * x.mean((2, 3), keepdim=True)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = Body()
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, x):
            return x + self.pool(x) + self.body(x)

    model, conversion = Network(), ConversionOptions(allow_global=True)
    plan = glocal.scan(model, TRAIN)
    score = Quality(metric_named("psnr"))
    images = open_dataset(dataset(nn.Identity(), 1), purpose="test").samples
    measuring = Measuring(model, (TRAIN, TRAIN), images, None, conversion, plan, score)
    assert measuring.measure(measuring.original) is not None
    window = Settings("windows", TRAIN, window=40)
    assert measuring.measure(replace(window, keep_global=("body.norm",))) is None
    assert measuring.measure(replace(window, keep_global=("pool",))) is not None


def test_what_takes_nothing_from_crops_is_the_same_on_windows(dataset):
    model = GateAndNorm()
    plan = glocal.scan(model, TRAIN)
    images = open_dataset(dataset(nn.Identity(), 1), purpose="test").samples
    score = Quality(metric_named("psnr"))
    measuring = Measuring(model, (TRAIN, TRAIN), images, None, ConversionOptions(), plan, score)
    options = {"window": 40, "keep_global": ("norm",)}
    windows = measuring.measure(Settings("windows", TRAIN, **options))
    auto = measuring.measure(Settings("auto", TRAIN, **options))
    assert (auto.scores, auto.seconds) == (windows.scores, windows.seconds)  # not measured again


def test_crops_of_larger_targets_fit(dataset):
    model = nn.Upsample(scale_factor=2)
    images = open_dataset(dataset(model, 1, (131, 100)), purpose="test").samples
    score = Quality(metric_named("psnr"))
    measuring = Measuring(model, (TRAIN, TRAIN), images, (96, 97), ConversionOptions(), None, score)
    (value,) = measuring.measure(measuring.original).scores
    assert value > 45  # one pixel aside it is below 35
    assert measuring.sizes == {"0": (96, 97)}


@pytest.mark.parametrize(("value", "score"), [(1.0, 100.0), (float("nan"), 0.0)])
def test_scores_are_finite(value, score):
    class Times(nn.Module):
        def forward(self, x):
            return x * value

    quality = Quality(metric_named("psnr"))
    image = photo(0, (40, 40))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GlocalWarning)
        method = method_of(Times(), Settings("full", TRAIN))
        assert quality(method, image, image).score == score

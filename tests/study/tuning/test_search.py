"""`tune`: constructed cases in which the best window, or none, is known."""

import json

import pytest
import torch
from torch import nn
from tunings import TRAIN, Gate, GateAndNorm, dataset_in

import glocal
from glocal.data.datasets import Pair, pairs
from glocal.errors import ArgumentError, ConversionError
from glocal.study.options import ConversionOptions, ScoreOptions
from glocal.study.tuning.search import tune


@pytest.fixture
def dataset(tmp_path):
    return dataset_in(tmp_path / "set")


def test_the_original_is_recommended_if_global_is_right(dataset):
    model = Gate()
    found = tune(model, dataset(model), TRAIN)
    assert found.use_original
    assert found.verdict == "worse"
    assert found.window is None
    assert found.fitted_gain.mean < -3
    assert found.advice().startswith("Use the original network on the whole image: even with the")
    assert f"TLC is worse by {-found.fitted_gain.mean:.2f} ± " in found.advice()
    kept = glocal.localize(model, **found.arguments)
    assert not glocal.plan_of(kept).with_status("local")
    x = torch.rand(1, 3, 100, 100)
    assert torch.equal(kept(x), model(x))


@pytest.mark.parametrize("window", [24, 56])
def test_the_window_is_found_if_local_is_right(dataset, window):
    model = Gate()
    found = tune(model, dataset(glocal.localize(model, TRAIN, window=window)), TRAIN)
    assert not found.use_original
    assert found.verdict == "better"
    assert found.gain.low > 1
    assert window / 1.15 < found.window[0] < window * 1.15
    assert found.keep_global == ()
    assert found.window == glocal.plan_of(glocal.localize(model, **found.arguments)).window
    assert found.advice().startswith(f"Use TLC with a window of {found.window[0]}x")
    assert found.advice().endswith("on held-out images.")


def test_what_is_best_global_stays_global(dataset):
    model = GateAndNorm()
    teacher = glocal.localize(model, TRAIN, window=40, keep_global="norm")
    found = tune(model, dataset(teacher), TRAIN)
    assert found.verdict == "better"
    assert found.keep_global == ("norm",)
    assert 34 < found.window[0] < 46
    rows = glocal.plan_of(glocal.localize(model, **found.arguments)).rows
    assert {row.path: row.status for row in rows} == {"pool": "local", "norm": "kept"}
    assert "and instance norm left global" in found.advice()


def test_operations_can_be_left_out_of_the_search(dataset):
    model = GateAndNorm()
    data = dataset(glocal.localize(model, TRAIN, window=40, keep_global="norm"))
    found = tune(model, data, TRAIN, operations=False)
    assert {trial.keep_global for trial in found.trials} == {()}
    kept = tune(model, data, TRAIN, conversion=ConversionOptions("norm"), limit=2)
    assert kept.keep_global == ("norm",)
    assert kept.verdict in ("better", "not significant")


def test_no_operations_no_effect(dataset):
    found = tune(nn.Conv2d(3, 3, 3, padding=1), dataset(nn.Identity(), 1), TRAIN)
    assert found.verdict == "nothing to convert"
    assert found.use_original
    assert found.trials == ()
    assert found.advice().startswith("The network has no global operations to convert")
    glocal.localize(nn.Conv2d(3, 3, 3, padding=1), **found.arguments)


def test_nothing_to_convert_if_all_is_left_global(dataset):
    found = tune(Gate(), dataset(Gate(), 1), TRAIN, conversion=ConversionOptions("*"))
    assert found.verdict == "nothing to convert"
    assert found.advice().startswith("keep_global covers all operations that could be converted")


def test_the_protocol_is_stated(dataset):
    data = dataset(Gate(), 1)
    found = tune(Gate(), data, TRAIN, score=ScoreOptions(round8=False, border=3))
    assert found.protocol.startswith("psnr: PSNR in dB over all pixels of R, G and B.")
    assert "neither clamped nor rounded, 3 pixels cut from each border" in found.protocol
    assert found.protocol in str(found).splitlines()
    blind = tune(Gate(), [Pair("a", pairs(data)[0].degraded, None)], TRAIN)
    assert blind.protocol.startswith("distance: Wasserstein")


def test_images_smaller_than_every_window(dataset):
    found = tune(Gate(), dataset(Gate(), 2, (40, 40)), 256)
    assert found.verdict == "images too small"
    assert found.use_original
    assert found.advice().startswith("Every window covers every image")
    assert found.trials == ()


def test_one_pair_validates_nothing(dataset):
    model = GateAndNorm()
    teacher = glocal.localize(model, TRAIN, window=40)
    found = tune(model, dataset(teacher, 1), TRAIN)
    assert found.verdict == "single image"
    assert not found.use_original
    assert found.gain == found.fitted_gain
    assert 34 < found.window[0] < 46
    assert found.keep_global == ()
    assert "The gain is not validated" in found.advice()
    assert json.loads(found.to_json())["gain"]["half_width"] is None


def test_without_targets_the_statistics_choose(dataset):
    found = tune(Gate(), pairs(dataset(None, 2) / "degraded", "dnd"), TRAIN)
    assert found.metric == "distance"
    assert not found.use_original
    # statistics of windows of the training size are those of crops, by definition
    assert 0.7 < found.window[0] / TRAIN < 1.4
    assert all(score <= 0 for trial in found.trials for score in trial.scores)
    assert "closer to the statistics of crops" in found.advice()
    assert "proxy" in str(found)
    assert "proxy" in json.loads(found.to_json())["advice"]


def test_height_and_width_may_differ(dataset):
    model = Gate()
    data = dataset(glocal.localize(model, TRAIN, window=(24, 80)), 2)
    joint = tune(model, data, TRAIN)
    found = tune(model, data, TRAIN, per_axis=True)
    assert found.best.mean > joint.best.mean + 1
    assert found.window[0] < 34
    assert found.window[1] > 55


def test_progress_counts_images(dataset):
    calls = []
    model = GateAndNorm()
    tune(model, dataset(model, 2), TRAIN, progress=lambda *each: calls.append(each))
    assert calls[:3] == [("full image", 0, 2), ("full image", 1, 2), ("full image", 2, 2)]
    assert calls[3] == ("windows", 0, 14)
    stages = list(dict.fromkeys(stage for stage, _, _ in calls))
    assert stages[:4] == ["full image", "windows", "windows, finer", "operations"]
    for stage in stages[:2]:
        counts = [(done, total) for name, done, total in calls if name == stage]
        assert counts == [(done, counts[0][1]) for done in range(counts[0][1] + 1)]


def test_limited_images_are_evenly_spaced(dataset):
    assert tune(Gate(), dataset(Gate(), 4), TRAIN, limit=2).images == ("0", "2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 95}, "crops of 95x95 are too small to compare windows; give at least 3 ×"),
        ({"limit": 0}, "limit must be at least 1 image"),
        ({"score": ScoreOptions("lpips")}, "no metric is called 'lpips'"),
        ({"train_size": 0}, "train_size must be a positive int"),
        ({"conversion": ConversionOptions("nothing")}, "no global operation in 'nothing'"),
    ],
)
def test_wrong_arguments_are_refused(dataset, options, message):
    with pytest.raises(ArgumentError, match=message):
        tune(Gate(), dataset(Gate(), 1), **{"train_size": TRAIN, **options})


def test_all_images_or_none_have_targets(dataset):
    data = dataset(Gate(), 2)
    lonely = Pair("lonely", pairs(data)[0].degraded, None)
    with pytest.raises(ArgumentError, match="1 of 3 images have no target, such as lonely"):
        tune(Gate(), [*pairs(data), lonely], TRAIN)
    with pytest.raises(ArgumentError, match="two images of the data have the same name"):
        tune(Gate(), [*pairs(data), *pairs(data)], TRAIN)
    with pytest.raises(ArgumentError, match="there are no images to tune on"):
        tune(Gate(), [], TRAIN)


def test_unconvertible_operations_need_allow_global(dataset):
    class Classifier(Gate):
        def forward(self, x):
            return super().forward(x) * (1 + self.pool(x).argmax(1, keepdim=True))

    with pytest.raises(ConversionError, match="allow_global=True"):
        tune(Classifier(), dataset(Gate(), 1), TRAIN)


def test_groups_that_cannot_stay_global_alone_are_noted(dataset, monkeypatch) -> None:
    model = GateAndNorm()

    def refusing(network, train, **options):
        if "norm" in options["keep_global"]:
            raise ConversionError("a part of 'body' is to stay global")
        return glocal.localize(network, train, **options)

    monkeypatch.setattr("glocal.study.tuning.measuring.localize", refusing)
    found = tune(model, dataset(glocal.localize(model, TRAIN, window=40), 2), TRAIN)
    note = "Not tried: instance norm cannot be left global without other operations."
    assert found.notes == (note,)
    assert note in str(found)
    assert {trial.keep_global for trial in found.trials} == {(), ("pool",)}
    assert 34 < found.window[0] < 46

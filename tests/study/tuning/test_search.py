"""`tune`: constructed cases in which the best window, or none, is known."""

import json

import pytest
from torch import nn
from tunings import TRAIN, Gate, GateAndNorm, dataset_in, photo, write

import glocal
from glocal.data.datasets import Pair, pairs
from glocal.errors import ArgumentError, ConversionError
from glocal.inference.settings import Settings
from glocal.study.evaluation.methods import method_of
from glocal.study.options import ConversionOptions, ScoreOptions
from glocal.study.tuning.search import tune

pytestmark = pytest.mark.usefixtures("unproven")


@pytest.fixture
def dataset(tmp_path):
    return dataset_in(tmp_path / "set")


def test_the_original_is_recommended_if_global_is_right(dataset):
    model = Gate()
    found = tune(model, dataset(model), TRAIN)
    assert found.use_original
    assert found.verdict == "worse"
    assert found.fitted_gain.mean < -3
    assert found.advice().startswith("Use the original network on the whole image: even the")
    assert f"is worse by {-found.fitted_gain.mean:.2f} dB (n = 3)." in found.advice()
    assert found.settings == Settings("full", TRAIN)
    assert {trial.way for trial in found.trials} == {"windows", "crops", "stitch"}


@pytest.mark.parametrize("way", ["crops", "auto", "stitch"])
def test_the_way_is_found_that_made_the_targets(dataset, way):
    model = GateAndNorm()
    # another window than that of "auto" would serve as well
    wanted = Settings(way, TRAIN, window=48) if way == "auto" else Settings(way, TRAIN)
    data = dataset(None)
    for seed in range(3):
        degraded = photo(seed)
        target = glocal.restore(wanted.network(model), degraded, tiles=wanted.tiles())
        write(data / f"target/{seed}.png", target)
    found = tune(model, data, TRAIN, operations=False)
    assert found.settings.way == way
    assert found.original_seconds > 0
    assert all(trial.seconds > 0 for trial in found.trials)
    image = photo(3)
    restored = glocal.restore(found.settings.network(model), image, tiles=found.settings.tiles())
    expected = glocal.restore(wanted.network(model), image, tiles=wanted.tiles())
    assert abs(restored - expected).max() < 0.02


@pytest.mark.slow
def test_without_crops_there_is_no_such_way(dataset):
    class Rows(nn.Module):
        def forward(self, x):
            return x + 0.5 * x.mean(3, keepdim=True)

    conversion = ConversionOptions(verify=False)
    found = tune(Rows(), dataset(nn.Identity(), 1), TRAIN, conversion=conversion)
    assert {trial.way for trial in found.trials} == {"windows", "stitch"}


def test_crops_that_the_proof_refuses_are_noted(dataset, monkeypatch):
    monkeypatch.setattr(
        "glocal.conversion.localize.refuted", lambda converted, paths: dict.fromkeys(paths, "no")
    )
    found = tune(Gate(), dataset(Gate(), 1), TRAIN)
    assert {trial.way for trial in found.trials} == {"windows", "stitch"}
    assert found.notes == (
        "Not tried: statistics from crops, which the proof of the conversion refuses.",
    )


@pytest.mark.parametrize("window", [24, 56])
def test_the_window_is_found_if_local_is_right(dataset, window):
    model = Gate()
    found = tune(model, dataset(glocal.localize(model, TRAIN, window=window)), TRAIN)
    assert not found.use_original
    assert found.verdict == "few images"
    assert found.gain.low > 1
    settings = found.settings
    assert settings.way == "windows"
    assert window / 1.15 < settings.window[0] < window * 1.15
    assert settings.keep_global == ()
    assert settings.window == glocal.plan_of(settings.network(model)).window
    assert found.advice().startswith(f"Use TLC with a window of {settings.window[0]}x")
    assert "dB (n = 3) over the whole image, on held-out images." in found.advice()


def test_what_is_best_global_stays_global(dataset):
    model = GateAndNorm()
    teacher = glocal.localize(model, TRAIN, window=40, keep_global="norm")
    found = tune(model, dataset(teacher), TRAIN)
    assert found.settings.keep_global == ("norm",)
    assert 34 < found.settings.window[0] < 46
    rows = glocal.plan_of(found.settings.network(model)).rows
    assert {row.path: row.status for row in rows} == {"pool": "local", "norm": "kept"}
    assert "and instance norm left global" in found.advice()


def test_operations_can_be_left_out_of_the_search(dataset):
    model = GateAndNorm()
    data = dataset(glocal.localize(model, TRAIN, window=40, keep_global="norm"))
    found = tune(model, data, TRAIN, operations=False)
    assert {trial.keep_global for trial in found.trials} == {()}
    kept = tune(model, data, TRAIN, conversion=ConversionOptions("norm"), limit=2)
    assert kept.settings.keep_global == ("norm",)
    assert kept.verdict == "few images"


def test_no_operations_no_effect(dataset):
    model = nn.Conv2d(3, 3, 3, padding=1)
    found = tune(model, dataset(model, 1), TRAIN)
    assert found.verdict == "nothing to convert"
    assert found.use_original
    assert found.trials == ()
    assert found.advice().startswith("The network has no global operations to convert")
    assert found.settings == Settings("full", TRAIN)


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
    assert 34 < found.settings.window[0] < 46
    assert found.settings.keep_global == ()
    assert "The gain is not validated" in found.advice()
    assert json.loads(found.to_json())["gain"]["half_width"] is None


def test_without_targets_the_statistics_choose(dataset):
    found = tune(Gate(), pairs(dataset(None, 2) / "degraded", "dnd"), TRAIN)
    assert found.metric == "distance"
    assert not found.use_original
    # statistics of windows of the training size are those of crops, by definition
    assert 0.7 < found.settings.window[0] / TRAIN < 1.4
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
    assert found.settings.window[0] < 34
    assert found.settings.window[1] > 55


def test_progress_counts_images(dataset):
    calls = []
    model = GateAndNorm()
    tune(model, dataset(model, 2), TRAIN, progress=lambda *each: calls.append(each))
    assert calls[:3] == [("full image", 0, 2), ("full image", 1, 2), ("full image", 2, 2)]
    assert calls[3] == ("windows", 0, 14)
    stages = list(dict.fromkeys(stage for stage, _, _ in calls))
    others = ["crops", "auto", "crop-and-stitch", "operations"]
    assert stages[:7] == ["full image", "windows", "windows, finer", *others]
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

    def refusing(network, settings, *options):
        if "norm" in settings.keep_global:
            raise ConversionError("a part of 'body' is to stay global")
        return method_of(network, settings, *options)

    monkeypatch.setattr("glocal.study.tuning.measuring.method_of", refusing)
    found = tune(model, dataset(glocal.localize(model, TRAIN, window=40), 2), TRAIN)
    note = "Not tried: instance norm cannot be left global without other operations."
    assert found.notes == (note,)
    assert note in str(found)
    assert {trial.keep_global for trial in found.trials} == {(), ("pool",)}
    assert 34 < found.settings.window[0] < 46

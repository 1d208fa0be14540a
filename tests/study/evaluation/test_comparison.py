import dataclasses
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluations import Gate, paired_set
from pyiqa_stub import pyiqa_stub
from torch import nn

import glocal
from glocal.data.datasets import pairs
from glocal.data.pixels import read_pair
from glocal.errors import ArgumentError, ConversionError, GlocalWarning
from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.metrics import psnr, ssim_3d
from glocal.study.evaluation.comparison import evaluate
from glocal.study.evaluation.methods import Method
from glocal.study.evaluation.pictures import Pictures
from glocal.study.evaluation.records import DEGRADED
from glocal.study.options import ConversionOptions, RunOptions, ScoreOptions

pytestmark = pytest.mark.usefixtures("unproven")

TRAIN = 32
NAMES = ("full image", "crop-and-stitch 32/4 linear", "TLC 48", "crops 32")


measured = partial(evaluate, score=ScoreOptions(("psnr",)))


@pytest.fixture
def model() -> Gate:
    return Gate()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return paired_set(tmp_path / "set", 56, 72)


@pytest.fixture
def restores(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    """Name and size of every restoration of a whole image, warm-ups left out."""
    calls: list[tuple[str, tuple[int, ...]]] = []
    original: Callable[..., Any] = Method.restore

    def restore(self: Method, image: Any, **options: Any) -> Any:
        if image.shape[:2] != (TRAIN, TRAIN):
            calls.append((self.name, image.shape))
        return original(self, image, **options)

    monkeypatch.setattr(Method, "restore", restore)
    return calls


def test_records_are_the_metrics_of_what_restore_gives(model: Gate, data: Path) -> None:
    evaluation = evaluate(model, data, TRAIN)
    assert evaluation.failures == ()
    assert evaluation.images == evaluation.compared == ("a", "b")
    assert evaluation.methods == (DEGRADED, *NAMES)
    networks = {
        "full image": model,
        "TLC 48": glocal.localize(model, TRAIN),
        "crops 32": glocal.localize(model, TRAIN, statistics="crops"),
    }
    records = {(record.image, record.method): record for record in evaluation.records}
    assert len(records) == len(evaluation.records) == 10
    for pair in pairs(data):
        degraded, target, _ = read_pair(pair)
        restored = {method: glocal.restore(net, degraded) for method, net in networks.items()}
        restored[DEGRADED] = degraded
        restored[NAMES[1]] = glocal.restore(model, degraded, tiles=TRAIN)
        for method, image in restored.items():
            record = records[pair.name, method]
            assert record.size == (56, 72)
            assert record.metrics["psnr"] == psnr(image, target, round8=True)
            assert record.metrics["ssim-3d"] == ssim_3d(image, target, round8=True)
            assert (record.seconds is None) == (method == DEGRADED)
            assert record.seconds is None or record.seconds > 0


def test_images_are_prepared_for_metrics_by_the_options(model: Gate, data: Path) -> None:
    found = evaluate(
        model, str(data), TRAIN, score=ScoreOptions(("psnr-y", "psnr"), round8=False, border=8)
    )
    degraded, target, _ = read_pair(pairs(data)[0])
    restored = glocal.restore(model, degraded)
    record = next(each for each in found.records if each.method == "full image")
    assert list(record.metrics) == ["psnr-y", "psnr"]
    assert record.metrics["psnr"] == psnr(restored, target, border=8)
    assert found.protocol.border == 8


def test_without_global_operations_tlc_equals_the_full_image(data: Path) -> None:
    torch.manual_seed(0)
    evaluation = measured(nn.Conv2d(3, 3, 3, padding=1), data, TRAIN)
    gain = evaluation.paired("TLC 48", "psnr")
    assert gain.mean == gain.half_width == 0
    assert "nothing to convert" in evaluation.protocol.plans["TLC 48"]
    assert "it has no global operations" in evaluation.protocol.methods["TLC 48"]


def test_several_windows_are_compared(model: Gate, data: Path) -> None:
    evaluation = measured(model, data, TRAIN, ways=("full", "windows"), windows=(24, 1000))
    assert evaluation.methods[1:] == ("full image", "TLC 24", "TLC 1000")
    # a window that covers the image makes the operation global
    assert evaluation.paired("TLC 1000", "psnr").mean == pytest.approx(0, abs=1e-4)
    assert abs(evaluation.paired("TLC 24", "psnr").mean) > 1e-3


def test_the_user_chooses_the_ways(model: Gate, data: Path) -> None:
    found = measured(model, data, TRAIN, ways=("stitch", "crops"), overlaps=(0.5, 0.75))
    names = ("crop-and-stitch 32/16 linear", "crop-and-stitch 32/24 linear", "crops 32")
    assert found.methods == (DEGRADED, *names)
    assert list(found.protocol.plans) == ["crops 32"]
    assert found.paired("crops 32", "psnr") is None  # there is no full image


def test_images_without_targets_are_timed_only(model: Gate, data: Path) -> None:
    evaluation = measured(model, pairs(data / "input", "dnd"), TRAIN)
    assert evaluation.metrics == ()
    assert evaluation.methods == NAMES
    assert [dict(record.metrics) for record in evaluation.records] == [{}] * 8
    assert evaluation.seconds("TLC 48") > 0


def test_an_interrupted_run_continues(model: Gate, data: Path, tmp_path: Path, restores) -> None:
    log = tmp_path / "out/records.jsonl"
    whole = measured(model, data, TRAIN, log=log)
    assert len(restores) == 8
    assert restores[:4] == [(name, (56, 72, 3)) for name in NAMES]
    lines = log.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 10
    assert json.loads(lines[0])["command"] == "evaluate"

    log.write_bytes(b"".join(lines[:3]) + lines[3][:20])  # the last line is torn
    restores.clear()
    seen: list[tuple[int, int]] = []
    again = measured(model, data, TRAIN, log=log, progress=lambda *done: seen.append(done))
    assert restores[0][0] == NAMES[1]
    assert len(restores) == 7
    assert seen == [(0, 2), (1, 2), (2, 2)]
    assert again.protocol == whole.protocol
    assert again.records[:2] == whole.records[:2]
    assert [r.metrics for r in again.records] == [r.metrics for r in whole.records]

    restores.clear()
    assert measured(model, data, TRAIN, log=log) == again
    assert restores == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_size": 64}, r"train_size \[32, 32\], not \[64, 64\]"),
        ({"score": ScoreOptions(("ssim",))}, "metrics"),
        ({"tiles": glocal.Tiles(blend="cut")}, "methods"),
        ({"conversion": ConversionOptions("gate.0")}, "methods .* plans"),
    ],
)
def test_another_protocol_is_refused(
    model: Gate, data: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    log = tmp_path / "records.jsonl"
    measured(model, data, TRAIN, log=log)
    before = log.read_bytes()
    options = {"train_size": TRAIN, **change}
    with pytest.raises(ArgumentError, match=message):
        measured(model, data, log=log, **options)
    assert log.read_bytes() == before
    measured(model, data, log=log, overwrite=True, **options)
    assert log.read_bytes() != before


def test_other_weights_and_other_data_are_refused(model: Gate, data: Path, tmp_path: Path) -> None:
    log = tmp_path / "records.jsonl"
    measured(model, data, TRAIN, log=log)
    with pytest.raises(ArgumentError, match="image_count"):
        measured(model, pairs(data)[:1], TRAIN, log=log)
    with torch.no_grad():
        model.out.bias[0] += 1e-6
    with pytest.raises(ArgumentError, match="weights_sha256"):
        measured(model, data, TRAIN, log=log)


def test_an_image_that_changed_is_measured_again(model: Gate, data: Path, tmp_path: Path) -> None:
    log, pictures = tmp_path / "records.jsonl", Pictures(tmp_path / "pictures")
    first = measured(model, data, TRAIN, log=log, pictures=pictures)
    path = data / "input/b.png"
    about, image = path.stat(), images.read(path)
    images.write(path, dataclasses.replace(image, pixels=image.pixels[::-1]))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    with pytest.warns(GlocalWarning, match=r"1 of 2 images changed .* measured again: b"):
        again = measured(model, data, TRAIN, log=log, pictures=pictures)
    truth = measured(model, data, TRAIN)
    for image_name, same in (("a", True), ("b", False)):
        old, new, true = (
            [r.metrics for r in each.records if r.image == image_name]
            for each in (first, again, truth)
        )
        assert (old == new) is same
        assert new == true
    lines = log.read_bytes()
    assert measured(model, data, TRAIN, log=log, pictures=pictures).records == again.records
    assert log.read_bytes() == lines


def test_a_bad_image_is_a_failure_and_the_others_are_measured(model: Gate, data: Path) -> None:
    (data / "input/a.png").write_bytes(b"nothing")
    evaluation = measured(model, data, TRAIN)
    (failure,) = evaluation.failures
    assert (failure.image, failure.method) == ("a", "")
    assert "is not an image" in failure.error
    assert evaluation.images == ("a", "b")
    assert evaluation.compared == ("b",)


def test_a_method_that_fails_does_not_stop_the_others(
    model: Gate, data: Path, tmp_path: Path
) -> None:
    class Small(Gate):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if min(x.shape[-2:]) > 40:
                raise RuntimeError("of\nits own")
            return super().forward(x)

    model.__class__ = Small
    log = tmp_path / "records.jsonl"
    evaluation = measured(model, data, TRAIN, log=log)
    assert {each.method for each in evaluation.failures} == {"full image", "TLC 48", "crops 32"}
    assert all(
        "RuntimeError: of its own (test_comparison.py:" in each.error
        for each in evaluation.failures
    )
    assert evaluation.methods == (DEGRADED, NAMES[1])
    assert len(evaluation.compared) == 2
    assert "its own" not in log.read_text()  # the next run tries again


def test_missing_pictures_are_written(model: Gate, data: Path, tmp_path: Path, restores) -> None:
    log, pictures = tmp_path / "records.jsonl", Pictures(tmp_path / "images", 1)
    whole = measured(model, data, TRAIN, log=log, pictures=pictures)
    folder = tmp_path / "images/1-a"
    assert sorted(path.name for path in folder.iterdir()) == [
        "crop-and-stitch-32-4-linear.png", "crops-32.png", "degraded.png", "full-image.png",
        "target.png", "tlc-48.png",
    ]  # fmt: skip
    assert len(list((tmp_path / "images").iterdir())) == 1
    degraded, target, _ = read_pair(pairs(data)[0])
    picture = images.read(folder / "full-image.png").pixels
    assert psnr(picture / 255, target.astype(float)) == pytest.approx(
        whole.records[1].metrics["psnr"], abs=1e-4
    )
    np.testing.assert_array_equal(
        images.read(folder / "degraded.png").pixels, np.rint(degraded * 255)
    )
    lines = log.read_bytes()
    for missing in ("tlc-48", "target"):
        (folder / f"{missing}.png").unlink()
    restores.clear()
    assert measured(model, data, TRAIN, log=log, pictures=pictures) == whole
    assert [name for name, _ in restores] == ["TLC 48"]
    assert len(list(folder.iterdir())) == 6
    assert log.read_bytes() == lines


class Upscale(nn.Module):
    """A network of scale 2 with a global operation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.InstanceNorm2d(12), nn.PixelShuffle(2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def test_super_resolution_targets_are_cropped_and_counted() -> None:
    rng = np.random.default_rng(0)
    images = [
        (rng.random((40, 48, 3), np.float32), rng.random((*size, 3), np.float32))
        for size in ((81, 97), (80, 96))
    ]
    evaluation = measured(Upscale(), images, TRAIN, ways=("full",))
    assert evaluation.failures == ()
    restored = glocal.restore(Upscale(), images[0][0])
    expected = psnr(restored, images[0][1][:80, :96], round8=True)
    assert evaluation.records[0].metrics["psnr"] == expected
    assert evaluation.sentences()[-1].startswith("On 1 of 2 images the target was cropped")


def test_a_target_of_another_scale_is_a_failure() -> None:
    image = np.zeros((40, 48, 3), np.float32)
    evaluation = measured(Upscale(), [(image, np.zeros((160, 192, 3)))], TRAIN, ways=("full",))
    assert "same shape" in evaluation.failures[0].error


def test_an_image_with_alpha_is_a_failure(model: Gate) -> None:
    image = np.zeros((40, 48, 3), np.float32)
    evaluation = measured(model, [(image, np.zeros((40, 48, 4)))], TRAIN, ways=("full",))
    assert "the last probably alpha" in evaluation.failures[0].error


def test_a_value_that_is_not_a_number_is_a_failure(model: Gate, data: Path) -> None:
    class Broken(Gate):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * (float("nan") if x.shape[-1] > 40 else 1)

    model.__class__ = Broken
    evaluation = measured(model, data, TRAIN, ways=("full",), limit=1)
    assert [each.method for each in evaluation.failures] == ["full image"]


def test_metrics_without_reference_need_no_targets(
    model: Gate, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", pyiqa_stub())
    found = evaluate(
        model, data / "input", TRAIN, ways=("full", "windows"), score=ScoreOptions("niqe")
    )
    assert found.methods == (DEGRADED, "full image", "TLC 48")
    assert found.protocol.lower_is_better == ("niqe",)
    degraded = images.read(data / "input/a.png").pixels / 255
    assert found.records[0].metrics["niqe"] == pytest.approx(degraded.mean(), abs=1e-5)
    both = evaluate(model, data, TRAIN, ways=("full",), score=ScoreOptions(("psnr", "lpips")))
    assert list(both.records[0].metrics) == ["psnr", "lpips"]
    with pytest.raises(ArgumentError, match="matches no known layout"):
        evaluate(model, data / "input", TRAIN, score=ScoreOptions("lpips"))


def test_the_model_stays_as_it_was(model: Gate, data: Path) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    measured(model, data, TRAIN)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_super_resolution_is_measured_without_a_degraded_row(data: Path) -> None:
    for name in ("a", "b"):
        pixels = images.read(data / "target" / f"{name}.png").pixels
        images.write(data / "target" / f"{name}.png", Image(pixels.repeat(2, 0).repeat(2, 1)))
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.InstanceNorm2d(12), nn.PixelShuffle(2)
    )
    evaluation = evaluate(network, data, TRAIN, score=ScoreOptions("psnr", border=2))
    assert evaluation.methods == NAMES
    assert evaluation.mean("TLC 48", "psnr").count == 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"score": ScoreOptions(("lpips",))}, ArgumentError, "no metric is called 'lpips'"),
        ({"data": []}, ArgumentError, "no images"),
        ({"data": "none"}, ArgumentError, "none: no such folder"),
        ({"run": RunOptions(output=1), "model": lambda: Two()}, ArgumentError, "output=1"),
        ({"model": lambda: nn.Sequential(nn.Conv2d(3, 3, 1), Median())}, ConversionError, "2 of 2"),
    ],
)
def test_wrong_arguments_are_refused(
    model: Gate, data: Path, change: dict[str, Any], error: type, message: str
) -> None:
    chosen = change.pop("model", lambda: model)()
    arguments: dict[str, Any] = {"data": data, "train_size": TRAIN, **change}
    with pytest.raises(error, match=message):
        measured(chosen, **arguments)


def test_two_images_of_one_name_are_refused(model: Gate, data: Path) -> None:
    with pytest.raises(ArgumentError, match="two images of the data have the same name"):
        measured(model, pairs(data) * 2, TRAIN)


class Two(nn.Module):
    """A network with one output in a list."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x]


class Median(nn.Module):
    """What has no local form: which values are chosen depends on all of them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        order = x.flatten(2).sort(-1).values
        return x + order[..., :1, None]

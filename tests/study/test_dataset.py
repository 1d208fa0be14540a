"""The kinds of data that the studies read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluations import Gate, paired_set

import glocal
from glocal.data.datasets import Pair, pairs
from glocal.data.pixels import read_pair
from glocal.errors import ArgumentError
from glocal.study.dataset import open_dataset
from glocal.study.options import ConversionOptions, ScoreOptions

TRAIN = 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return paired_set(tmp_path / "set", 56, 72)


def arrays(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    return [read_pair(pair)[:2] for pair in pairs(folder)]


def as_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)


def test_all_kinds_hold_the_same_images(folder: Path) -> None:
    images = arrays(folder)
    kinds: list[Any] = [
        folder,
        str(folder),
        pairs(folder),
        images,
        [list(pair) for pair in images],
        [tuple((255 * each).round().astype(np.uint8) for each in pair) for pair in images],
        [tuple(as_tensor(each) for each in pair) for pair in images],
        [tuple(as_tensor(each)[None] for each in pair) for pair in images],
    ]
    for kind in kinds:
        dataset = open_dataset(kind, purpose="test")
        assert [sample.has_target for sample in dataset.samples] == [True, True]
        for sample, pair in zip(dataset.samples, images, strict=True):
            for got, wanted in zip(sample.read()[:2], pair, strict=True):
                assert got.dtype == np.float32
                np.testing.assert_allclose(got, wanted, atol=1e-7)


@pytest.mark.parametrize("study", ["evaluate", "analyze", "tune"])
def test_the_studies_agree_on_files_and_arrays(folder: Path, study: str) -> None:
    model = Gate()
    model.glocal_train_size = TRAIN
    options: dict[str, Any] = {
        "evaluate": {"score": ScoreOptions("psnr")},
        "analyze": {"crops_per_image": 3},
        "tune": {"operations": False},
    }[study]
    by_file, by_array = (
        getattr(glocal, study)(model, data, limit=1, **options) for data in (folder, arrays(folder))
    )
    if study == "evaluate":
        assert by_file.methods == by_array.methods
        assert [r.metrics for r in by_file.records] == [r.metrics for r in by_array.records]
        assert by_array.images == ("1",)
        assert by_array.protocol.train_size == (TRAIN, TRAIN)
        assert by_file.protocol.data_sha256 != by_array.protocol.data_sha256
    elif study == "analyze":
        assert by_file.to_json() == by_array.to_json()
    else:
        assert by_file.trials == by_array.trials
        assert by_file.original == by_array.original


@pytest.mark.parametrize("study", ["evaluate", "analyze", "tune"])
def test_an_unknown_training_size_is_an_error(folder: Path, study: str) -> None:
    with pytest.raises(ArgumentError, match="the training size of this Gate is unknown"):
        getattr(glocal, study)(Gate(), folder)


def test_images_without_targets(folder: Path) -> None:
    degraded = [image for image, _ in arrays(folder)]
    dataset = open_dataset(np.stack(degraded), purpose="test")
    assert dataset.names == ("1", "2")
    assert [sample.has_target for sample in dataset.samples] == [False, False]
    assert dataset.samples[1].read()[1] is None
    with pytest.raises(ArgumentError, match="matches no known layout"):
        open_dataset(folder / "input", purpose="test")
    found = open_dataset(folder / "input", purpose="test", needs_targets=False)
    assert found.names == ("a", "b")


def test_an_array_is_read_when_it_is_used(folder: Path) -> None:
    images = [image for image, _ in arrays(folder)]
    seen: list[int] = []

    class Lazy(list):
        def __getitem__(self, index):
            seen.append(index)
            return images[index]

    shifts = glocal.analyze(Gate(), Lazy(images), TRAIN, crops_per_image=2)
    assert shifts.image_count == 2
    assert seen == [0, 0, 1]  # the first tells the kind of data


def test_digests_tell_data_apart(folder: Path) -> None:
    images = arrays(folder)
    digests = {
        open_dataset(data, purpose="test").digest()
        for data in (images, images[:1], images[::-1], [(a, a) for a, _ in images])
    }
    assert len(digests) == 4
    assert open_dataset(images, purpose="test").digest() in digests


def test_limits_are_evenly_spaced(folder: Path) -> None:
    images = [np.full((4, 4, 3), n / 12, np.float32) for n in range(12)]
    dataset = open_dataset(images, 3, purpose="test")
    assert dataset.names == ("01", "05", "09")
    assert dataset.samples[1].read()[0][0, 0, 0] == pytest.approx(4 / 12)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "there are no images to test"),
        (np.zeros((4, 4, 3)), r"data is one array of shape \(4, 4, 3\); pass a list of images"),
        ([("a.png", "b.png")], r"data\[0\] is str, str; expected an image or a tuple"),
        ([Path("a.png")], r"data\[0\] is .*Path"),
        ([(np.zeros((4, 4, 3)),) * 3], r"data\[0\] is ndarray, ndarray, ndarray"),
        ([np.zeros((4, 4, 3), np.int64)], "array of int64; expected uint8"),
        ([torch.zeros(2, 3, 4, 4)], "got 2 images in one tensor"),
        ([np.zeros((3, 8, 9), np.uint8)], r"looks like \(c, h, w\); pass image.transpose"),
        ([np.full((8, 9, 3), 200.0)], r"from 200 to 200 are not in \[0, 1\]; divide by 255"),
        ([Pair("a", Path("a.png"), None)] * 2, "two images of the data have the same name"),
    ],
)
def test_wrong_data_is_refused(data: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        [sample.read() for sample in open_dataset(data, purpose="test").samples]


def test_options_are_values() -> None:
    assert ConversionOptions("a") == ConversionOptions(["a"])
    assert ConversionOptions(name for name in "ab").patterns == ("a", "b")
    assert ScoreOptions("psnr") == ScoreOptions(["psnr"])
    assert ScoreOptions(["psnr", "psnr"]).names == ("psnr",)
    record = ConversionOptions(precision="fast", window_overlap=glocal.Overlap(0.5)).record()
    assert record["precision"] == "fast"
    assert record["window_overlap"] == {"share": 0.5, "blend": "mean"}


def test_another_conversion_is_another_log(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"log": tmp_path / "log.jsonl", "score": ScoreOptions("psnr")}
    glocal.evaluate(Gate(), folder, TRAIN, **options)
    fast = ConversionOptions(precision="fast")
    with pytest.raises(ArgumentError, match="precision exact, not fast"):
        glocal.evaluate(Gate(), folder, TRAIN, conversion=fast, **options)

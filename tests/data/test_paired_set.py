import json
from pathlib import Path

import numpy as np
import pytest

from glocal.data.datasets import pairs
from glocal.data.degrade import degrade
from glocal.data.paired_set import RECORD, image_seed, make_paired_set, plan_paired_set
from glocal.errors import ArgumentError, ImageError
from glocal.images import image_files as images
from glocal.images.image_files import Image


def photo(path: Path, bits: int = 8, channels: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dtype = np.uint8 if bits == 8 else np.uint16
    rng = np.random.default_rng(len(path.name))
    images.write(path, Image(rng.integers(0, 2**bits, (20, 30, channels)).astype(dtype)))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.jpg", "in/c.tif"):
        photo(tmp_path / "clean" / name)
    return tmp_path / "clean"


def files(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != RECORD
    }


def statuses(*arguments: object, **options: object) -> list[str]:
    return [made.status for made in make_paired_set(*arguments, **options)]


def test_pairs_lie_where_data_sets_have_them(folder, tmp_path):
    out = tmp_path / "set"
    made = list(make_paired_set(folder, out, "noise", 10, seed=3))
    assert [each.status for each in made] == ["made"] * 3
    assert [each.name for each in made] == ["a", "b", "in/c"]
    found = pairs(out)
    assert [pair.name for pair in found] == ["a", "b", "in/c"]
    for pair, name in zip(found, ("a.png", "b.jpg", "in/c.tif"), strict=True):
        clean = images.read(folder / name).pixels
        np.testing.assert_array_equal(images.read(pair.target).pixels, clean)
        noisy = degrade(clean / 255, "noise", 10, seed=image_seed(3, pair.name))
        expected = np.rint(noisy.clip(0, 1) * 255)
        assert np.abs(images.read(pair.degraded).pixels - expected).max() <= 1
        assert (images.read(pair.degraded).pixels == expected).mean() > 0.999


@pytest.mark.parametrize("kind", ["motion", "noise", "haze", "poisson"])
def test_company_and_order_do_not_matter(kind, folder, tmp_path):
    assert statuses(folder, tmp_path / "all", kind) == ["made"] * 3
    photo(tmp_path / "few/b.jpg")
    assert statuses(tmp_path / "few", tmp_path / "few-set", kind) == ["made"]
    assert statuses(folder / "b.jpg", tmp_path / "one-set", kind) == ["made"]
    whole = files(tmp_path / "all")
    for name in ("few-set", "one-set"):
        assert files(tmp_path / name) == {
            key: whole[key] for key in ("degraded/b.png", "target/b.png")
        }
    other = tmp_path / "other"
    statuses(folder, other, kind, seed=1)
    assert files(other)["target/b.png"] == whole["target/b.png"]
    assert files(other)["degraded/b.png"] != whole["degraded/b.png"]


@pytest.mark.parametrize("channels", [1, 3])
def test_depth_and_metadata_are_kept(channels, tmp_path):
    image = images.read(photo(tmp_path / "deep.png", bits=16, channels=channels))
    alpha = np.arange(600, dtype=np.uint16).reshape(20, 30)
    images.write(tmp_path / "deep.png", Image(image.pixels, alpha=alpha, density=(10.0, 10.0)))
    statuses(tmp_path / "deep.png", tmp_path / "set", "noise", 1)
    degraded = images.read(tmp_path / "set/degraded/deep.png")
    target = images.read(tmp_path / "set/target/deep.png")
    np.testing.assert_array_equal(target.pixels, image.pixels)
    for written in (degraded, target):
        assert written.bits == 16
        assert written.density == (10.0, 10.0)
        np.testing.assert_array_equal(written.alpha, alpha)
    difference = degraded.pixels.astype(float) - target.pixels
    assert 150 < difference.std() < 350  # 257 levels of 65535 are 1 of 255
    assert len(np.unique(degraded.pixels % 257)) > 100


def test_nothing_is_lost_at_strength_0(tmp_path):
    photo(tmp_path / "deep.png", bits=16)
    statuses(tmp_path / "deep.png", tmp_path / "set", "motion", 0)
    assert (
        files(tmp_path / "set")["degraded/deep.png"] == files(tmp_path / "set")["target/deep.png"]
    )


def test_the_record_says_how_the_set_was_made(folder, tmp_path):
    statuses(folder, tmp_path / "set", "haze", seed=5)
    record = json.loads((tmp_path / "set" / RECORD).read_text())
    assert record["kind"] == "haze"
    assert record["strength"] == 1.5
    assert record["seed"] == 5
    assert set(record["versions"]) == {"glocal", "numpy", "torch"}
    assert record["images"] == {
        "a": {"source": "a.png", "seed": image_seed(5, "a")},
        "b": {"source": "b.jpg", "seed": image_seed(5, "b")},
        "in/c": {"source": "in/c.tif", "seed": image_seed(5, "in/c")},
    }


def test_a_run_is_resumed(folder, tmp_path):
    out = tmp_path / "set"
    statuses(folder, out, "noise")
    before = files(out)
    (out / "degraded/b.png").unlink()
    photo(folder / "d.png")
    assert statuses(folder, out, "noise") == ["skipped", "made", "made", "skipped"]
    after = files(out)
    assert {key: after[key] for key in before} == before
    record = json.loads((out / RECORD).read_text())
    assert sorted(record["images"]) == ["a", "b", "d", "in/c"]
    (folder / "a.png").unlink()
    statuses(folder, out, "noise")
    assert sorted(json.loads((out / RECORD).read_text())["images"]) == ["a", "b", "d", "in/c"]


def test_a_set_has_one_kind_of_images(folder, tmp_path):
    out = tmp_path / "set"
    statuses(folder, out, "noise", 10)
    with pytest.raises(ArgumentError, match=r"made with kind noise, strength 10.0, seed 0, not"):
        make_paired_set(folder, out, "noise", 20)
    with pytest.raises(ArgumentError, match=r"a.png: exists already, as do 2 other pairs"):
        make_paired_set(folder, out, "noise", 10, resume=False)
    assert statuses(folder, out, "motion", overwrite=True) == ["made"] * 3
    assert json.loads((out / RECORD).read_text())["kind"] == "motion"
    (out / RECORD).write_text("{}")
    with pytest.raises(ArgumentError, match="is not a record of a paired set"):
        make_paired_set(folder, out, "motion")
    (out / RECORD).unlink()
    with pytest.raises(ArgumentError, match=f"no {RECORD} that records how they were made"):
        make_paired_set(folder, out, "motion")


def test_a_bad_file_is_reported_and_the_run_goes_on(folder, tmp_path):
    (folder / "b.jpg").write_bytes(b"\xff\xd8\xff damaged")
    made = list(make_paired_set(folder, tmp_path / "set", "noise"))
    assert [each.status for each in made] == ["made", "failed", "made"]
    assert made[1].error.startswith(f"{folder / 'b.jpg'}: is damaged")
    assert sorted(files(tmp_path / "set")) == [
        "degraded/a.png",
        "degraded/in/c.png",
        "target/a.png",
        "target/in/c.png",
    ]
    assert list(json.loads((tmp_path / "set" / RECORD).read_text())["images"]) == ["a", "in/c"]


def test_a_set_inside_of_its_source_is_not_degraded_again(folder):
    out = folder / "set"
    assert statuses(folder, out, "noise") == ["made"] * 3
    assert statuses(folder, out, "noise") == ["skipped"] * 3


def test_planning_touches_nothing(folder, tmp_path):
    planned = plan_paired_set(folder, tmp_path / "set", 1)
    assert [each.status for each in planned] == ["planned"] * 3
    assert not (tmp_path / "set").exists()


def test_inputs_are_never_overwritten(folder, tmp_path):
    statuses(folder, tmp_path / "set", "noise")
    before = files(tmp_path)
    for source in (tmp_path / "set/target", tmp_path / "set/target/a.png"):
        with pytest.raises(ArgumentError, match="is an input file"):
            make_paired_set(source, tmp_path / "set", "noise", overwrite=True)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("none", {}, ImageError, "none: no such file or folder"),
        ("clean/notes.txt", {}, ImageError, "not an image file"),
        ("empty", {}, ImageError, "has no images"),
        ("clean", {"kind": "rain"}, ArgumentError, "unknown degradation 'rain'"),
        ("clean", {"strength": -1}, ArgumentError, "noise must be 0 to 255"),
        (
            "clean",
            {"out": "clean/notes.txt"},
            ArgumentError,
            "is a file; a data set must be a folder",
        ),
        ("clean", {"out": "clean"}, ArgumentError, "is the input folder"),
        ("twice", {}, ArgumentError, r"would both be written to"),
    ],
)
def test_impossible_sets_are_refused_before_the_work(
    source, options, error, message, folder, tmp_path
):
    (folder / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    photo(tmp_path / "twice/a.png")
    photo(tmp_path / "twice/a.jpg")
    options = {"kind": "noise", "out": "set"} | options
    out = tmp_path / options.pop("out")
    with pytest.raises(error, match=message):
        make_paired_set(tmp_path / source, out, **options)
    assert not (tmp_path / "set").exists()

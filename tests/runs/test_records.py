"""Resumed folder runs keep only the results that they would make themselves."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from glocal.errors import GlocalWarning, ImageError
from glocal.images import image_files as images
from glocal.images.formats import DAMAGED
from glocal.images.image_files import Image
from glocal.inference.options import Tiles
from glocal.runs.folder import restore_file, restore_folder
from glocal.runs.jobs import FileResult
from glocal.runs.records import RECORDS


class Shifted(nn.Module):
    def __init__(self, value: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("value", Tensor([value]))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.value


def save(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write(path, Image(np.full((8, 9, 3), value, np.uint8)))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    save(tmp_path / "in/a.png", 10)
    save(tmp_path / "in/sub/b.png", 20)
    return tmp_path / "in"


def run(photos: Path, network: nn.Module | None = None, **options: Any) -> list[FileResult]:
    options = {"channels": 3, **options}
    return list(restore_folder(network or Shifted(), photos, photos.with_name("out"), **options))


def statuses(results: list[FileResult]) -> list[str]:
    return [result.status for result in results]


def test_results_of_the_same_run_are_skipped(photos: Path) -> None:
    assert statuses(run(photos)) == ["restored"] * 2
    assert statuses(run(photos, ahead=0, memory=10**9)) == ["skipped"] * 2


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"network": Shifted(0.2)}, "with another network"),
        ({"strength": 0.5}, "with other options (strength)"),
        ({"quality": 80, "dtype": "bfloat16"}, "with other options (quality, dtype)"),
        ({"tiles": 8}, "with other options (tiles)"),
    ],
    ids=str,
)
def test_results_of_another_run_are_made_again(
    photos: Path, options: dict[str, Any], why: str
) -> None:
    run(photos)
    results = run(photos, **options)
    assert statuses(results) == ["restored"] * 2
    assert {frozenset(each.again) for each in results} == {frozenset(why)}
    assert statuses(run(photos, **options)) == ["skipped"] * 2


def test_a_changed_photograph_is_restored_again(photos: Path) -> None:
    run(photos)
    save(photos / "a.png", 60)
    results = run(photos)
    assert statuses(results) == ["restored", "skipped"]
    assert results[0].again.startswith("from another version of the photograph")
    assert images.read(results[0].destination).pixels[0, 0, 0] == 60 + 26


def test_a_changed_photograph_of_the_same_size_and_time_is_restored_again(photos: Path) -> None:
    run(photos)
    path = photos / "a.png"
    about = path.stat()
    path.write_bytes((photos / "sub" / "b.png").read_bytes())  # of the same length
    assert path.stat().st_size == about.st_size
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    results = run(photos)
    assert statuses(results) == ["restored", "skipped"]
    assert images.read(results[0].destination).pixels[0, 0, 0] == 20 + 26


def test_a_copy_of_a_photograph_is_the_same(photos: Path) -> None:
    run(photos)
    content = (photos / "a.png").read_bytes()
    (photos / "a.png").unlink()
    (photos / "a.png").write_bytes(content)
    os.utime(photos / "a.png", (1, 1))
    assert statuses(run(photos)) == ["skipped"] * 2


def test_a_changed_mask_counts_as_a_changed_photograph(photos: Path, tmp_path: Path) -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return x * mask[:, :1]

    save(tmp_path / "masks/a.png", 255)
    save(tmp_path / "masks/b.png", 255)
    options = {"network": Masked(), "inputs": {"mask": tmp_path / "masks"}}
    assert statuses(run(photos, **options)) == ["restored"] * 2
    assert statuses(run(photos, **options)) == ["skipped"] * 2
    save(tmp_path / "masks/b.png", 7)
    os.utime(tmp_path / "masks/b.png", (1, 1))
    assert statuses(run(photos, **options)) == ["skipped", "restored"]


def test_a_file_that_glocal_did_not_make_is_left(photos: Path) -> None:
    mine = photos.with_name("out") / "a.png"
    save(mine, 77)
    results = run(photos)
    assert statuses(results) == ["left", "restored"]
    assert str(results[0].error).startswith(f"{mine} exists, and nothing tells that glocal made it")
    assert images.read(mine).pixels[0, 0, 0] == 77
    assert statuses(run(photos, overwrite=True)) == ["restored"] * 2
    assert statuses(run(photos)) == ["skipped"] * 2


def test_a_result_that_was_edited_is_left(photos: Path) -> None:
    first = run(photos)[0].destination
    save(first, 77)
    assert statuses(run(photos, Shifted(0.2))) == ["left", "restored"]


def test_results_without_records_are_left(photos: Path) -> None:
    run(photos)
    (photos.with_name("out") / RECORDS).unlink()
    assert statuses(run(photos)) == ["left"] * 2


def test_a_copied_folder_keeps_its_records(photos: Path, tmp_path: Path) -> None:
    run(photos)
    copied = tmp_path / "copy/out"
    shutil.copytree(tmp_path / "out", copied, copy_function=shutil.copyfile)
    found = restore_folder(Shifted(), photos, copied, channels=3)
    assert statuses(list(found)) == ["skipped"] * 2


def test_half_a_line_and_foreign_lines_are_no_obstacle(photos: Path) -> None:
    run(photos)
    records = photos.with_name("out") / RECORDS
    records.write_bytes(b'7\n{"x": 1}\n\xff\n' + records.read_bytes() + b'{"result": "a.p')
    save(photos / "c.png", 30)
    assert statuses(run(photos)) == ["skipped", "restored", "skipped"]
    assert statuses(run(photos)) == ["skipped"] * 3


def test_records_that_cannot_be_written_are_a_warning(photos: Path) -> None:
    (photos.with_name("out") / RECORDS).mkdir(parents=True)
    with pytest.warns(GlocalWarning, match="cannot be written .* will not know these results"):
        results = run(photos, ahead=0)
    assert statuses(results) == ["restored"] * 2


def test_records_stay_small(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glocal.runs.records._SPARE", 0)
    for value in range(5):
        run(photos, Shifted(value / 10))
    records = photos.with_name("out") / RECORDS
    assert len(records.read_text().splitlines()) <= 5


def test_a_result_of_a_damaged_photograph_is_marked(photos: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data, _ = images.encode(Image(noise), ".jpg")
    (photos / "c.jpg").write_bytes(data[: len(data) // 2])
    refused = run(photos)[1]
    assert (refused.source.name, refused.status) == ("c.jpg", "failed")
    results = run(photos, accept_damaged=True)
    assert statuses(results) == ["skipped", "restored", "skipped"]
    assert DAMAGED in results[1].notes
    assert statuses(run(photos, accept_damaged=True)) == ["skipped"] * 3
    assert '"damaged": true' in (photos.with_name("out") / RECORDS).read_text()
    assert statuses(run(photos)) == ["skipped", "failed", "skipped"]


@pytest.mark.filterwarnings("ignore:.*are blended:glocal.errors.GlocalWarning")
def test_a_damaged_photograph_is_streamed_if_that_is_accepted(photos: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data, _ = images.encode(Image(noise), ".jpg")
    source, target = photos / "c.jpg", photos / "d.png"
    source.write_bytes(data[: len(data) // 2])
    options = {"stream": True, "channels": 3, "tiles": Tiles(32, halo=0)}
    with pytest.raises(ImageError, match="damaged"):
        restore_file(Shifted(), source, target, **options)
    assert not target.exists()
    result = restore_file(Shifted(), source, target, accept_damaged=True, **options)
    assert DAMAGED in result.notes
    whole = images.read(source, accept_damaged=True).pixels
    expected = np.clip(whole.astype(int) + 26, 0, 255)
    assert np.abs(images.read(target).pixels - expected).max() <= 1


@pytest.mark.parametrize(
    "text",
    ["[" * 9999, '{"result": 3}', '{"result": "a.png", "options": [1]}', '{"result": NaN}', "\xff"],
)
def test_damaged_lines_are_passed_over(photos: Path, text: str) -> None:
    run(photos)
    records = photos.with_name("out") / RECORDS
    records.write_bytes(records.read_bytes() + text.encode("latin-1") + b"\n")
    assert statuses(run(photos)) == ["skipped"] * 2

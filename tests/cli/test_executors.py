"""Options for several machines."""

import json
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from restored_folders import contents, photographs

from glocal.images import image_files as images
from glocal.images.image_files import Image


@pytest.mark.usefixtures("unproven")
def test_shards_of_a_folder(run: Any, checkpoint: Path, tmp_path: Path) -> None:
    source = photographs(tmp_path / "in", 6)
    words = ["restore", source, "--model", checkpoint]
    run(*words, tmp_path / "whole")
    for number in (1, 2, 3):
        done = run(*words, tmp_path / "out", "--shard", f"{number}/3")
        assert f"shard {number} of 3" in done.stdout
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    again = json.loads(run(*words, tmp_path / "out", "--json").stdout)
    assert (again["skipped"], again["failed"]) == (6, 1)


def test_a_shard_may_be_empty(run: Any, checkpoint: Path, tmp_path: Path) -> None:
    source = photographs(tmp_path / "in", 1)
    outputs = [
        run("restore", source, tmp_path / "out", "-m", checkpoint, "--shard", f"{number}/9")
        for number in range(1, 10)
    ]
    assert sum("none belongs to shard" in each.stdout for each in outputs) >= 7
    assert all(each.exit_code == 0 for each in outputs if "none belongs" in each.stdout)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shard", "3/2"], "'3/2' is not a shard"),
        (["--address", "a:1"], "--address is for --engine ray"),
        (["--workers", "2"], "--workers is for --engine ray"),
        (["--device", "cpu,cpu", "--runtime", "onnxruntime"], "leave out --runtime"),
        (["--device", "cpu,nothing"], "'nothing' is not a device of torch"),
    ],
)
def test_options_that_contradict_each_other(
    run: Any, checkpoint: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    source = photographs(tmp_path / "in", 1)
    done = run("restore", source, tmp_path / "out", "-m", checkpoint, *words)
    assert done.exit_code == 1
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_shard_of_one_photograph(run: Any, checkpoint: Path, photo: Path) -> None:
    done = run("restore", photo, "-m", checkpoint, "--shard", "1/2")
    assert done.exit_code == 1
    assert "--shard is for folders" in done.stderr


@pytest.mark.usefixtures("unproven")
def test_folders_behind_urls(run: Any, checkpoint: Path, tmp_path: Path) -> None:
    source = photographs(tmp_path / "in", 3)
    memory = fsspec.filesystem("memory")
    memory.put(str(source), "/cli/in", recursive=True)
    words = ["restore", "memory://cli/in", "memory://cli/out", "-m", checkpoint]
    done = run(*words)
    assert "4 in memory://cli/in" in done.stdout
    assert "memory://cli/out (3 restored, 1 failed)" in done.stdout
    assert done.stderr.startswith("failed: memory://cli/in/damaged.png: is not an image")
    assert "3 skipped" in run(*words).stdout
    run("restore", f"file://{source}", tmp_path / "out", "-m", checkpoint)
    memory.get("/cli/out", str(tmp_path / "fetched"), recursive=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "fetched")
    alone = run("restore", "memory://cli/in", "-m", checkpoint)
    assert alone.exit_code == 1
    assert "give a folder of photographs and one for the results" in alone.stderr
    memory.rm("/cli", recursive=True)


@pytest.mark.slow
def test_shards_of_an_evaluation(run: Any, checkpoint: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in [f"{kind}/{number}.png" for kind in ("blur", "sharp") for number in range(4)]:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (40, 50, 3)).astype(np.uint8)
        images.write(tmp_path / "set" / name, Image(pixels))
    words = ["evaluate", checkpoint, "-d", tmp_path / "set", "--way", "full", "--no-verify"]
    out = tmp_path / "out"
    whole = run(*words, "--json")
    for number in (1, 2):
        done = run(*words, "--out", out, "--shard", f"{number}/2")
        assert done.exit_code == 0, done.output
        assert "reads the records of all parts" in done.stderr
    names = sorted(path.name for path in out.glob("records*"))
    assert names == ["records.shard-1-of-2.jsonl", "records.shard-2-of-2.jsonl"]
    merged = run(*words, "--out", out, "--json")
    values, others = (
        [(each["image"], each["method"], each["metrics"]) for each in json.loads(o)["records"]]
        for o in (merged.stdout, whole.stdout)
    )
    assert values == others
    assert len((out / "records.jsonl").read_text().splitlines()) == 1  # nothing is measured again
    assert (out / "report.html").exists()
    assert "--shard needs --out" in run(*words, "--shard", "1/2").stderr

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from evaluations import constructed, paired_set
from pyiqa_stub import pyiqa_stub
from rich.console import Console

from glocal.cli.evaluate import printed

pytestmark = pytest.mark.usefixtures("unproven")

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation.txt"
METHODS = ("degraded", "full image", "crop-and-stitch 64/8 linear", "TLC 48", "crops 64")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return paired_set(tmp_path / "set", 96, 80)


def test_tables_are_the_golden_ones() -> None:
    console = Console(file=io.StringIO(), width=110, color_system=None)
    for part in printed(constructed(), per_image=True):
        console.print(part)
    text = "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())
    assert text + "\n" == GOLDEN.read_text("utf-8")


def test_a_network_is_evaluated_into_a_folder(run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("evaluate", "nafnet-motion-blur", "--data", data, "--window", "48", "--out", out)
    result = run(*words, "--pictures", "1", "--per-image")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    for method in METHODS:
        assert method in result.stdout
    assert "trained on crops of 64×64" in result.stdout
    assert "Every image" in result.stdout
    header, *lines = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert header["network"] == "nafnet-motion-blur (NAFNet)"
    assert [(line["image"], line["method"]) for line in lines] == [
        (image, method) for image in "ab" for method in METHODS
    ]
    assert (out / "report.md").read_text().startswith("# Evaluation of nafnet-motion-blur")
    assert "images/1-a/tlc-48.png" in (out / "report.html").read_text()
    assert not (out / "images/2-b").exists()

    before = (out / "records.jsonl").read_bytes()
    assert run(*words, "--pictures", "1").exit_code == 0
    assert (out / "records.jsonl").read_bytes() == before
    refused = run(*words, "--metric", "ssim")
    assert refused.exit_code == 1
    assert f"{out / 'records.jsonl'}: was made with metrics" in " ".join(refused.stderr.split())
    assert (out / "records.jsonl").read_bytes() == before


def test_json_and_several_windows(run, checkpoint: Path, data: Path) -> None:
    result = run(
        "evaluate", checkpoint, "--data", data, "--layout", "target:input", "--limit", "1",
        "--window", "24", "--window", "32x48", "--metric", "psnr-y", "--json",
        "--tile", "40", "--overlap", "10", "--blend", "cut",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    methods = ["full image", "crop-and-stitch 40/10 cut", "TLC 24", "TLC 32x48", "crops 32"]
    assert list(found["protocol"]["methods"]) == methods
    assert [record["method"] for record in found["records"]] == ["degraded", *methods]
    assert all(list(record["metrics"]) == ["psnr-y"] for record in found["records"])


def test_the_user_chooses_the_ways(run, checkpoint: Path, data: Path) -> None:
    words = ("evaluate", checkpoint, "--data", data, "--limit", "1", "--metric", "psnr")
    ways = ("--way", "stitch", "--way", "crops", "--overlap", "50%", "--overlap", "6")
    result = run(*words, *ways, "--stride", "2", "--json")
    assert result.exit_code == 0, result.output
    assert list(json.loads(result.stdout)["protocol"]["methods"]) == [
        "crop-and-stitch 32/16 linear", "crop-and-stitch 32/6 linear", "crops 32 stride 2",
    ]  # fmt: skip
    refused = run(*words, "--way", "crops", "--overlap", "50%")
    assert refused.exit_code == 1
    assert "--overlap has no effect with --way crops alone" in refused.stderr


def test_clean_images_take_noise(run, checkpoint: Path, data: Path) -> None:
    words = ("evaluate", checkpoint, "--data", data / "target", "--limit", "1", "--json")
    result = run(*words, "--noise-sigma", "25", "--metric", "psnr", "--no-round8")
    (degraded, *_) = json.loads(result.stdout)["records"]
    assert degraded["metrics"]["psnr"] == pytest.approx(20 * np.log10(255 / 25), abs=0.1)


def test_a_bad_image_is_named_and_the_others_are_measured(run, checkpoint, data: Path) -> None:
    (data / "input/a.png").write_bytes(b"nothing")
    result = run("evaluate", checkpoint, "--data", data, "--metric", "psnr")
    assert result.exit_code == 1
    assert result.stdout.startswith("Mean of 1 of 2 images")
    assert "Means are over the 1 of 2 images" in " ".join(result.stdout.split())
    assert "failed: a: " in result.stderr
    assert "is not an image" in " ".join(result.stderr.split())


def test_names_pair_by_the_template_that_the_error_proposes(run, checkpoint, data: Path) -> None:
    for name in "ab":
        (data / f"input/{name}.png").rename(data / f"input/{name}_rain.png")
    words = ("evaluate", checkpoint, "--data", data, "--metric", "psnr", "--way", "full")
    refused = run(*words)
    assert refused.exit_code == 1
    assert '--layout "input/{}_rain:target/{}" would give 2 pairs of 2' in refused.stderr
    result = run(*words, "--layout", "input/{}_rain:target/{}", "--json")
    assert result.exit_code == 0, result.output
    assert {each["image"] for each in json.loads(result.stdout)["records"]} == {"a_rain", "b_rain"}


def test_a_metric_without_reference_needs_no_targets(
    run, checkpoint: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", pyiqa_stub())
    words = ("evaluate", checkpoint, "--data", data / "input", "--way", "full")
    result = run(*words, "--metric", "niqe")
    assert result.exit_code == 0, result.output
    assert "niqe of pyiqa 1.2, without reference" in " ".join(result.stdout.split())
    assert "its images are restored without targets" in " ".join(result.stderr.split())
    refused = run(*words, "--metric", "lpips")
    assert refused.exit_code == 1
    assert "matches no known layout" in refused.stderr


def test_pictures_that_cannot_be_written_are_failures(run, checkpoint, data: Path) -> None:
    (data.parent / "out").mkdir()
    (data.parent / "out/images").write_text("a file")
    words = ("--data", data, "--limit", "1", "--out", data.parent / "out")
    result = run("evaluate", checkpoint, *words)
    assert result.exit_code == 1
    assert "failed: a: " in result.stderr
    assert "cannot be created" in result.stderr


def test_narrow_tables_cut_nothing_off() -> None:
    console = Console(file=io.StringIO(), width=50, color_system=None)
    for part in printed(constructed(), per_image=True):
        console.print(part)
    assert "…" not in console.file.getvalue()


def test_a_window_far_too_small_is_warned_of(run, checkpoint: Path, data: Path) -> None:
    words = ("evaluate", checkpoint, "--data", data, "--limit", "1", "--metric", "psnr")
    result = run(*words, "--window", "4")
    assert result.exit_code == 0
    assert "warning: TLC 4: the window 4x4 has" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["no-such-model", "--data", "set"], 1, "no-such-model: neither a file nor"),
        (["bare.pth", "--data", "set"], 1, "give --train-size"),
        (["bare.pth"], 2, "Missing option"),
        (["tiny.safetensors", "--data", "none"], 1, "none: no such folder"),
        (["tiny.safetensors", "--data", "set/input"], 1, "matches no known layout"),
        (
            ["tiny.safetensors", "--data", "set", "--layout", "gopro"],
            1,
            "does not match the layout gopro",
        ),
        (["tiny.safetensors", "--data", "unpaired"], 1, "do not match"),
        (["tiny.safetensors", "--data", "set", "--metric", "lpips"], 1, "no metric is called"),
        (["tiny.safetensors", "--data", "set", "--window", "0"], 2, "is not a size"),
        (["tiny.safetensors", "--data", "set", "--blend", "soft"], 2, "soft"),
        (["tiny.safetensors", "--data", "set", "--way", "crop"], 2, "'crop' is not one of full"),
        (
            ["tiny.safetensors", "--data", "set", "--stride", "0"],
            1,
            "stride must be a number above",
        ),
        (["tiny.safetensors", "--data", "set", "--out", "bare.pth"], 1, "is a file"),
        (["tiny.safetensors", "--data", "set", "--overlap", "32"], 1, "cannot overlap by 32"),
    ],
)
def test_wrong_arguments_are_refused(
    run, checkpoint, bare_checkpoint, data: Path, monkeypatch, words, code, message
) -> None:
    shutil.copytree(data, data.parent / "unpaired")
    (data.parent / "unpaired/input/a.png").rename(data.parent / "unpaired/input/z.png")
    monkeypatch.chdir(data.parent)
    result = run("evaluate", *words)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_a_missing_jinja2_is_reported_before_the_work(
    run, checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    words = ("evaluate", checkpoint, "--data", data, "--limit", "1", "--metric", "psnr")
    result = run(*words, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert 'pip install "glocal[plots]"' in result.stderr
    assert not (tmp_path / "out").exists()
    assert run(*words).exit_code == 0

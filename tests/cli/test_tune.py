import importlib
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import glocal
from glocal.cli.tune import _words
from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.inference.options import Tiles
from glocal.inference.restore import restore
from glocal.inference.settings import Settings
from glocal.study.options import ScoreOptions
from glocal.study.tuning.search import tune

pytestmark = pytest.mark.usefixtures("unproven")

MODULE = """
import torch
from torch import nn

class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = nn.InstanceNorm2d(3)

    def forward(self, x):
        return x + 0.5 * self.pool(x) + 0.03 * self.norm(x)
"""
MODEL = "gates:Gate"


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """What MODEL names."""
    (tmp_path / "gates.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gates", raising=False)
    return importlib.import_module("gates").Gate()


@pytest.fixture
def data(tmp_path: Path, gate: nn.Module) -> Path:
    """Two pairs of 100 × 110 pixels whose targets are the network's own, with a window of 24."""
    teacher = glocal.localize(gate, 32, window=24)
    for seed in range(2):
        random = np.random.default_rng(seed)
        coarse = random.integers(0, 30000, (5, 5, 3)).repeat(22, 0).repeat(22, 1)[:100]
        degraded = (coarse + random.integers(0, 9000, coarse.shape)).astype(np.uint16)
        for name, pixels in ("degraded", degraded), ("target", restore(teacher, degraded)):
            folder = tmp_path / "set" / name
            folder.mkdir(parents=True, exist_ok=True)
            images.write(folder / f"{seed}.png", Image(pixels))
    return tmp_path / "set"


def test_a_window_is_recommended(run, data: Path, gate: nn.Module, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    result = run("tune", MODEL, "--data", data, "--train-size", "32", "--out", out)
    assert result.exit_code == 0, result.output
    found = tune(gate, data, 32)
    assert not found.use_original
    lines = result.stdout.splitlines()
    assert lines[0].endswith("(Gate, trained on crops of 32x32)")
    assert lines[1] == f"images       2 of 2 in {data}"
    assert found.settings.way == "windows"
    side = found.settings.window[0]
    cells = [line.split() for line in lines]
    assert [*found.columns[:3], found.columns[3], "gain,", "dB"] == [
        *cells[3][:2], "left global", *cells[3][4:7],
    ]  # fmt: skip
    assert ["windows", "*", "window", f"{side}x{side}"] in [row[:4] for row in cells]
    ways = [row[0] for row in cells if row and row[0] in ("windows", "crops", "auto", "stitch")]
    assert len(ways) == len(found.trials)
    assert f"protocol     {found.protocol}" in lines
    assert lines[-3].startswith(f"advice       {found.advice().split(' It takes ')[0]} It takes ")
    words = f"--model {MODEL} --way windows --train-size 32x32 --window {side}"
    words = f"glocal restore photo.jpg {words}"
    assert lines[-2] == f"use          {words}"
    assert lines[-1] == f"result       {out}"
    assert result.stderr == ""
    written = json.loads(out.read_text())
    assert written["settings"] == json.loads(found.settings.to_json())
    assert len(written["trials"]) == len(found.trials)


def test_restore_takes_the_saved_settings(
    run, data: Path, gate: nn.Module, photo: Path, tmp_path: Path
) -> None:
    file = tmp_path / "settings.json"
    for pair in (data / "target").iterdir():  # crop-and-stitch is right
        degraded = images.read(data / "degraded" / pair.name).pixels
        images.write(pair, Image(restore(gate, degraded, tiles=Tiles(32, blend="linear"))))
    words = ("tune", MODEL, "--data", data, "--train-size", "32", "--no-operations")
    result = run(*words, "--save", file)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert f"use          glocal restore photo.jpg --settings {file}" in lines
    assert lines[-1] == f"result       {file}"
    assert Settings.read(file) == Settings("stitch", 32, model=MODEL)
    done = run("restore", photo, tmp_path / "o.png", "--settings", file)
    assert done.exit_code == 0, done.output
    pixels = images.read(photo).pixels
    expected = restore(gate, pixels, tiles=Tiles(32, blend="linear"))
    np.testing.assert_array_equal(images.read(tmp_path / "o.png").pixels, expected)
    assert run(*words, "--save", file).exit_code == 1
    both = run(*words, "--save", tmp_path / "new", "--out", tmp_path / "new")
    assert "choose two files" in both.stderr


def test_the_command_works(run, data: Path, gate: nn.Module, photo: Path) -> None:
    teacher = glocal.localize(gate, (32, 30), window=24, keep_global="norm")
    for target in (data / "target").iterdir():
        degraded = images.read(data / "degraded" / target.name).pixels
        images.write(target, Image(restore(teacher, degraded)))
    words = ("--data", data, "--keep-global", "no*m", "--train-size", "32x30")
    result = run("tune", MODEL, *words)
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("use "))
    used = shlex.split(line)[2:]
    assert used[used.index("--keep-global") + 1] == "no*m"
    assert used[used.index("--train-size") + 1] == "32x30"
    done = run(*(photo if word == "photo.jpg" else word for word in used))
    assert done.exit_code == 0, done.output
    assert "1 local, 0 left global, 1 kept global" in done.stdout


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings("full", 32, output=1), "--output 1 --way full"),
        (Settings("stitch", 32), "--way stitch --train-size 32x32"),
        (Settings("crops", 32, stride=2.0), "--way crops --train-size 32x32 --stride 2"),
        (
            Settings("auto", 32, window=(40, 48), stride=1.0, allow_global=True),
            "--way auto --train-size 32x32 --window 40x48 --stride 1 --allow-global",
        ),
    ],
)
def test_every_way_has_a_command(settings: Settings, words: str) -> None:
    assert shlex.join(_words("m.pth", (32, 32), settings)) == f"--model m.pth {words}"


def test_the_original_is_recommended(run, data: Path, gate: nn.Module) -> None:
    for target in (data / "target").iterdir():
        degraded = images.read(data / "degraded" / target.name).pixels
        images.write(target, Image(restore(gate, degraded)))
    result = run("tune", MODEL, "--data", data, "--train-size", 32, "--no-operations")
    assert result.exit_code == 0, result.output
    found = tune(gate, data, 32, operations=False)
    assert found.verdict == "worse"
    assert f"advice       {found.advice()}\n" in result.stdout
    assert f"glocal restore photo.jpg --model {MODEL} --way full\n" in result.stdout


@pytest.mark.long
@pytest.mark.slow
def test_options_are_passed_on(run, data: Path, gate: nn.Module, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    words = ("tune", MODEL, "--train-size", 32, "-d", data, "--log", log)
    asked = ("--metric", "ssim", "--limit", "1", "--crop", "96x100", "--per-axis")
    result = run(*words, *asked)
    assert result.exit_code == 0, result.output
    score = ScoreOptions("ssim")
    found = tune(gate, data, 32, score=score, limit=1, crop=(96, 100), per_axis=True)
    assert f"images       1 of 2 in {data}, centre of 96x100 each\n" in result.stdout
    assert found.advice().split(" It takes ")[0] in result.stdout
    head, first, *_ = map(json.loads, log.read_text().splitlines())
    assert head["metric"] == "ssim"
    assert first["size"] == [96, 100]
    again = run(*words, *asked, "--json")
    first, second = json.loads(again.stdout), json.loads(found.to_json())
    for each in (first, second):  # times differ
        del each["advice"], each["original_seconds"]
        for trial in each["trials"]:
            del trial["seconds"]
    assert first == second
    other = run(*words)
    assert other.exit_code == 1
    assert "was made with metric ssim, not psnr" in other.stderr


def test_a_refused_file_loses_nothing(run, data: Path, tmp_path: Path) -> None:
    words = ("tune", MODEL, "--train-size", 32, "-d", data, "--limit", 1, "--overwrite")
    result = run(*words, "--out", tmp_path / "set")
    assert result.exit_code == 1
    assert "advice       Use TLC" in result.stdout
    assert "cannot be written" in result.stderr


@pytest.mark.long
@pytest.mark.slow
def test_images_without_targets(run, data: Path) -> None:
    words = ("--data", data / "degraded", "--layout", "dnd", "--limit", "1", "--train-size", 32)
    result = run("tune", MODEL, *words)
    assert result.exit_code == 0, result.output
    assert "There are no targets, so the score is not quality but a proxy" in result.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--data", "none"], 1, "none: no such folder"),
        ([], 2, "Missing option"),
        (["--data", "set", "--metric", "lpips"], 1, "no metric is called 'lpips'"),
        (["--data", "set", "--crop", "90"], 1, "crops of 90x90 are too small"),
        (["--data", "set", "--out", "tiny.safetensors"], 1, "exists; choose another name"),
        (["--data", "set", "--out", "no/found.json"], 1, "no such folder to write to"),
    ],
)
def test_wrong_arguments_are_refused(
    run, data: Path, checkpoint: Path, monkeypatch, words: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(data.parent)
    result = run("tune", checkpoint.name, *words)
    assert result.exit_code == code
    assert message in result.stderr

import re
from pathlib import Path

import pytest
import torch
from versions import crops_in_onnx, missing, needs_onnx, needs_torch_2_7

import glocal


@pytest.mark.slow
@needs_torch_2_7("its programs take fewer sizes")
def test_a_network_is_exported(run, checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "net.pt2"
    result = run("export", checkpoint, target)
    assert result.exit_code == 0, result.output
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if "TLC" in line)
    assert lines["TLC"] == "3 local, 0 left global; statistics from windows of 48x48"
    assert "torch.export (.pt2)" in result.stdout
    assert "any from 17, any batch" in result.stdout
    assert "checked at   17x19, 17x59, 55x59" in result.stdout
    local = glocal.localize(glocal.load(checkpoint), 32)
    x = torch.rand(2, 3, 75, 93)
    with torch.no_grad():
        torch.testing.assert_close(torch.export.load(target).module()(x), local(x))


@pytest.mark.slow
@crops_in_onnx
def test_statistics_from_crops_make_two_files(run, checkpoint: Path, tmp_path: Path) -> None:
    result = run("export", checkpoint, tmp_path / "net.pt2", "--way", "crops", "--stride", "2")
    assert result.exit_code == 0, result.output
    assert "statistics from crops of 32x32, at most 64x64 apart" in result.stdout
    assert "any from 32, any batch" in result.stdout
    for name in ("net.pt2", "net-crops.pt2"):
        assert name in result.stdout
        assert (tmp_path / name).exists()


def test_the_file_of_crops_needs_overwrite_too(run, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "net-crops.pt2").write_text("mine")
    result = run("export", checkpoint, tmp_path / "net.pt2", "--way", "crops")
    assert result.exit_code == 1
    assert "net-crops.pt2 exists; choose another name" in result.stderr


def test_an_option_without_effect_is_an_error(run, checkpoint: Path, tmp_path: Path) -> None:
    result = run("export", checkpoint, tmp_path / "net.pt2", "--way=windows", "--stride=2")
    assert result.exit_code == 1
    assert "--stride has no effect with --way windows" in result.stderr


def test_an_existing_file_needs_overwrite(run, checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "net.pt2"
    target.write_text("mine")
    result = run("export", checkpoint, target)
    assert result.exit_code == 1
    assert "exists; choose another name" in result.stderr
    assert target.read_text() == "mine"


def test_unknown_formats_are_an_error(run, checkpoint: Path, tmp_path: Path) -> None:
    result = run("export", checkpoint, tmp_path / "net.trt")
    assert result.exit_code == 1
    assert "must end in .onnx or .pt2" in result.stderr


@pytest.mark.skipif(not missing, reason="onnx is installed")
def test_missing_packages_are_named(run, checkpoint: Path, tmp_path: Path) -> None:
    result = run("export", checkpoint, tmp_path / "net.onnx")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert 'pip install "glocal[onnx]"' in result.stderr


@pytest.mark.slow
@needs_onnx
def test_a_fixed_size_in_onnx(run, checkpoint: Path, tmp_path: Path) -> None:
    result = run("export", checkpoint, tmp_path / "net.onnx", "--size", "64x80", "--opset", "20")
    assert result.exit_code == 0, result.output
    assert "ONNX, opset 20" in result.stdout
    assert "64x80 only, any batch" in result.stdout


@pytest.mark.slow
@needs_onnx
def test_fast_statistics(run, checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    result = run("export", checkpoint, target, "--way=windows", "--precision=fast", "--window=64")
    assert result.exit_code == 0, result.output
    import onnx

    assert "Resize" in {node.op_type for node in onnx.load(target).graph.node}


def test_8_bit_integers_need_photographs(run, checkpoint: Path, tmp_path: Path) -> None:
    result = run("export", checkpoint, tmp_path / "n.onnx", "--int8")
    assert result.exit_code == 1
    assert "--int8 and --calibrate DIR belong together" in result.stderr


@pytest.mark.slow
@needs_onnx
def test_8_bit_integers(run, checkpoint: Path, photo: Path, tmp_path: Path) -> None:
    words = ("--way", "windows", "--no-verify", "--int8", "--calibrate", photo.parent)
    result = run("export", checkpoint, tmp_path / "n.onnx", *words)
    assert result.exit_code == 0, result.output
    assert re.search(
        r"int8 +\d+ convolutions; PSNR to the results in float32 [\d.]+ dB on 1 parts of",
        result.stdout,
    )

"""Metrics of pyiqa, tested with a stand-in of its interface."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from pyiqa_stub import pyiqa_stub

from glocal.errors import ArgumentError
from glocal.metrics import METRICS, Metric
from glocal.study.evaluation.perceptual import check_metrics, metrics_named

CPU = torch.device("cpu")


@pytest.fixture
def pyiqa(monkeypatch: pytest.MonkeyPatch) -> Any:
    stub = pyiqa_stub()
    monkeypatch.setitem(sys.modules, "pyiqa", stub)
    return stub


def named(name: str) -> Metric:
    (metric,) = metrics_named([name], CPU)
    return metric


def image(value: float = 0.5, channels: int = 3) -> np.ndarray:
    return np.full((12, 16, channels), value, np.float32)


def test_direction_and_reference_are_those_of_pyiqa(pyiqa: Any) -> None:
    lpips, niqe = named("lpips"), named("niqe")
    assert (lpips.higher_is_better, lpips.needs_target) == (False, True)
    assert (niqe.higher_is_better, niqe.needs_target) == (False, False)
    assert "lpips of pyiqa 1.2, with reference" in lpips.protocol
    assert "niqe of pyiqa 1.2, without reference" in niqe.protocol


def test_names_of_both_packages_need_a_prefix(pyiqa: Any) -> None:
    assert named("ssim") is METRICS["ssim"]
    assert named("pyiqa:ssim").name == "pyiqa:ssim"
    assert named("pyiqa:ssim").function(image(0.25), image(0.5)) == pytest.approx(0.25)


def test_images_are_prepared_as_for_other_metrics(pyiqa: Any) -> None:
    lpips = named("lpips").function
    restored = image(0.5)
    restored[0] = 2  # clamped, and outside the border
    assert lpips(restored, image(0.25), border=1) == pytest.approx(0.25)
    assert lpips(restored, image(0.25)) > 0.25
    assert lpips(image(0.501), image(0.5), round8=True) == pytest.approx(0, abs=1e-7)
    assert lpips(image(0.5, 1), image(0.25, 1)) == pytest.approx(0.25)


def test_cudnn_stays_as_it_was(pyiqa: Any) -> None:
    before = torch.backends.cudnn.deterministic
    named("niqe")
    assert torch.backends.cudnn.deterministic == before


def test_a_score_that_fails_is_an_error_in_one_line(pyiqa: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^niqe: images are too small$"):
        named("niqe").function(image()[:4], image()[:4])
    with pytest.raises(ArgumentError, match=r"same shape, got \(12, 16, 3\) and \(12, 16, 1\)"):
        named("lpips").function(image(), image(channels=1))
    with pytest.raises(ArgumentError, match=r"niqe takes grey or colour .* border of 6 pixels"):
        named("niqe").function(image(), image(), border=6)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lipps", "no metric is called 'lipps'; choose from psnr, .* pyiqa.list_models"),
        ("fid", "fid compares sets of images"),
        ("musiq", "pyiqa cannot load musiq: no weights of musiq"),
    ],
)
def test_metrics_that_pyiqa_does_not_give(pyiqa: Any, name: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        named(name)


def test_without_pyiqa_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(ArgumentError, match=r'called \'lpips\'.* pip install "glocal\[iqa\]"'):
        check_metrics(["psnr", "lpips"])
    check_metrics(list(METRICS))


def test_a_pyiqa_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "pyiqa.py").write_text("raise RuntimeError('operator nms does\\nnot exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pyiqa", raising=False)
    with pytest.raises(ArgumentError, match="cannot be imported: operator nms does not exist"):
        check_metrics(["lpips"])

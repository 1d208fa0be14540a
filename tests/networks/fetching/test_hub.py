"""Checkpoints on the Hugging Face Hub."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from glocal import networks
from glocal.errors import CheckpointError
from glocal.networks.checkpoints.optional import INSTALL


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub that holds one repository, "me/deblur"; its `files` are to be filled in."""
    files: list[str] = []
    weights = networks.NAFNet(3, 4, 1, [1], [1]).state_dict()

    def list_repo_files(repository):
        if repository != "me/deblur":
            raise OSError("404 Client Error\nRepository Not Found")
        return files

    def hf_hub_download(repository, file):
        if file not in list_repo_files(repository):
            raise OSError(f"Entry Not Found: {file}")
        path = tmp_path / "cache" / Path(file).name
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".json":
            shards = [each for each in files if each != file]
            shard_of = {key: shards[i % len(shards)] for i, key in enumerate(weights)}
            path.write_text(json.dumps({"weight_map": shard_of}))
        elif path.suffix == ".safetensors":
            save_file(weights, path)
        else:
            torch.save(weights, path)
        return str(path)

    module = SimpleNamespace(list_repo_files=list_repo_files, hf_hub_download=hf_hub_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.chdir(tmp_path)
    return files


@pytest.mark.parametrize(
    "files",
    [
        ["README.md", "gopro.pth"],
        ["weights/model.pth", "weights/model.safetensors", "config.json"],
    ],
)
def test_the_only_checkpoint_of_a_repository_loads(hub, files):
    hub += files
    loaded = networks.load_checkpoint("me/deblur")
    assert (loaded.architecture, loaded.name) == ("NAFNet", "me/deblur")


def test_a_file_of_a_repository_loads(hub):
    hub += ["gopro.pth", "weights/reds.pth"]
    assert networks.load_checkpoint("me/deblur:weights/reds.pth").name == (
        "me/deblur:weights/reds.pth"
    )


def test_shards_are_downloaded_with_their_index(hub, tmp_path):
    index = "model.safetensors.index.json"
    hub += [index, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert networks.load_checkpoint("me/deblur").architecture == "NAFNet"
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted(hub)


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("me/deblur", ["gopro.pth", "reds.pth"], "2 checkpoints, gopro.pth, reds.pth; choose one"),
        ("me/deblur", ["model.onnx"], "has no .pth, .pt, .pk, .pkl, .ckpt, .bin"),
        ("me/deblur:reds.pth", ["gopro.pth"], r"OSError: Entry Not Found: reds.pth\)"),
        ("you/denoise", [], r"Hugging Face Hub \(OSError: 404 Client Error\)"),
    ],
)
def test_what_the_hub_does_not_hold_is_an_error_in_one_line(hub, name, files, message):
    hub += files
    with pytest.raises(CheckpointError, match=message) as caught:
        networks.load(name)
    assert "\n" not in str(caught.value)


def test_a_file_goes_before_a_repository(hub, tmp_path):
    hub.append("gopro.pth")
    (tmp_path / "me").mkdir()
    (tmp_path / "me" / "deblur").touch()
    with pytest.raises(CheckpointError, match="not a readable PyTorch checkpoint"):
        networks.load("me/deblur")
    with pytest.raises(CheckpointError, match="no such file"):
        networks.load("me/gopro.pth")  # a misspelt file is not looked for on the Hub


def test_without_huggingface_hub_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        networks.load("me/deblur")
    message = str(caught.value)
    assert message.startswith("me/deblur: no such file")
    assert message.endswith(f"huggingface_hub is not installed; {INSTALL}")

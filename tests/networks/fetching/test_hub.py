"""Checkpoints on the Hugging Face Hub, from a server of its API."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub_server import TOKEN, HubServer
from safetensors.torch import save

from glocal import networks
from glocal.errors import CheckpointError

SOURCE = str(Path(networks.__file__).parents[2])


def saved(state_dict):
    """A file of torch.save."""
    file = io.BytesIO()
    torch.save(state_dict, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return networks.NAFNet(3, 4, 1, [1], [1]).state_dict()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A server, where huggingface_hub looks, with an empty cache."""
    constants = pytest.importorskip("huggingface_hub.constants")
    with HubServer() as server:
        # what HF_ENDPOINT and HF_HOME set when the package is imported
        place = "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + place)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        for name in ("HF_TOKEN", "HF_HOME", "HF_HUB_CACHE", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.chdir(tmp_path)
        yield server


def refusal(name):
    """The line in which a name is refused."""
    with pytest.raises(CheckpointError) as caught:
        networks.load(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_metadata_of_a_safetensors_file_count(hub, weights):
    about = {"train_size": "48x64", "window": "80", "licence": "MIT", "task": "deblurring"}
    hub.add("me/deblur", {"README.md": b"# Deblur", "model.safetensors": save(weights, about)})
    loaded = networks.load_checkpoint("me/deblur")
    assert (loaded.architecture, loaded.name, loaded.task) == ("NAFNet", "me/deblur", "deblurring")
    assert (loaded.train_size, loaded.window) == ((48, 64), (80, 80))
    assert loaded.metadata["licence"] == "MIT"
    found = loaded.network.state_dict()
    assert all(torch.equal(found[key], value) for key, value in weights.items())


@pytest.mark.parametrize("entry", ["params", "params_ema", "state_dict"])
def test_entries_of_a_pickle_are_read(hub, weights, entry):
    hub.add("me/deblur", {"net_g.pth": saved({entry: weights})})
    assert networks.load_checkpoint("me/deblur").entry == entry


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["a.pth", "model.safetensors", "b.safetensors"], "model.safetensors"),
        (["a.pth", "pytorch_model.bin"], "pytorch_model.bin"),
        (["weights/a.pth", "weights/a.safetensors", "config.json"], "weights/a.safetensors"),
        (["a.pth", "a.onnx"], "a.pth"),
    ],
)
def test_the_checkpoint_of_a_repository_is_chosen_by_a_rule(hub, weights, files, chosen):
    for index, name in enumerate(files):
        others = {key: value + index for key, value in weights.items()}  # of other content
        hub.add("me/deblur", {name: save(others) if "safe" in name else saved(others)})
    networks.load("me/deblur")
    assert hub.fetched == [chosen]


def test_several_checkpoints_are_named(hub, weights):
    hub.add("me/deblur", {"gopro.pth": saved(weights), "x/reds.pth": saved(weights)})
    assert refusal("me/deblur").endswith(
        "2 checkpoints, gopro.pth, x/reds.pth; choose one, such as me/deblur:gopro.pth"
    )
    assert networks.load_checkpoint("me/deblur:x/reds.pth").name == "me/deblur:x/reds.pth"
    assert refusal("me/deblur:reds.pth").endswith("no such file; it has gopro.pth, x/reds.pth")


def test_shards_are_downloaded_with_their_index(hub, weights):
    names = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    parts = [{}, {}]
    for index, (key, value) in enumerate(weights.items()):
        parts[index % 2][key] = value
    shard_of = {key: name for name, part in zip(names, parts, strict=True) for key in part}
    files = {name: save(part) for name, part in zip(names, parts, strict=True)}
    index = "model.safetensors.index.json"
    hub.add("me/deblur", {**files, index: json.dumps({"weight_map": shard_of}).encode()})
    assert networks.load_checkpoint("me/deblur").architecture == "NAFNet"
    assert sorted(hub.fetched) == sorted([index, *names])


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub, weights):
    hub.add("me/deblur", {"model.safetensors": save(weights, {"train_size": "64"})})
    repository = hub.add(
        "me/deblur", {"model.safetensors": save(weights, {"train_size": "32"})}, "v1.0"
    )
    commit, _ = repository.find("v1.0")
    sizes = {
        name: networks.load(f"me/deblur{name}").glocal_train_size
        for name in ("", "@v1.0", f"@{commit}", "@v1.0:model.safetensors")
    }
    assert sizes == {
        "": (64, 64),
        "@v1.0": (32, 32),
        f"@{commit}": (32, 32),
        "@v1.0:model.safetensors": (32, 32),
    }
    assert refusal("me/deblur@v2").endswith("no such file, and the repository has no revision v2")


def test_what_the_cache_has_is_not_fetched_again(hub, weights):
    hub.add("me/deblur", {"model.safetensors": save(weights)})
    networks.load("me/deblur")
    networks.load("me/deblur")
    assert hub.fetched == ["model.safetensors"]


def test_without_a_connection_the_copy_in_the_cache_is_loaded(hub, weights):
    about = {"train_size": "64"}
    hub.add("me/deblur", {"model.safetensors": save(weights, about)})
    networks.load("me/deblur")
    hub.stop()
    assert networks.load("me/deblur").glocal_train_size == (64, 64)
    assert networks.load("me/deblur:model.safetensors").glocal_train_size == (64, 64)
    for other in ("me/denoise", "me/deblur:other.pth", "me/deblur@v1.0"):
        message = refusal(other)
        assert message.startswith(f"{other}: no such file, and it cannot be downloaded")
        assert message.endswith("has no copy")


def test_offline_mode_uses_the_cache(hub, weights, monkeypatch):
    import huggingface_hub

    hub.add("me/deblur", {"model.safetensors": save(weights)})
    networks.load("me/deblur")
    asked = len(hub.asked)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.utils.close_session()
    try:
        networks.load("me/deblur")
        assert "OfflineModeIsEnabled" in refusal("me/denoise")
    finally:
        huggingface_hub.utils.close_session()
    assert len(hub.asked) == asked


def test_a_missing_or_private_repository_is_one_line(hub, weights, monkeypatch):
    hub.add("me/secret", {"model.safetensors": save(weights)}).access = "private"
    for name in ("you/nothing", "me/secret"):
        assert refusal(name) == (
            f"{name}: no such file, and the Hugging Face Hub has no repository {name}, or it is "
            "private; for a private one log in: hf auth login (HF_TOKEN)"
        )
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert networks.load_checkpoint("me/secret").architecture == "NAFNet"


def test_a_gated_repository_says_where_to_ask(hub, weights):
    hub.add("me/gated", {"model.safetensors": save(weights)}).access = "gated"
    assert "its owner grants access on request" in refusal("me/gated")


def test_a_repository_without_checkpoint_is_an_error(hub):
    hub.add("me/deblur", {"model.onnx": b"onnx"})
    assert "has no .pth, .pt, .pk" in refusal("me/deblur")


def test_another_file_than_the_hub_states_is_refused(hub, weights):
    hub.add("me/deblur", {"model.safetensors": save(weights)})
    hub.tampered = True
    assert "is not the file that the Hugging Face Hub states (digest" in refusal("me/deblur")


def test_a_file_that_changed_in_the_cache_is_refused(hub, weights, tmp_path):
    hub.add("me/deblur", {"model.safetensors": save(weights), "small.pth": b"few bytes"})
    networks.load("me/deblur")
    assert "few bytes" not in refusal("me/deblur:small.pth")
    for blob in (tmp_path / "cache" / "hub").rglob("blobs/*"):
        content = bytearray(blob.read_bytes())
        content[-1] ^= 1
        blob.write_bytes(content)
    for name in ("me/deblur", "me/deblur:small.pth"):
        assert "delete it and load it again" in refusal(name)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="the system has no modes of files")
def test_the_cache_is_private(hub, weights, tmp_path, monkeypatch):
    hub.add("me/deblur", {"model.safetensors": save(weights)})
    networks.load("me/deblur")
    cache = tmp_path / "cache" / "hub"
    assert cache.stat().st_mode & 0o777 == 0o700
    cache.chmod(0o777)
    assert "other users may write to this folder" in refusal("me/deblur")
    cache.chmod(0o770)  # the user's group may share it
    networks.load("me/deblur")
    cache.chmod(0o777)
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))  # named by the user
    networks.load("me/deblur")


def test_a_file_goes_before_a_repository(hub, tmp_path):
    (tmp_path / "me").mkdir()
    (tmp_path / "me" / "deblur").touch()
    with pytest.raises(CheckpointError, match="not a readable PyTorch checkpoint"):
        networks.load("me/deblur")
    with pytest.raises(CheckpointError, match="no such file"):
        networks.load("me/gopro.pth")  # a misspelt file is not looked for on the Hub
    assert hub.asked == []


@pytest.mark.slow
def test_the_command_line_takes_a_repository(hub, weights, tmp_path):
    hub.add("me/deblur", {"model.safetensors": save(weights, {"train_size": "64", "window": "80"})})
    found = subprocess.run(
        [sys.executable, "-m", "glocal", "scan", "me/deblur", "--json"],
        env={
            **os.environ,
            "PYTHONPATH": SOURCE,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "home"),
        },
        capture_output=True,
        check=True,
        text=True,
    )
    plan = json.loads(found.stdout)
    assert (plan["train_size"], plan["window"]) == ([64, 64], [80, 80])


def test_without_huggingface_hub_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    message = refusal("me/deblur")
    assert message.startswith("me/deblur: no such file")
    assert message.endswith('huggingface_hub is not installed; pip install "glocal[hub]"')

"""Files, shards and folders that checkpoints are read from."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from glocal import networks
from glocal.errors import CheckpointError
from glocal.networks import load_checkpoint
from glocal.networks.checkpoints.files import read_checkpoint


@pytest.fixture
def weights():
    return networks.NAFNet(3, 4, 1, [1], [1]).state_dict()


def error_of(path):
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert len(message.splitlines()) <= 2
    return message


@pytest.mark.parametrize("name", ["w.bin", "w.pth.tar", "w.model", "w", "w.safetensors"])
def test_the_content_decides_not_the_name(name, weights, tmp_path):
    torch.save({"params": weights}, tmp_path / name)
    assert load_checkpoint(tmp_path / name).architecture == "NAFNet"


def test_safetensors_need_no_suffix(weights, tmp_path):
    save_file(weights, tmp_path / "w.bin")
    assert read_checkpoint(tmp_path / "w.bin")[0].keys() == weights.keys()


def test_the_length_of_a_header_is_no_sign_of_a_pickle(tmp_path):
    metadata = {"a": "x" * 320}
    save_file({"w": torch.ones(1)}, tmp_path / "w.safetensors", metadata=metadata)
    length = int.from_bytes((tmp_path / "w.safetensors").read_bytes()[:8], "little")
    metadata["a"] += "x" * ((0x80 - length) % 256)
    save_file({"w": torch.ones(1)}, tmp_path / "w.safetensors", metadata=metadata)
    assert (tmp_path / "w.safetensors").read_bytes()[0] == 0x80
    assert read_checkpoint(tmp_path / "w.safetensors")[0].keys() == {"w"}


def sharded(weights, folder, suffix="safetensors"):
    """Save every other tensor in one of two shards; return the index."""
    save = save_file if suffix == "safetensors" else torch.save
    names = [f"w-0000{i}-of-00002.{suffix}" for i in (1, 2)]
    keys = list(weights)
    for i, name in enumerate(names):
        save({key: weights[key] for key in keys[i::2]}, folder / name)
    index = folder / f"w.{suffix}.index.json"
    shard_of = {key: names[i % 2] for i, key in enumerate(keys)}
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": shard_of}))
    return index


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("name", ["", "w.{}.index.json", "w-00002-of-00002.{}"])
def test_shards_are_read_from_folder_index_or_any_of_them(suffix, name, weights, tmp_path):
    sharded(weights, tmp_path, suffix)
    content, _ = read_checkpoint(tmp_path / name.format(suffix))
    assert content.keys() == weights.keys()


def test_a_missing_shard_is_named(weights, tmp_path):
    index = sharded(weights, tmp_path)
    (tmp_path / "w-00002-of-00002.safetensors").unlink()
    assert error_of(index).endswith("the shard w-00002-of-00002.safetensors is missing")


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[1]",
        "no json",
        '{"weight_map": {}}',
        '{"weight_map": {"a": 3}}',
        '{"weight_map": NaN}',
        '{"weight_map": ' * 2000,
        *(
            json.dumps({"weight_map": {"a": name}})
            for name in ("../w.pth", "/dev/zero", "..", ".", "", "a/b", "a\\b", "a\0b", "x" * 999)
        ),
    ],
)
def test_an_index_lists_files_beside_it(text, tmp_path):
    (tmp_path / "w.safetensors.index.json").write_text(text)
    assert "is not an index of shards" in error_of(tmp_path / "w.safetensors.index.json")


def test_a_shard_that_is_a_link_lies_in_the_folder_of_the_index(weights, tmp_path):
    (tmp_path / "model").mkdir()
    index = sharded(weights, tmp_path / "model")
    shard = tmp_path / "model" / "w-00002-of-00002.safetensors"
    shard.rename(tmp_path / "elsewhere")
    shard.symlink_to(tmp_path / "elsewhere")
    assert "is a link out of its folder" in error_of(index)
    shard.unlink()
    shard.symlink_to("/dev/zero")
    assert "is missing" in error_of(index)
    shard.unlink()
    shard.symlink_to(shard)
    assert "is missing" in error_of(index) or "cannot be read" in error_of(index)


def test_links_into_one_folder_of_contents_are_read(weights, tmp_path):
    """As the cache of the Hugging Face Hub holds snapshots."""
    (tmp_path / "snapshot").mkdir()
    sharded(weights, tmp_path)
    for file in tmp_path.glob("w*"):
        (tmp_path / "snapshot" / file.name).symlink_to(file)
    content, _ = read_checkpoint(tmp_path / "snapshot")
    assert content.keys() == weights.keys()


def test_each_tensor_comes_from_the_shard_that_the_index_names(weights, tmp_path):
    index = sharded(weights, tmp_path)
    second = tmp_path / "w-00002-of-00002.safetensors"
    save_file({key: tensor + 1 for key, tensor in weights.items()}, second)
    content, _ = read_checkpoint(index)
    assert torch.equal(content["intro.weight"], weights["intro.weight"])
    save_file({"other": torch.ones(1)}, second)
    assert "unlike w.safetensors.index.json says" in error_of(index)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin", "step9/mp_rank_00_model_states.pt", "a.ckpt"]
)
def test_a_folder_stands_for_its_checkpoint(name, weights, tmp_path):
    (tmp_path / "optimizer.bin").touch()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    content = {"module": weights} if "mp_rank" in name else dict(weights)
    (save_file if name.endswith("safetensors") else torch.save)(content, tmp_path / name)
    assert load_checkpoint(tmp_path).architecture == "NAFNet"


def test_a_folder_with_several_checkpoints_is_an_error(tmp_path):
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).touch()
    assert error_of(tmp_path).endswith("is a folder with several checkpoints, a.pth, b.pth")


def test_a_folder_without_a_checkpoint_is_an_error(tmp_path):
    assert error_of(tmp_path).endswith("is a folder without a checkpoint file")


def test_missing_file(tmp_path):
    assert error_of(tmp_path / "w.pth") == f"{tmp_path}/w.pth: no such file"


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all"])
def test_garbage(content, tmp_path):
    (tmp_path / "w.pth").write_bytes(content)
    assert "w.pth: not a readable PyTorch checkpoint" in error_of(tmp_path / "w.pth")


def test_truncated_file(weights, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(weights, path)
    path.write_bytes(path.read_bytes()[:-5000])
    assert "may be truncated" in error_of(path)


def test_plain_pickle(tmp_path):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": 1}))
    assert "not written by torch.save (UnpicklingError: Unsupported" in error_of(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all"])
def test_garbage_safetensors(content, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(content)
    assert "not a readable safetensors file" in error_of(tmp_path / "w.safetensors")

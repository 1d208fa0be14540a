"""Files that state far more than they hold: refused in a line, before anything is built."""

import json
import pickle
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from glocal import networks
from glocal.errors import CheckpointError
from glocal.networks import load_checkpoint
from glocal.networks.checkpoints import bounds
from glocal.networks.checkpoints.building import TooLargeError, bounded_by

SMALL = {"img_channel": 3, "width": 4, "middle_blk_num": 1, "enc_blk_nums": [1]}
HUGE = 999_999_999


@pytest.fixture
def weights():
    return networks.NAFNet(3, 4, 1, [1], [1]).state_dict()


def error_of(path):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert len(message.splitlines()) <= 2
    assert len(message) < 2000
    return message


def archive(path, pickled, data=b"", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in (("data.pkl", pickled), ("version", b"3\n"), ("data/0", data)):
            file.writestr(f"archive/{name}", content)
    return path


@pytest.mark.parametrize("pickled", [b"\x80\x02}." + bytes(5_000_000), b"\x80\x02}."])
def test_an_archive_unpacks_to_about_its_size(pickled, tmp_path):
    data = bytes(5_000_000) if len(pickled) < 10 else b""
    path = archive(tmp_path / "w.pth", pickled, data, zipfile.ZIP_DEFLATED)
    assert "to 500" in error_of(path)


def test_a_compressed_checkpoint_is_read(weights, tmp_path):
    torch.save(weights, tmp_path / "w.pth")
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as whole,
        zipfile.ZipFile(tmp_path / "z.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    assert load_checkpoint(tmp_path / "z.pth").architecture == "NAFNet"


@pytest.mark.parametrize("stated", [2**31, 2**40])
def test_the_list_of_entries_is_bounded(stated, weights, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(weights, path)
    data = bytearray(path.read_bytes())
    at = data.rfind(b"PK\x05\x06")
    if stated < 2**32:
        struct.pack_into("<I", data, at + 12, stated)
    else:  # a 64-bit record before a locator
        struct.pack_into("<I", data, at + 12, 2**32 - 1)
        record = b"PK\x06\x06" + bytes(36) + struct.pack("<QQ", stated, 0)
        data[at:at] = record + b"PK\x06\x07" + struct.pack("<IQI", 0, at, 1)
    path.write_bytes(data)
    assert "too many entries" in error_of(path)


def test_instructions_of_a_pickle_are_bounded(monkeypatch, tmp_path):
    monkeypatch.setattr(bounds, "MOST_INSTRUCTIONS", 1000)
    lists = b"\x80\x02" + b"]" * 2000 + b"."
    for path in (archive(tmp_path / "w.pth", lists), tmp_path / "old.pth"):
        path.write_bytes(path.read_bytes() if path.exists() else lists)
        assert "more than 1000 pickle instructions" in error_of(path)


def test_a_buffer_of_any_size_is_not_made(tmp_path):
    call = b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."
    assert "has a bytearray" in error_of(archive(tmp_path / "w.pth", call))


def test_instructions_are_counted_as_they_are_read(tmp_path):
    values = {"a": [1, 300, 70_000, 2.5, None, True, (1, 2)], "b": torch.ones(2), "ü": {1, 2}}
    torch.save(values, tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth") as file:
        name = next(each for each in file.namelist() if each.endswith("data.pkl"))
        wanted = sum(1 for _ in pickle_instructions(file.read(name)))
    assert bounds.instructions(tmp_path / "w.pth") == wanted


def pickle_instructions(data):
    import pickletools

    return pickletools.genops(data)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # torch will drop them
@pytest.mark.parametrize("dtype", [torch.float32, torch.float8_e4m3fn, torch.qint8])
def test_values_that_repeat_are_no_weights(dtype, weights, tmp_path):
    if dtype == torch.qint8:
        one = torch._make_per_tensor_quantized_tensor(torch.zeros(1, dtype=torch.int8), 0.1, 0)
    else:
        one = torch.zeros(1, dtype=dtype)
    weights["intro.weight"] = one.expand(3000, 3000)
    torch.save(weights, tmp_path / "w.pth")
    assert "intro.weight has the shape (3000, 3000)" in error_of(tmp_path / "w.pth")


def test_shared_weights_are_no_repetition(tmp_path):
    shared = torch.zeros(500_000)
    torch.save({"a": shared, "b": shared}, tmp_path / "w.pth")
    assert "matches no known network" in error_of(tmp_path / "w.pth")


@pytest.mark.parametrize("key", ["a." * 100 + "w", "a" * 2000])
def test_names_of_tensors_are_bounded(key, weights, tmp_path):
    torch.save(weights | {key: torch.ones(1)}, tmp_path / "w.pth")
    assert "has a tensor whose name is no network's" in error_of(tmp_path / "w.pth")


@pytest.mark.parametrize("key", ["middle_blks.{}.conv1.weight", "encoders.{0}.{0}.conv1.weight"])
@pytest.mark.parametrize("number", [HUGE, 10**30, "9" * 500])
def test_a_block_of_a_huge_number_is_no_number_of_blocks(key, number, weights, tmp_path, spandrel):
    torch.save(weights | {key.format(number): torch.ones(1)}, tmp_path / "w.pth")
    message = error_of(tmp_path / "w.pth")
    assert "closest is NAFNet" in message or "has a number that no network" in message


@pytest.mark.parametrize(
    ("architecture", "hyperparameters"),
    [
        ("NAFNet", SMALL | {"width": HUGE}),
        ("NAFNet", SMALL | {"middle_blk_num": HUGE}),
        ("NAFNet", SMALL | {"middle_blk_num": 1000}),
        ("NAFNet", SMALL | {"enc_blk_nums": [1] * 10_000}),
        ("HINet", {"depth": HUGE}),
        ("MAXIM", {"depth": HUGE}),
        ("Restormer", {"ffn_expansion_factor": 1e300}),
    ],
)
def test_hyperparameters_are_bounded_by_the_tensors(
    architecture, hyperparameters, weights, tmp_path
):
    metadata = {"architecture": architecture, "hyperparameters": json.dumps(hyperparameters)}
    save_file(weights, tmp_path / "w.safetensors", metadata=metadata)
    assert f"{architecture} cannot be built with" in error_of(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "64 levels deep"),
        ('{"width": ' + "[" * 70 + "]" * 70 + "}", "64 levels deep"),
        ('{"width": ' + "9" * 10_000 + "}", "is no JSON"),
        ('{"width": NaN}', "NaN"),
        ('{"width": 4, "width": 8}', 'the key "width" twice'),
        ('{"width": "4"}', 'width: expected an integer, got "4"'),
        ('{"enc_blk_nums": [1, true]}', "enc_blk_nums[1]: expected an integer, got true"),
    ],
)
def test_hyperparameters_are_strict_json(text, reason, weights, tmp_path):
    metadata = {"architecture": "NAFNet", "hyperparameters": text}
    save_file(weights, tmp_path / "w.safetensors", metadata=metadata)
    assert reason in error_of(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        *(("train_size", text) for text in ("0", "1000000000", "9" * 5000, "-3")),
        *(("name", text) for text in ("a\nb", "x" * 1000)),
        *(("task", text) for text in ("a\x1b[2J", "x" * 1000)),
    ],
)
def test_other_metadata_are_bounded(key, text, weights, tmp_path):
    save_file(weights, tmp_path / "w.safetensors", metadata={key: text})
    assert f"{key} in the metadata must be" in error_of(tmp_path / "w.safetensors")


def test_the_header_of_a_safetensors_file_is_bounded(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", 2**30) + b"{}")
    assert "its header would have 1073741824 bytes" in error_of(tmp_path / "w.safetensors")


def test_building_counts_parameters_modules_and_values():
    few = [torch.ones(1)]
    with bounded_by(few):
        nn.Linear(4, 4)
    with pytest.raises(TooLargeError, match="parameters for 1 tensors"), bounded_by(few):
        nn.ModuleList(nn.Linear(1, 1) for _ in range(HUGE))
    with pytest.raises(TooLargeError, match="modules for 1 tensors"), bounded_by(few):
        nn.Sequential(*(nn.Identity() for _ in range(3000)))
    with pytest.raises(TooLargeError, match="more values than the tensors"), bounded_by(few):
        nn.Linear(5000, 5000)
    nn.Sequential(*(nn.Linear(1, 1) for _ in range(100)))  # no hook is left


def test_plain_pickles_of_other_protocols_are_counted_up_to_what_torch_knows(tmp_path):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": list(range(1000))}, protocol=5))
    assert bounds.instructions(tmp_path / "w.pth") < 20

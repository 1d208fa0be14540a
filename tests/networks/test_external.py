"""spandrel, Hugging Face repositories and factories.

More than 300 lines: tests mirror the modules, one file for each.
"""

import copy
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import oracles
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import glocal
from glocal import networks
from glocal.errors import ArgumentError, CheckpointError
from glocal.networks.external import INSTALL, Fitted, recognised

# --- spandrel


def state_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return oracles.randomise(network, seed=3).state_dict()


@pytest.fixture
def compact(spandrel):
    from spandrel.architectures.Compact import Compact

    return state_of(Compact(num_feat=8, num_conv=2, upscale=2))


@pytest.fixture
def mixdehazenet(spandrel):
    from spandrel.architectures.MixDehazeNet import MixDehazeNet

    return state_of(MixDehazeNet(embed_dims=[8, 8, 8, 8, 8], depths=[1, 1, 1, 1, 1]))


def test_wrong_metadata_is_an_error_also_with_spandrel(spandrel, tmp_path):
    """spandrel would recognise the weights and ignore what the file says of itself."""
    network = networks.NAFNet(width=8, enc_blk_nums=[1], dec_blk_nums=[1])
    path = tmp_path / "w.safetensors"
    save_file(network.state_dict(), path, metadata={"hyperparameters": '{"width": 4}'})
    with pytest.raises(CheckpointError, match="matches no known network; the closest is NAFNet"):
        networks.load(path)


def described(spandrel, state_dict):
    return spandrel.ModelLoader("cpu").load_from_state_dict(dict(state_dict)).eval()


def test_a_network_that_needs_nothing_comes_as_it_is(spandrel, compact):
    x = torch.rand(1, 3, 9, 12)
    found = recognised(compact)
    assert (found.architecture, found.task) == ("RealESRGAN Compact", "super-resolution x2")
    assert not isinstance(found.network, Fitted)
    assert found.hyperparameters["num_feat"] == 8
    assert not found.network.training
    with torch.no_grad():
        wanted = described(spandrel, compact).model(x)
        assert torch.equal(found.network(x), wanted)
    pickle.loads(pickle.dumps(found.network))


def test_sizes_and_ranges_are_as_spandrel_says(spandrel, mixdehazenet):
    found = recognised(mixdehazenet)
    assert isinstance(found.network, Fitted)
    assert found.task == "restoration"
    x = torch.rand(1, 3, 45, 61)
    with torch.no_grad():
        got = found.network(x)
        # it gives [-1, 1]; spandrel's call brings that to [0, 1] and clamps
        assert torch.equal(got.clamp(0, 1), described(spandrel, mixdehazenet)(x))
    small = torch.rand(1, 3, 11, 50)
    assert found.network(small).shape == small.shape


@pytest.mark.slow
def test_a_wrapped_network_is_converted_and_restores(spandrel, mixdehazenet):
    network = recognised(mixdehazenet).network
    plan = glocal.scan(network, 64)
    assert plan.with_status("local")
    local = glocal.localize(network, 64, allow_global=True)
    assert local.state_dict().keys() == network.state_dict().keys()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        wanted = network(x)
        assert (local(x) - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert glocal.restore(local, torch.rand(3, 101, 75)).shape == (3, 101, 75)


def test_the_extra_architectures_are_known_and_spandrel_stays_as_it_is(spandrel):
    from spandrel_extra_arches.architectures.MPRNet import MPRNet

    before = [support.architecture.id for support in spandrel.MAIN_REGISTRY]
    small = MPRNet(n_feat=8, scale_unetfeats=4, scale_orsnetfeats=4, num_cab=1)
    found = recognised(state_of(small))
    assert found.architecture == "MPRNet"
    assert found.network(torch.rand(1, 3, 20, 24)).shape == (1, 3, 20, 24)
    assert [support.architecture.id for support in spandrel.MAIN_REGISTRY] == before


def test_half_precision_weights_come_in_float32_and_the_random_state_stays(compact):
    torch.manual_seed(0)
    wanted = torch.rand(1)
    torch.manual_seed(0)
    found = recognised({key: tensor.half() for key, tensor in compact.items()})
    assert torch.rand(1) == wanted
    assert {p.dtype for p in found.network.parameters()} == {torch.float32}


def test_an_unknown_network_is_none(spandrel):
    assert recognised({"nonesuch.weight": torch.zeros(3)}) is None


def test_tensors_that_nearly_fit_are_an_error(spandrel, compact):
    cut = {key: tensor for key, tensor in compact.items() if key != "body.0.bias"}
    with pytest.raises(CheckpointError, match="that the tensors do not match"):
        recognised(cut)


def test_a_network_with_a_mask_is_refused(spandrel, monkeypatch):
    found = SimpleNamespace(architecture=SimpleNamespace(name="LaMa"))
    loader = SimpleNamespace(load_from_state_dict=lambda state_dict: found)
    monkeypatch.setattr(spandrel, "ModelLoader", lambda *_: loader)
    with pytest.raises(CheckpointError, match="LaMa, which needs a mask"):
        recognised({})


def test_a_checkpoint_that_is_none_of_glocals_own_loads(compact, tmp_path):
    path = tmp_path / "4x-name.safetensors"
    save_file(compact, path, {"train_size": "64"})
    loaded = networks.load_checkpoint(path)
    assert (loaded.architecture, loaded.name, loaded.train_size, loaded.task) == (
        "RealESRGAN Compact",
        "4x-name",
        (64, 64),
        "super-resolution x2",
    )
    photo = torch.rand(3, 13, 18)
    assert glocal.restore(loaded.network, photo).shape == (3, 26, 36)
    assert glocal.restore(loaded.network, photo, tiles=glocal.Tiles(8, overlap=4)).shape == (
        3,
        26,
        36,
    )
    torch.save({"params_ema": compact}, tmp_path / "4x.pth")
    assert networks.load_checkpoint(tmp_path / "4x.pth").architecture == "RealESRGAN Compact"


def test_what_nobody_knows_is_an_error_that_says_so(spandrel, tmp_path):
    path = tmp_path / "unknown.pth"
    torch.save({"nonesuch.weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="spandrel does not recognise it either"):
        networks.load(path)


@pytest.mark.parametrize("missing", ["spandrel", "spandrel_extra_arches"])
def test_without_spandrel_the_error_says_how_to_install_it(missing, tmp_path, monkeypatch):
    path = tmp_path / "unknown.pth"
    torch.save({"nonesuch.weight": torch.zeros(3)}, path)
    if missing != "spandrel":
        monkeypatch.setitem(sys.modules, "spandrel", SimpleNamespace())
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(CheckpointError) as caught:
        networks.load(path)
    assert str(caught.value).endswith(f"{missing} is not installed; {INSTALL}")


def test_a_broken_installation_is_an_error_that_says_so(tmp_path, monkeypatch):
    (tmp_path / "spandrel.py").write_text("raise RuntimeError('operator nms does not exist')")
    path = tmp_path / "unknown.pth"
    torch.save({"nonesuch.weight": torch.zeros(3)}, path)
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CheckpointError, match="spandrel is installed but cannot be imported"):
        networks.load(path)


def test_networks_of_glocals_own_need_no_spandrel(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    torch.save(networks.NAFNet(3, 4, 1, [1], [1]).state_dict(), tmp_path / "own.pth")
    assert networks.load_checkpoint(tmp_path / "own.pth").architecture == "NAFNet"


def test_a_network_that_nearly_is_one_of_glocals_own_is_compared_with_that_alone(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    state_dict = networks.NAFNet(3, 4, 1, [1], [1]).state_dict()
    del state_dict["ending.bias"]
    torch.save(state_dict, tmp_path / "cut.pth")
    with pytest.raises(CheckpointError) as caught:
        networks.load(tmp_path / "cut.pth")
    assert str(caught.value).endswith("\nmissing: ending.bias")


# --- Fitted


def fitted(network=None, call=None, minimum=0, multiple=1, square=False, scale=1):
    return Fitted(
        network or nn.Identity(),
        call,
        minimum=minimum,
        multiple=multiple,
        square=square,
        scale=scale,
    )


class Sizes(nn.Module):
    """Notes the size of what it is given."""

    def forward(self, x):
        self.seen = tuple(x.shape[-2:])
        return x


@pytest.mark.parametrize(
    ("requirements", "size", "padded"),
    [
        ({"multiple": 8}, (13, 16), (16, 16)),
        ({"minimum": 40}, (7, 50), (40, 50)),
        ({"minimum": 48, "multiple": 16}, (7, 50), (48, 64)),
        ({"multiple": 32, "square": True}, (33, 20), (64, 64)),
        ({}, (5, 9), (5, 9)),
    ],
)
def test_sizes_are_padded_as_required_and_cropped_back(requirements, size, padded):
    sizes = Sizes()
    x = torch.rand(2, 3, *size)
    assert torch.equal(fitted(sizes, **requirements)(x), x)
    assert sizes.seen == padded


def test_the_call_chooses_the_result_and_the_scale_crops_it():
    network = nn.Upsample(scale_factor=2)

    def call(network, x):
        return (network(x) + 1, None)[0]

    x = torch.rand(1, 3, 5, 7)
    module = copy.deepcopy(fitted(network, call, multiple=4, scale=2))
    assert torch.equal(module(x), network(x) + 1)


# --- the Hugging Face Hub


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
        save_file(weights, path) if path.suffix == ".safetensors" else torch.save(weights, path)
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


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("me/deblur", ["gopro.pth", "reds.pth"], "2 checkpoints, gopro.pth, reds.pth; choose one"),
        ("me/deblur", ["model.bin"], "has no .pth, .pt, .pk, .ckpt, .safetensors file"),
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
    with pytest.raises(CheckpointError, match="files without a suffix"):
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


# --- a Python function


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A folder with a module, whose name is returned."""
    code = (
        "from torch import nn\n"
        "network = nn.Conv2d(3, 3, 1)\n"
        "class Builders:\n"
        "    @staticmethod\n"
        "    def small(): return nn.Conv2d(3, 3, 1)\n"
        "def number(): return 3\n"
        "def needs(width): return nn.Conv2d(3, width, 1)\n"
        "def late():\n"
        "    import my_late_module\n"
        "    return my_late_module.network\n"
    )
    (tmp_path / "my_module.py").write_text(code)
    (tmp_path / "my_late_module.py").write_text("from my_module import network\n")
    monkeypatch.chdir(tmp_path)
    yield "my_module"
    for name in ("my_module", "my_late_module"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("attribute", ["network", "Builders.small", "late"])
def test_a_factory_or_a_network_is_a_model(module, attribute):
    path = list(sys.path)
    loaded = networks.load_checkpoint(f"{module}:{attribute}")
    assert isinstance(loaded.network, nn.Conv2d)
    assert not loaded.network.training
    assert (loaded.name, loaded.architecture) == (f"{module}:{attribute}", "Conv2d")
    assert sys.path == path


@pytest.mark.parametrize(
    ("attribute", "error", "message"),
    [
        ("number", ArgumentError, "returned int; a factory must return a torch.nn.Module"),
        ("needs", ArgumentError, "without arguments failed: TypeError: .*'width'$"),
        ("nonesuch", CheckpointError, "cannot be imported .*nonesuch"),
    ],
)
def test_what_is_no_factory_is_an_error_in_one_line(module, attribute, error, message):
    with pytest.raises(error, match=message) as caught:
        networks.load(f"{module}:{attribute}")
    assert "\n" not in str(caught.value)

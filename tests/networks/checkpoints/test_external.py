"""Networks of spandrel."""

import copy
import pickle
import sys
from types import SimpleNamespace

import oracles
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import glocal
from glocal import networks
from glocal.errors import CheckpointError
from glocal.networks.checkpoints.external import Fitted, is_spandrel_id, recognised


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


@pytest.mark.long
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
    with pytest.raises(CheckpointError, match=r"Compact, .* do not match \(missing: body.0.bias\)"):
        recognised(cut)


def test_a_named_architecture_need_not_be_recognised(spandrel, compact, tmp_path):
    torch.save(compact, tmp_path / "w.pth")
    assert networks.load_checkpoint(tmp_path / "w.pth", arch="compact").architecture == (
        "RealESRGAN Compact"
    )
    with pytest.raises(CheckpointError, match=r"w\.pth: spandrel recognised SwinIR"):
        networks.load(tmp_path / "w.pth", arch="SwinIR")
    assert not is_spandrel_id("nonesuch")


def test_integers_are_no_weights(compact):
    quantised = {key: (100 * tensor).to(torch.int8) for key, tensor in compact.items()}
    with pytest.raises(CheckpointError, match=r"different type: body\.0\.weight"):
        recognised(quantised)


def test_a_network_with_a_mask_takes_image_and_mask(spandrel, monkeypatch):
    class Masked(nn.Module):
        def forward(self, image, mask):
            return image * mask

    descriptor = object.__new__(spandrel.MaskedImageModelDescriptor)
    monkeypatch.setattr(spandrel.MaskedImageModelDescriptor, "purpose", "Inpainting")
    descriptor.__dict__ |= {"_model": Masked(), "_architecture": SimpleNamespace(name="LaMa")}
    descriptor.scale = 1
    support = SimpleNamespace(
        detect=lambda state_dict: True,
        architecture=SimpleNamespace(name="LaMa", load=lambda state_dict: descriptor),
    )
    monkeypatch.setattr("glocal.networks.checkpoints.external._supports", lambda named: [support])
    found = recognised({})
    assert found.task == "inpainting"
    x = torch.rand(1, 3, 4, 4)
    assert torch.equal(found.network(x, x), x * x)


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
    assert str(caught.value).endswith(f'{missing} is not installed; pip install "glocal[spandrel]"')


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

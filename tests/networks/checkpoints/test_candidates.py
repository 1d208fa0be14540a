"""Where the weights of a network lie in what training code saves, and which are taken."""

import argparse
import sys
import warnings

import pytest
import torch

import glocal
from glocal import networks
from glocal.errors import ArgumentError, CheckpointError, GlocalWarning
from glocal.networks import load_checkpoint


def prefixed(prefix, state):
    return {prefix + key: tensor for key, tensor in state.items()}


@pytest.fixture(autouse=True)
def without_spandrel(monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)


@pytest.fixture
def state():
    return networks.NAFNet(3, 4, 1, [1], [1]).state_dict()


@pytest.fixture
def load(tmp_path):
    """Save content and load it, with the warnings as errors."""

    def load(content, **options):
        torch.save(content, tmp_path / "w.ckpt")
        return load_checkpoint(tmp_path / "w.ckpt", **options)

    return load


def changed(state):
    return {key: tensor + 1 for key, tensor in state.items()}


def has(loaded, state):
    own = loaded.network.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[k], state[k]) for k in own)


@pytest.mark.parametrize(
    ("wrap", "entry"),
    [
        (lambda s: s, ""),
        (lambda s: {"any_name_at_all": s, "epoch": 3}, "any_name_at_all"),
        (lambda s: {"model": {"net": [s]}}, "model.net.0"),
        (lambda s: prefixed("module._orig_mod.", s), "module"),
        (lambda s: {"state_dict": prefixed("a.b.net.", s)}, "state_dict.a.b.net"),
        (lambda s: prefixed("module.", s) | {"n_averaged": torch.tensor(7)}, "module"),
        (lambda s: s | {"step": 12}, ""),
        (lambda s: {k.replace("intro", "intro._fsdp_wrapped_module"): t for k, t in s.items()}, ""),
        (
            lambda s: {"state_dict": prefixed("net.", s) | {"lpips.net.0.weight": torch.ones(1)}},
            "state_dict.net",
        ),
        (
            lambda s: {"state_dict": prefixed("net.", s), "hyper_parameters": argparse.Namespace()},
            "state_dict.net",
        ),
        (lambda s: {"net_d": changed(s), "optimizer": {"a": changed(s)}, "x": s}, "x"),
    ],
    ids=[
        *("bare", "entry", "nested", "compiled", "prefix", "averaged", "numbers", "fsdp"),
        *("loss", "lightning", "critic"),
    ],
)
def test_weights_are_found_wherever_they_lie(wrap, entry, state, load):
    loaded = load(wrap(dict(state)))
    assert has(loaded, state)
    assert loaded.entry == entry


@pytest.mark.parametrize(
    ("taken", "other"),
    [
        ("params_ema", "params"),
        ("state_dict_ema", "state_dict"),
        ("ema_0.9999", "model"),
        ("swa_model", "model"),
        ("net_g", "extra"),
        ("netG", "netD"),
        ("G_ema", "G"),
        ("model", "model_non_ema"),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_averaged_weights_go_before_generators_and_others(taken, other, is_first, state, load):
    entries = {taken: state, other: changed(state)}
    loaded = load(entries if is_first else dict(reversed(entries.items())))
    assert has(loaded, state)
    assert (loaded.entry, loaded.other_entries) == (taken, (other,))


def test_prefixes_are_ranked_as_entries_are(state, load):
    content = prefixed("online_model.", changed(state)) | prefixed("ema_model.", state)
    loaded = load(content | {"initted": torch.tensor(True), "step": torch.tensor(3)})
    assert has(loaded, state)
    assert (loaded.entry, loaded.other_entries) == ("ema_model", ("online_model",))


def test_mmengine_saves_the_average_in_state_dict(state, load):
    aside = prefixed("module.", changed(state)) | {"steps": torch.tensor(4)}
    assert load({"ema_state_dict": aside, "state_dict": state}).entry == "state_dict"


def test_a_choice_between_different_weights_without_a_preference_is_warned_of(state, load):
    with pytest.warns(GlocalWarning, match="weights in best are taken; those in last differ"):
        loaded = load({"best": state, "last": changed(state)})
    assert has(loaded, state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load({"best": state, "last": {k: t.clone() for k, t in state.items()}})
        assert load({"best": state, "last": changed(state)}, entry="best").entry == "best"


def test_averaged_weights_without_names_are_not_passed_over_in_silence(state, load):
    average = {"decay": 0.9, "shadow_params": list(state.values())}
    with pytest.warns(GlocalWarning, match="weights in ema.shadow_params have no names"):
        assert has(load({"ema": average, "model": state}), state)


@pytest.mark.parametrize("entry", ["params", "state_dict.b", "b", "b."])
def test_an_entry_is_read_by_name(entry, state, load):
    content = {
        "params_ema": changed(state),
        "params": state,
        "state_dict": prefixed("a.", changed(state)) | prefixed("b.module.", state),
    }
    assert has(load(content, entry=entry), state)


def test_an_unknown_entry_is_an_error_that_lists_them(state, load):
    with pytest.raises(CheckpointError, match=r"no entry 'x' with tensors; its entries are a, b$"):
        load({"a": state, "b": changed(state)}, entry="x")
    with pytest.raises(CheckpointError, match="it is a bare state dict"):
        load(state, entry="x")


def test_a_part_of_a_network_is_not_taken_for_a_whole(state, load):
    content = {"state_dict": prefixed("restorer.", state) | {"flow.a.weight": torch.ones(1, 1)}}
    with pytest.raises(CheckpointError, match=r"match NAFNet, .* --entry state_dict.restorer$"):
        load(content)
    assert has(load(content, entry="restorer"), state)


def test_counters_are_left_out(state, load):
    counters = {f"{module}.{name}" for module in ("intro", "ups.0") for name in ("total_ops",)}
    counts = {key: torch.zeros(1, dtype=torch.float64) for key in (*counters, "total_params")}
    assert has(load({"state_dict": state | counts}), state)
    with pytest.raises(CheckpointError, match="unexpected: total_ops"):
        load(state | {"total_ops": torch.zeros(2)})  # no single number, so no counter


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_weights_of_few_bits_load_in_float32(dtype, state, load):
    stored = {key: tensor.to(dtype) for key, tensor in state.items()}
    assert has(load(stored), {key: tensor.float() for key, tensor in stored.items()})


def test_integers_are_no_weights(state, load):
    with pytest.raises(CheckpointError, match=r"different type: intro\.weight, "):
        load({key: (100 * tensor).to(torch.int8) for key, tensor in state.items()})


# --- a named architecture


@pytest.mark.parametrize("arch", ["NAFNet", "nafnet"])
def test_a_named_architecture_is_taken(arch, state, load):
    assert load(state, arch=arch).architecture == "NAFNet"


def test_what_does_not_fit_it_is_named(state, load):
    with pytest.raises(CheckpointError) as caught:
        load(state, arch="Restormer")
    first, second = str(caught.value).splitlines()
    assert "the weights do not fit Restormer, with 0% of the keys in common" in first
    assert len(second.replace("; unexpected: ", ", ").split(", ")) == 10
    assert second.startswith("missing: ")


def test_an_unknown_architecture_is_an_error(state, load, spandrel, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", spandrel)
    with pytest.raises(ArgumentError, match="nonesuch: unknown architecture; give one of Baseline"):
        load(state, arch="nonesuch")


# --- what has no weights


@pytest.mark.parametrize(
    ("content", "ending"),
    [
        ({}, "has no tensors"),
        ({"params": {}}, "has no tensors; its entries are params"),
        ({"a": 1, "b": 2, "c": 3, "d": 4}, "its entries are a, b, c and 1 more"),
        ({"shadow_params": [torch.ones(1)]}, "shadow_params is a list, in the order of a network"),
        ({"model": argparse.Namespace()}, "model (argparse.Namespace); save the state_dict() of "),
        ([torch.ones(1)], "has no tensors: it is a list"),
    ],
)
def test_no_tensors(content, ending, load):
    with pytest.raises(CheckpointError) as caught:
        load(content)
    assert ending in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_contains_itself(load):
    endless = {}
    endless["model"] = endless
    with pytest.raises(CheckpointError, match="has no tensors"):
        load(endless)


def test_three_closest_networks_are_named(state, load):
    del state["ending.bias"]
    with pytest.raises(glocal.CheckpointError) as caught:
        load(state | {"extra.weight": torch.ones(1)})
    first, second = str(caught.value).splitlines()
    assert "the closest is NAFNet, with 9" in first
    assert ", then Baseline (" in first
    assert second == "missing: ending.bias; unexpected: extra.weight"

"""Gradients through local operations and converted networks: those of the slow definitions."""

import oracles
import pytest
import torch
from oracles import networks as references
from torch import nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

import glocal
from glocal import ops
from glocal.networks import HINet, NAFNet, Restormer

SIZE = (5, 7)
WINDOWS = [(3, 4), (2, 20), (20, 3), (5, 7), (20, 20)]
windows = pytest.mark.parametrize("window", WINDOWS)

STATISTICS = {
    "mean": (ops.local_mean, oracles.local_mean),
    "max": (ops.local_max, oracles.local_max),
    "norm": (ops.local_norm, oracles.local_norm),
    "first moment": (lambda x, k: ops.local_moments(x, k)[0], oracles.local_mean),
    "second moment": (lambda x, k: ops.local_moments(x, k)[1], oracles.local_var),
}
NORMS = {
    "instance norm": (ops.local_instance_norm, oracles.local_instance_norm),
    "group norm": (
        lambda x, k, *affine: ops.local_group_norm(x, 2, k, *affine),
        lambda x, k, *affine: oracles.local_group_norm(x, 2, k, *affine),
    ),
    "layer norm": (ops.local_layer_norm, oracles.local_layer_norm),
}


def ramp(c, seed=0, b=1):
    return oracles.ramp_noise(b, c, *SIZE, seed=seed).requires_grad_()


def check_gradients(got, wanted, inputs, tolerance=1e-9):
    """The same value, and the same derivative of a random mixture of it by every input."""
    assert got.shape == wanted.shape
    mixture = oracles.ramp_noise(1, 1, 1, got.numel()).view_as(got) - 0.5
    ours = torch.autograd.grad((got * mixture).sum(), inputs)
    theirs = torch.autograd.grad((wanted * mixture).sum(), inputs)
    largest = max(float(t.abs().max()) for t in theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert float((a - b).abs().max()) <= tolerance * largest


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch itself uses it
@pytest.mark.parametrize("name", [*STATISTICS, *NORMS])
def test_tangents_are_the_adjoints_of_gradients(name):
    operation, _ = {**STATISTICS, **NORMS}[name]
    x = torch.randn(1, 4, 20, 24, generator=torch.Generator().manual_seed(0))
    tangent, mixture = (torch.randn_like(x) for _ in range(2))  # float32, as compiled forms take
    with forward_ad.dual_level():
        pushed = forward_ad.unpack_dual(operation(forward_ad.make_dual(x, tangent), (8, 6))).tangent
    functional, transform = torch.func.jvp(lambda x: operation(x, (8, 6)), (x,), (tangent,))
    torch.testing.assert_close(functional, operation(x, (8, 6)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(transform, pushed)
    x.requires_grad_()
    (pulled,) = torch.autograd.grad((operation(x, (8, 6)) * mixture).sum(), x)
    wanted = (pulled.double() * tangent).sum()
    torch.testing.assert_close((pushed.double() * mixture).sum(), wanted, rtol=1e-4, atol=1e-4)


@windows
@pytest.mark.parametrize("name", STATISTICS)
def test_gradients_of_statistics(name, window):
    local, oracle = STATISTICS[name]
    x = ramp(2, b=2)
    check_gradients(local(x, window).expand(2, 2, *SIZE), oracle(x, window), (x,))
    x = ramp(1)
    assert torch.autograd.gradcheck(lambda x: local(x, window), (x,), fast_mode=True)


@windows
@pytest.mark.parametrize("name", NORMS)
def test_gradients_of_norms(name, window):
    local, oracle = NORMS[name]
    x = ramp(4, b=2)
    weight, bias = ((torch.rand(4).double() + 0.5).requires_grad_() for _ in range(2))
    inputs = (x, weight, bias)
    check_gradients(local(x, window, weight, bias), oracle(x, window, weight, bias), inputs, 1e-8)
    assert torch.autograd.gradcheck(lambda *t: local(t[0], window, *t[1:]), inputs, fast_mode=True)


@windows
@pytest.mark.parametrize("cached", [1, 2**20])  # bytes: a row at a time, all
def test_gradients_of_attention(window, cached, monkeypatch):
    monkeypatch.setattr("glocal.ops.attention_by_cells.CACHED_BYTES", cached)
    q, k, v = ((ramp(6, seed).detach() - 0.5).unflatten(1, (2, 3)) for seed in range(3))
    temperature = torch.tensor([[[0.7]], [[3.0]]]).double()
    inputs = tuple(t.requires_grad_() for t in (q, k, v, temperature))
    check_gradients(
        ops.local_channel_attention(*inputs, window),
        oracles.local_channel_attention(*inputs, window),
        inputs,
    )
    assert torch.autograd.gradcheck(
        lambda *t: ops.local_channel_attention(*t, window), inputs, fast_mode=True
    )


@windows
def test_gradients_are_finite_where_all_is_zero(window):
    x = torch.zeros(1, 6, *SIZE, requires_grad=True)
    heads = x.unflatten(1, (2, 3))
    for result in (
        ops.local_norm(x, window),
        ops.local_instance_norm(x, window),
        ops.local_channel_attention(heads, heads, heads, 1.0, window),
    ):
        (gradient,) = torch.autograd.grad(result.sum(), x)
        assert gradient.isfinite().all()


@windows
def test_gradients_of_tiles(window):
    x = ramp(2, b=2)
    assert torch.autograd.gradcheck(lambda x: ops.unfold_windows(x, window), (x,), fast_mode=True)
    tiles = ops.unfold_windows(x.detach(), window).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: ops.fold_windows(t, SIZE), (tiles,), fast_mode=True)
    # Untiling undoes tiling, so together they pass on any gradient as it is.
    weight = torch.rand_like(x)
    (through,) = torch.autograd.grad(
        (ops.fold_windows(ops.unfold_windows(x, window), SIZE) * weight).sum(), x
    )
    torch.testing.assert_close(through, weight)


# ---- training converted networks

TRAIN = 16
NETWORKS = {
    "NAFNet": (lambda: NAFNet(3, 4, 1, [1], [1]), references.nafnet_local),
    "HINet": (lambda: HINet(wf=4, depth=2), references.hinet_local),
    "Restormer": (
        lambda: Restormer(
            dim=4, num_blocks=(1, 1, 1, 1), num_refinement_blocks=1, heads=(1, 2, 2, 4)
        ),
        references.restormer_local,
    ),
}
networks = pytest.mark.parametrize("name", NETWORKS)
IMAGES = (24, 40)  # its windows of 24 cover the height and not the width


def converted(name):
    """A converted network in training mode, float64."""
    return glocal.localize(oracles.randomise(NETWORKS[name][0]()).double().train(), TRAIN)


def batch(dtype=torch.float64):
    return tuple(oracles.ramp_noise(2, 3, *IMAGES, seed=seed).to(dtype) for seed in (1, 2))


def loss_of(output, target):
    restored = output[-1] if isinstance(output, list) else output
    return (restored - target).square().mean()


def gradients_of(network, images, target, call=None):
    network.zero_grad()
    loss = loss_of((call or network)(images), target)
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in network.named_parameters()}


@networks
def test_a_training_step_is_that_of_the_slow_reference(name, monkeypatch):
    monkeypatch.setattr(references._Part, "of", classmethod(lambda cls, state: cls(state)))
    local, (images, target) = converted(name), batch()
    state = {k: v.detach().clone().requires_grad_() for k, v in local.named_parameters()}
    wanted = loss_of(NETWORKS[name][1](state, images, TRAIN, 24), target)
    slow = torch.autograd.grad(wanted, list(state.values()))

    optimiser = torch.optim.SGD(local.parameters(), lr=0.001)
    loss, fast = gradients_of(local, images, target)
    torch.testing.assert_close(loss, wanted.detach(), rtol=1e-10, atol=0)
    largest = max(float(g.abs().max()) for g in slow)
    assert largest > 1e-4
    for (key, got), reference in zip(fast.items(), slow, strict=True):
        assert float((got - reference).abs().max()) <= 1e-8 * largest, key
    optimiser.step()
    for key, parameter in local.named_parameters():
        stepped = state[key] - 0.001 * fast[key]
        torch.testing.assert_close(parameter, stepped, rtol=1e-12, atol=1e-14)
    assert loss_of(local(images), target) < loss


@networks
def test_the_gradient_is_not_that_of_the_global_network(name):
    local, (images, target) = converted(name), batch()
    whole = NETWORKS[name][0]().double().train()
    whole.load_state_dict(local.state_dict())
    _, ours = gradients_of(local, images, target)
    _, theirs = gradients_of(whole, images, target)
    differences = [float((ours[k] - theirs[k]).norm() / theirs[k].norm()) for k in ours]
    assert max(differences) > 1e-2


@networks
def test_checkpointing_changes_nothing(name):
    local, (images, target) = converted(name), batch()
    images.requires_grad_()
    loss, plain = gradients_of(local, images, target)
    again, recomputed = gradients_of(
        local, images, target, lambda x: checkpoint(local, x, use_reentrant=False)
    )
    assert torch.equal(loss, again)
    for key in plain:
        torch.testing.assert_close(recomputed[key], plain[key], rtol=1e-12, atol=1e-14)


@pytest.mark.slow
@networks
def test_bfloat16_by_autocast_trains(name):
    local, (images, target) = converted(name).float(), batch(torch.float32)
    _, plain = gradients_of(local, images, target)

    def narrow(x):
        with torch.autocast("cpu", torch.bfloat16):
            return local(x)

    _, got = gradients_of(local, images, target, narrow)
    assert all(g.isfinite().all() and g.dtype == torch.float32 for g in got.values())
    both = [torch.cat([g.flatten() for g in grads.values()]) for grads in (got, plain)]
    assert nn.functional.cosine_similarity(*both, dim=0) > 0.95

"""Conversion follows the mode that each module is in."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import glocal
from glocal.errors import ConversionError, GlocalWarning, ScanError

STRIP = torch.rand(1, 3, 8, 200, generator=torch.Generator().manual_seed(0)).double()


def change_far_away(net):
    changed = STRIP.clone()
    changed[..., :20] *= 3
    with torch.no_grad():
        return float((net(STRIP) - net(changed))[..., 140:].abs().max())


def test_instance_norm_in_training_mode_uses_windows_in_place_of_the_image():
    norm = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), norm).double().train()
    local = glocal.localize(net, 16)
    assert local.training
    assert change_far_away(net) > 1e-3
    assert change_far_away(local) < 1e-9


def test_instance_norm_uses_running_statistics_in_eval_mode():
    norm = nn.InstanceNorm2d(3, track_running_stats=True)
    net = nn.Sequential(norm).double().train()
    with torch.no_grad():
        net(3 * STRIP + 1)
    local = glocal.localize(net, 16)
    with torch.no_grad():
        assert torch.equal(local.eval()(STRIP), net.eval()(STRIP))


def test_each_module_has_its_own_mode():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4, track_running_stats=True)).eval()
    assert glocal.scan(net, 16).rows == ()
    net[1].train()
    assert [row.path for row in glocal.scan(net, 16).rows] == ["1"]


@pytest.mark.parametrize("momentum", [0.1, 0.0])
def test_batch_norm_in_training_mode_is_listed_with_the_remedy(momentum):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=momentum)).train()
    with pytest.raises(ConversionError, match=r"in '1' .* in training mode.* call model.eval"):
        glocal.localize(net, 16)
    assert glocal.scan(net.eval(), 16).rows == ()


class Gate(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return x * self.layers(x.std((2, 3), keepdim=True)).sigmoid()


def test_dropout_in_a_rewritten_block_is_named():
    net = Gate(nn.Conv2d(3, 3, 1), nn.Dropout(0.5)).train()
    with pytest.raises(ConversionError, match=r"'layers.1' in it is a Dropout in training mode"):
        glocal.localize(net, 16)
    glocal.localize(net.eval(), 16)


def test_a_network_that_does_not_train_on_one_image_says_so():
    net = Gate(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train()
    with pytest.raises(ScanError, match=r"training mode; call model.eval\(\) first"):
        glocal.localize(net, 16)


def test_a_rewritten_block_runs_its_original_in_another_mode_and_warns():
    class Scaled(Gate):
        def forward(self, x):
            y = super().forward(x)
            return 2 * y if self.training else y

    torch.manual_seed(0)
    net = Scaled(nn.Conv2d(3, 3, 1)).double().eval()
    local = glocal.localize(net, 16)
    assert change_far_away(local) < 1e-9
    with torch.no_grad(), pytest.warns(GlocalWarning, match="in this mode"):
        assert torch.equal(local.train()(STRIP), net.train()(STRIP))


def test_a_mode_that_changes_nothing_is_no_matter():
    net = Gate(nn.Conv2d(3, 3, 1)).double().train()
    local = glocal.localize(net, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert change_far_away(local.eval()) < 1e-9


def test_functional_norms_follow_their_argument():
    class Functional(nn.Module):
        def forward(self, x):
            return F.instance_norm(
                x, torch.zeros(3).to(x), torch.ones(3).to(x), None, None, self.training
            )

    assert glocal.scan(Functional().eval(), 16).rows == ()
    assert len(glocal.scan(Functional().train(), 16).rows) == 1

"""Where the pixels of a map lie: mirrored, shifted and cropped maps, and sizes that grow."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from glocal.scanning.discover import scan_trace


class Net(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x, x.shape[2], x.shape[3])


def found(function):
    def images(size, device):
        return (torch.zeros(1, 4, *size, device=device),)

    return scan_trace(Net(function), images, (32, 48)).operations


def sheared(x, h, w):
    return torch.cat([x[..., -2:], x, x[..., :2]], 3)


def bordered(x, h, w):
    y = torch.zeros_like(x)
    y[..., 1:] = x[..., :-1]
    y[..., :1] = x[..., :1]
    return x + y


def quarters(x, h, w):
    left, right = x.chunk(2, 3)
    stacked = torch.cat([left, right]).relu()
    return torch.cat([stacked[:1], stacked[1:]], 3) + x


def self_ensemble(x, h, w):
    plain, mirrored = torch.cat([x, x.flip(3)]).relu().chunk(2)
    return plain + mirrored.flip(3)


LOCAL = {
    "mirrored back": lambda x, h, w: F.avg_pool2d(x.flip(2, 3), 3, 1, 1).flip(2, 3) + x,
    "rotated back": lambda x, h, w: torch.rot90(torch.rot90(x, 1, (2, 3)).relu(), 3, (2, 3)) + x,
    "exchanged back": lambda x, h, w: x.transpose(2, 3).relu().transpose(2, 3) + x,
    "rolled back": lambda x, h, w: x.roll(h // 2, 2).relu().roll(-(h // 2), 2) + x,
    "rolled by a window": lambda x, h, w: x.roll((4, 4), (2, 3)) + x,
    "a margin": lambda x, h, w: x[..., 1:-1, 1:-1] + F.pad(x, (1,) * 4)[..., 2:-2, 2:-2],
    "differences": lambda x, h, w: F.pad(x[..., 1:] - x[..., :-1], (0, 1)) + x,
    "parts in order": lambda x, h, w: torch.cat([y.relu() for y in x.chunk(4, 3)], 3) + x,
    "halves on the batch": quarters,
    "self-ensemble": self_ensemble,
    "statistic of each half": lambda x, h, w: torch.cat(
        [y * y.mean((2, 3), keepdim=True) for y in x.chunk(2, 3)], 3
    ),
    "circular": lambda x, h, w: F.pad(x, (1, 1, 1, 1), mode="circular"),
    "circular by cat": sheared,
    "a border that is written": bordered,
    "windows": lambda x, h, w: x.unfold(2, 8, 8).unfold(3, 8, 8).reshape(1, 4, -1, 64).softmax(-1),
    "resized to a share": lambda x, h, w: F.adaptive_avg_pool2d(x, (h // 4, w // 4)),
    "padded and cropped": lambda x, h, w: F.pad(x, (w // 2, 0))[..., w // 2 :] + x,
    "positions": lambda x, h, w: x * torch.arange(w, device=x.device).flip(0),
    "a statistic that is spread": lambda x, h, w: (
        x * F.pad(x.mean((2, 3), keepdim=True), (0, w - 1, 0, h - 1), mode="replicate")
    ),
    "a statistic that is repeated": lambda x, h, w: (
        x * x.mean((2, 3), keepdim=True).repeat(1, 1, h, w)
    ),
    "channels": lambda x, h, w: x.flip(1) + x[:, [2, 1, 0, 3]],
}


@pytest.mark.parametrize("name", LOCAL)
def test_pixels_that_keep_their_places_are_local(name):
    assert [o for o in found(LOCAL[name]) if o.refusal] == []


def written_half(x, h, w):
    x = x.clone()
    x[..., : w // 2] *= x[..., w // 2 :]
    return x + 1


OTHER = "mirrored, shifted or cropped"
GLOBAL = {
    "mirror image": (lambda x, h, w: x + x.flip(3), OTHER),
    "mirror image as channels": (lambda x, h, w: torch.cat([x, x.flip(3)], 1), OTHER),
    "returned mirrored": (lambda x, h, w: x.flip(2), "mirrored or shifted"),
    "rotated": (lambda x, h, w: x + torch.rot90(x, 2, (2, 3)), OTHER),
    "returned exchanged": (lambda x, h, w: x.transpose(2, 3), "exchanged"),
    "rows for columns": (lambda x, h, w: x.reshape(1, 4, w, h), "another order"),
    "rolled by half": (lambda x, h, w: x + x.roll(h // 2, 2), OTHER),
    "halves exchanged": (lambda x, h, w: torch.cat(x.chunk(2, 3)[::-1], 3), "side by side"),
    "a half times the other": (written_half, OTHER),
    "mean of a half": (lambda x, h, w: x * x[..., : w // 2].mean((2, 3), keepdim=True), OTHER),
    "mean of all for a half": (
        lambda x, h, w: x[..., : w // 2] * x.mean((2, 3), keepdim=True),
        OTHER,
    ),
    "mean of a padded map": (
        lambda x, h, w: x * F.pad(x, (w // 2, 0)).mean((2, 3), keepdim=True),
        OTHER,
    ),
    "shifted by padding": (lambda x, h, w: x + F.pad(x, (w // 2, 0))[..., :w], OTHER),
    "centre": (lambda x, h, w: x - x[..., h // 2 : h // 2 + 1, w // 2 : w // 2 + 1], "by position"),
    "corner": (lambda x, h, w: x - x[:, :, 0, 0][..., None, None], "by position"),
    "a border for all": (lambda x, h, w: x * x[..., :4].mean((2, 3), keepdim=True), "by position"),
    "a row is returned": (lambda x, h, w: x[:, :, :1], "by position"),
    "pool": (lambda x, h, w: F.avg_pool2d(x, (h // 2 + 1, 1), 1, (h // 4, 0)), "kernel grows"),
    "maximum": (lambda x, h, w: F.max_pool2d(x, (1, w // 4 * 2 + 1), 1, (0, w // 4)), "kernel"),
    "filter": (
        lambda x, h, w: F.conv2d(x, x.new_ones(4, 1, h // 2 + 1, 1), padding="same", groups=4),
        "kernel grows",
    ),
    "dilation": (
        lambda x, h, w: F.conv2d(x, x.new_ones(4, 1, 3, 3), None, 1, h // 8, h // 8, 4),
        "grows with the image",
    ),
    "reflected": (lambda x, h, w: F.pad(x, (0, 0, h // 2, 0), mode="reflect"), "padding grows"),
    "sliding": (
        lambda x, h, w: F.pad(x, (0, 0, h // 2, 0)).unfold(2, h // 2 + 1, 1).mean(-1),
        "windows grow",
    ),
    "a scale that changes": (
        lambda x, h, w: F.adaptive_avg_pool2d(x, (int(h**0.5), int(w**0.5))),
        "grows with the image",
    ),
    "samples": (lambda x, h, w: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1)), "positions"),
    "indices": (lambda x, h, w: x[:, :, torch.arange(h, device=x.device)], "positions"),
    "gathered": (lambda x, h, w: x.gather(2, x.new_zeros(x.shape).long()), "positions"),
    "scattered": (
        lambda x, h, w: torch.zeros_like(x).scatter_add(2, x.new_zeros(x.shape).long(), x),
        "positions",
    ),
    "copies": (lambda x, h, w: x.repeat(1, 1, 2, 2), "side by side"),
    "memory": (lambda x, h, w: x.as_strided((1, 4, h - 1, w - 1, 2), (1, 1, w, 1, w)), "not know"),
}


@pytest.mark.parametrize("name", GLOBAL)
def test_pixels_from_far_away_are_listed_with_the_reason(name):
    function, reason = GLOBAL[name]
    assert any(reason in operation.reason for operation in found(function))
    assert all(o.line.startswith("test_positions.py:") for o in found(function))

"""Where a statistic meets the pixels again, and the gate around it."""

import torch
import torch.nn.functional as F
from torch import nn

from random_networks.spelling import Contact, Statistic, Windows

HEADS = ("linear", "conv", "bare", "one linear")


class Gate(nn.Module):
    """A statistic, a perceptron and a contact."""

    def __init__(self, statistic: Statistic, head: str, contact: Contact, channels: int):
        super().__init__()
        self.how, self.spelled = head, (statistic, contact)
        self.pads_to = statistic.pads_to
        self.statistic = statistic.ordinary() if statistic.module else statistic.ordinary
        self.contact = contact.ordinary
        if head == "linear":
            self.head = nn.Sequential(
                nn.Linear(channels, 2 * channels), nn.ReLU(), nn.Linear(2 * channels, channels)
            )
        elif head == "conv":
            self.head = nn.Sequential(
                nn.Conv2d(channels, channels, 1), nn.GELU(), nn.Conv2d(channels, channels, 1)
            )
        elif head == "one linear":
            self.head = nn.Linear(channels, channels, bias=False)
        self.mix = nn.Conv2d(2 * channels, channels, 1)
        self.film = nn.Linear(channels, 2 * channels)
        self.matrix = nn.Linear(channels, channels * channels)

    def forward(self, x):
        s = self.statistic(x)
        if self.how == "conv":
            s = self.head(s.unsqueeze(-1).unsqueeze(-1)).squeeze(-1).squeeze(-1)
        elif self.how != "bare":
            s = self.head(s)
        return self.contact(self, x, s)

    def slow(self, windows: Windows):
        statistic, contact = self.spelled
        s = statistic.slow(windows.patches)
        if self.how == "one linear":
            s = s @ self.head.weight.T
        elif self.how != "bare":
            between = F.gelu if self.how == "conv" else F.relu
            s = dense(self.head[2], between(dense(self.head[0], s)))
        return contact.slow(self, windows.pixel, s)


def dense(layer, s):
    """A linear layer or a 1x1 convolution of vectors (n, c)."""
    out = s @ layer.weight.reshape(layer.weight.shape[0], -1).T
    return out if layer.bias is None else out + layer.bias


def four(s):
    return s[:, :, None, None]


def view_and_expand(gate, x, s):
    b, c, _, _ = x.size()
    return x * torch.sigmoid(s).view(b, c, 1, 1).expand_as(x)


def last_channels(gate, x, s):
    return (x.permute(0, 2, 3, 1) * s[:, None, None, :].sigmoid()).permute(0, 3, 1, 2)


def flat_map(gate, x, s):
    b, c, h, w = x.shape
    return (x.reshape(b, c, h * w) * s.tanh().unsqueeze(-1)).view(b, c, h, w)


def concatenated(gate, x, s):
    return gate.mix(torch.cat([x, four(s).expand(-1, -1, *x.shape[2:])], dim=1))


def concatenated_nearest(gate, x, s):
    return gate.mix(torch.cat((x, F.interpolate(four(s), size=x.shape[-2:], mode="nearest")), 1))


def concatenated_bilinear(gate, x, s):
    up = F.interpolate(four(s), x.size()[2:], mode="bilinear", align_corners=False)
    return gate.mix(torch.cat((x, up), 1))


def concatenated_repeat(gate, x, s):
    return gate.mix(torch.cat((four(s).repeat(1, 1, x.size(2), x.size(3)), x), 1))


def padded(gate, x, s):
    h, w = x.shape[2] - 1, x.shape[3] - 1
    return x * F.pad(four(s), (w // 2, (w + 1) // 2, h // 2, (h + 1) // 2), mode="replicate")


def film(gate, x, s):
    scale, shift = gate.film(s)[..., None, None].chunk(2, dim=1)
    return x * (1 + scale) + shift


def slow_film(gate, p, s):
    both = dense(gate.film, s)
    c = p.shape[1]
    return p * (1 + both[:, :c]) + both[:, c:]


def in_place(gate, x, s):
    y = x.clone()
    y *= four(s).sigmoid()
    y.add_(0.1)
    return y


def half(gate, x, s):
    a, b = x.chunk(2, dim=1)
    return torch.cat([a * four(s[:, : a.shape[1]]), b], dim=1)


def slow_half(gate, p, s):
    k = p.shape[1] // 2
    return torch.cat([p[:, :k] * s[:, :k], p[:, k:]], 1)


def factory(gate, x, s):
    ramp = torch.linspace(-1, 1, x.shape[1], dtype=x.dtype, device=x.device)
    return x * (s + ramp)[:, :, None, None]


def matrix(gate, x, s):
    m = gate.matrix(s).view(-1, x.shape[1], x.shape[1])
    return torch.einsum("bij,bjhw->bihw", m, x)


def matrix_bmm(gate, x, s):
    b, c, h, w = x.shape
    m = gate.matrix(s).view(b, c, c)
    return torch.bmm(m, x.view(b, c, h * w)).view(b, c, h, w)


def slow_matrix(gate, p, s):
    c = p.shape[1]
    return (dense(gate.matrix, s).reshape(-1, c, c) * p[:, None, :]).sum(-1)


def grouped(gate, x, s):
    b, c, h, w = x.shape
    return F.conv2d(x.reshape(1, b * c, h, w), s.reshape(b * c, 1, 1, 1), groups=b * c).view_as(x)


CONTACTS = (
    Contact(
        "x · sigmoid(s)", lambda g, x, s: x * four(s).sigmoid(), lambda g, p, s: p * s.sigmoid()
    ),
    Contact("view and expand_as", view_and_expand, lambda g, p, s: p * s.sigmoid()),
    Contact("s added", lambda g, x, s: x + four(s), lambda g, p, s: p + s),
    Contact("gate of channels last", last_channels, lambda g, p, s: p * s.sigmoid()),
    Contact("gate of a flat map", flat_map, lambda g, p, s: p * s.tanh()),
    Contact(
        "gate by einsum", lambda g, x, s: torch.einsum("bchw,bc->bchw", x, s), lambda g, p, s: p * s
    ),
    Contact(
        "concatenated, expand", concatenated, lambda g, p, s: dense(g.mix, torch.cat([p, s], 1))
    ),
    Contact(
        "concatenated, nearest",
        concatenated_nearest,
        lambda g, p, s: dense(g.mix, torch.cat([p, s], 1)),
    ),
    Contact(
        "concatenated, bilinear",
        concatenated_bilinear,
        lambda g, p, s: dense(g.mix, torch.cat([p, s], 1)),
    ),
    Contact(
        "concatenated, repeat",
        concatenated_repeat,
        lambda g, p, s: dense(g.mix, torch.cat([s, p], 1)),
    ),
    Contact("padded to the map", padded, lambda g, p, s: p * s),
    Contact("scale and shift", film, slow_film),
    Contact("gate in place", in_place, lambda g, p, s: p * s.sigmoid() + 0.1),
    Contact("gate of half the channels", half, slow_half),
    Contact(
        "softmax over channels",
        lambda g, x, s: x * torch.softmax(s, 1).view(-1, x.shape[1], 1, 1),
        lambda g, p, s: p * s.exp() / s.exp().sum(1, keepdim=True),
    ),
    Contact(
        "lerp",
        lambda g, x, s: torch.lerp(x, four(s).expand_as(x), 0.3),
        lambda g, p, s: 0.7 * p + 0.3 * s,
    ),
    Contact(
        "clamp by a tensor",
        lambda g, x, s: torch.clamp(x, max=four(s) + 0.2),
        lambda g, p, s: torch.minimum(p, s + 0.2),
    ),
    Contact(
        "where above s",
        lambda g, x, s: torch.where(x > four(s), x, 0.1 * x),
        lambda g, p, s: p * (0.1 + 0.9 * (p > s)),
    ),
    Contact(
        "x ÷ (|s| + 1)",
        lambda g, x, s: x.sub(four(s)).div(four(s).abs() + 1),
        lambda g, p, s: (p - s) / (s.abs() + 1),
    ),
    Contact(
        "dtype factory",
        factory,
        lambda g, p, s: p * (s + torch.linspace(-1, 1, p.shape[1], dtype=p.dtype)),
    ),
    Contact("gate as a grouped convolution", grouped, lambda g, p, s: p * s),
    Contact(
        "gate as a diagonal matrix",
        lambda g, x, s: (torch.diag_embed(s) @ x.flatten(2)).view_as(x),
        lambda g, p, s: p * s,
    ),
    Contact(
        "addcmul",
        lambda g, x, s: torch.addcmul(x, x, four(s), value=0.5),
        lambda g, p, s: p + 0.5 * p * s,
    ),
    Contact("colour matrix by einsum", matrix, slow_matrix),
    Contact("colour matrix by bmm", matrix_bmm, slow_matrix),
)

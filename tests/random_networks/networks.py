"""A random network from one seed, in the ordinary form and as a slow local reference.

The parts of a network know both: `forward` runs as people write it, `slow` follows the law of
windows. Only the blocks of the grammar have global operations.
"""

import random
from collections import Counter
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from random_networks.blocks import BLOCKS
from random_networks.contacts import CONTACTS, HEADS, Gate
from random_networks.mixing import LOCAL, MIXING
from random_networks.norms import NORMS
from random_networks.spelling import Block, Contact, Size, Statistic, by_windows
from random_networks.statistics import STATISTICS

TRAIN_SIZES: tuple[Size, ...] = ((16, 16), (12, 16), (16, 20), (20, 20))
WINDOWS = (0.8, 1.0, 1.2)
"""Window ÷ training size; a tenth of the networks has `WIDE`, for equality at large sizes."""

WIDE = 3.2

Spelling = Statistic | Contact | Block
SPELLINGS: dict[str, Spelling] = {
    s.name: s for group in (STATISTICS, CONTACTS, NORMS, BLOCKS, MIXING, LOCAL) for s in group
}
assert len(SPELLINGS) == sum(map(len, (STATISTICS, CONTACTS, NORMS, BLOCKS, MIXING, LOCAL)))


@dataclass(frozen=True)
class Sizes:
    """Training size and window in input pixels, and how much smaller a map is."""

    train: Size
    window: Size
    scale: int = 1

    def on_map(self) -> Size:
        """The window on the map: (feature size in training) · window // training size."""
        first, second = (
            (t // self.scale) * w // t for t, w in zip(self.train, self.window, strict=True)
        )
        return (first, second)


class Conv(nn.Conv2d):
    """A convolution that keeps the size, or halves it."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1):
        super().__init__(before, after, kernel, stride, kernel // 2)

    def slow(self, x: Tensor, sizes: Sizes) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)


class Act(nn.GELU):
    def slow(self, x: Tensor, sizes: Sizes) -> Tensor:
        return F.gelu(x)


class Site(nn.Module):
    """A block of the grammar in its surroundings."""

    def __init__(self, block: nn.Module, slow, inline: bool = False, slow_map=None):
        super().__init__()
        self.block, self.by_law, self.by_map, self.inline = block, slow, slow_map, inline

    def forward(self, x):
        return self.block.forward(x) if self.inline else self.block(x)

    def slow(self, x: Tensor, sizes: Sizes) -> Tensor:
        if self.by_map is not None:
            return self.by_map(self.block, x, sizes.on_map())
        if self.by_law is None:  # it has no global operation
            return self.block(x)
        return by_windows(lambda w: self.by_law(self.block, w), x, sizes.on_map())


class Chain(nn.Sequential):
    def slow(self, x, sizes):
        for part in self:
            x = part.slow(x, sizes)
        return x


class Listed(nn.Module):
    """The same as a ModuleList and a loop."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        for i in range(len(self.parts)):
            x = self.parts[i](x)
        return x

    def slow(self, x, sizes):
        return Chain.slow(self.parts, x, sizes)


class Skip(nn.Module):
    """x + body(x)."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return x + self.body(x)

    def slow(self, x, sizes):
        return self.body.slow(x, sizes) + x


class Twice(nn.Module):
    """One body, called twice."""

    def __init__(self, body, channels):
        super().__init__()
        self.body, self.between = body, Conv(channels, channels, 1)

    def forward(self, x):
        return self.body(self.between(self.body(x)))

    def slow(self, x, sizes):
        return self.body.slow(self.between.slow(self.body.slow(x, sizes), sizes), sizes)


class Halved(nn.Module):
    """A body at half the size, upsampled and added."""

    def __init__(self, body, channels, how):
        super().__init__()
        self.down, self.body, self.how = Conv(channels, channels, 3, 2), body, how
        self.up = nn.ConvTranspose2d(channels, channels, 2, 2)

    def forward(self, x):
        return x + self.upsample(self.body(self.down(x)), x)

    def slow(self, x, sizes):
        half = Sizes(sizes.train, sizes.window, 2 * sizes.scale)
        return x + self.upsample(self.body.slow(self.down.slow(x, sizes), half), x)

    def upsample(self, y, x):
        if self.how == "transposed":
            return self.up(y)[..., : x.shape[2], : x.shape[3]]
        if self.how == "nearest":
            return F.interpolate(y, size=x.shape[2:], mode="nearest")
        return F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)


class Network(nn.Module):
    """Head, body and tail, with or without a skip of the image."""

    def __init__(self, channels, kernel, body, skip):
        super().__init__()
        self.head, self.body = Conv(3, channels, kernel), body
        self.tail, self.skip = Conv(channels, 3, kernel), skip

    def forward(self, x):
        y = self.tail(self.body(self.head(x)))
        return x + y if self.skip else y

    def slow(self, x, sizes):
        y = self.tail.slow(self.body.slow(self.head.slow(x, sizes), sizes), sizes)
        return x + y if self.skip else y


@dataclass
class Made:
    """A network and what it is made of.

    Attributes:
        net: float64; in eval mode, or in training mode if a block is meant for it.
        sizes: training size and window.
        spellings: names, in the order in which they were drawn.
        halved: True if a part works at half the size.
        multiple: height and width have to be multiples of it.
    """

    net: Network
    sizes: Sizes
    spellings: list[str] = field(default_factory=list)
    halved: bool = False
    multiple: int = 1

    @property
    def calls(self) -> int:
        """An upper bound of the calls of blocks in one forward."""
        counts = Counter(type(m) for m in self.net.modules())
        return counts[Site] * (2 if counts[Twice] else 1)

    def laws(self) -> set[str]:
        """The laws of its spellings."""
        return {getattr(SPELLINGS[name], "law", "windows") for name in self.spellings}

    def must_convert(self) -> bool:
        """True if every spelling converts."""
        return all(SPELLINGS[name].converts for name in self.spellings)

    def covered(self) -> tuple[Size, Size]:
        """The largest size whose maps every window covers, and a smaller one, odd if it may be."""
        return self._covered(0), self._covered(3)

    def _covered(self, less: int) -> Size:
        scale = 2 if self.halved else 1
        window = Sizes(self.sizes.train, self.sizes.window, scale).on_map()
        first, second = (
            max(self._step(), (min(w, k * scale) - less) // self._step() * self._step())
            for w, k in zip(self.sizes.window, window, strict=True)
        )
        if self.multiple > 1:  # grids have windows of the training size
            first, second = min(first, self.sizes.train[0]), min(second, self.sizes.train[1])
        return (first, second)

    def _step(self) -> int:
        return self.multiple * (2 if self.halved and self.multiple > 1 else 1)

    def large(self) -> Size:
        """An odd, non-square size above the window; a multiple where the blocks need one."""
        step = self._step()
        size = (self.sizes.window[0] + 5) | 1, (self.sizes.window[1] + 14) | 1
        return (-(-size[0] // step) * step, -(-size[1] // step) * step)


class _Drawing:
    """Draws parts; collects what it has drawn."""

    def __init__(self, seed: int, allowed: frozenset[str], only: tuple[str, ...] = ()):
        self.random, self.allowed = random.Random(seed), allowed
        self.only, self.spellings, self.halved = list(only), [], False
        self.channels = self.random.choice((4, 6, 8))

    def site(self) -> Site:
        c, choice = self.channels, self.random.choice
        named = [SPELLINGS[self.only.pop(0)]] if self.only else []
        gate = not isinstance(named[0], Block) if named else self.random.random() < 0.5
        inline = self.random.random() < 0.15 and not named
        if gate:
            statistic = self._one(STATISTICS, named)
            contact = self._one(CONTACTS, named)
            module = Gate(statistic, choice(HEADS), contact, c)
            self.spellings += [statistic.name, contact.name]
            return Site(module, Gate.slow, inline)
        groups = (NORMS, NORMS, BLOCKS, BLOCKS, MIXING, LOCAL)
        block = named[0] if named else self._one(choice(groups), named)
        self.spellings.append(block.name)
        inline = inline and block.slow is not None
        return Site(block.make(c), block.slow, inline, block.slow_map)

    def _one(self, group, named):
        given = [s for s in group if s in named]
        if given or named:
            return (given or [group[0]])[0]
        return self.random.choice([s for s in group if s.name in self.allowed] or [group[0]])

    def body(self, blocks: int, depth: int = 0) -> nn.Module:
        c, draw = self.channels, self.random.random
        parts: list[nn.Module] = []
        while blocks:
            here = blocks if depth < 1 and draw() < 0.3 else 1
            nested = depth < 1 and (here > 1 or draw() < 0.35)
            part = self.body(here, depth + 1) if nested else self.site()
            blocks -= here
            kind = draw()
            if kind < 0.3:
                part = Skip(part)
            elif kind < 0.4 and here == 1:
                part = Twice(part, c)
            elif kind < 0.55 and not self.halved and depth == 0:
                how = self.random.choice(("transposed", "nearest", "bilinear"))
                part, self.halved = Halved(part, c, how), True
            parts.append(part)
            if draw() < 0.6:
                parts.append(Conv(c, c, self.random.choice((1, 3))))
            if draw() < 0.4:
                parts.append(Act())
        return (Listed if draw() < 0.3 else Chain)(*parts)


def draw_network(seed: int, allowed: frozenset[str] = frozenset(SPELLINGS)) -> Made:
    """Return the random network of a seed: 1 to 4 blocks of the allowed spellings."""
    drawing = _Drawing(seed, allowed)
    blocks = drawing.random.choice((1, 1, 2, 2, 3, 4))
    return _made(drawing, blocks, seed)


def network_of(*names: str, seed: int = 0) -> Made:
    """Return a small network with one block of each of these spellings."""
    drawing = _Drawing(seed, frozenset(SPELLINGS), names)
    return _made(drawing, len(names), seed)


def _made(drawing: _Drawing, blocks: int, seed: int) -> Made:
    choice = drawing.random.choice
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = drawing.body(blocks)
        net = Network(drawing.channels, choice((1, 3)), body, choice((True, False)))
    train = choice(TRAIN_SIZES)
    if any(getattr(SPELLINGS[name], "multiple", 1) > 1 for name in drawing.spellings):
        train = (16, 16)
    wide = drawing.random.random() < 0.1
    window = tuple(int(t * (WIDE if wide else choice(WINDOWS))) for t in train)
    spelled = [SPELLINGS[name] for name in drawing.spellings]
    multiple = max(getattr(s, "multiple", 1) for s in spelled)
    trains = any(getattr(s, "train_mode", False) for s in spelled)
    made = Made(net.double().train(trains), Sizes(train, window), drawing.spellings, drawing.halved)
    made.multiple = multiple
    return made

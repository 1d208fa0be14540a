"""A random network from one seed."""

import random
from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import nn

from random_networks.blocks import BLOCKS
from random_networks.contacts import CONTACTS, HEADS, Gate
from random_networks.mixing import LOCAL, MIXING
from random_networks.norms import NORMS
from random_networks.parts import (
    Act,
    Chain,
    Conv,
    Halved,
    Listed,
    Network,
    Site,
    Sizes,
    Skip,
    Twice,
)
from random_networks.spelling import Block, Contact, Size, Statistic
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

    def loose(self) -> bool:
        """True if it has no slow form."""
        return bool(self.laws() & {"loose", "grid"})

    def must_convert(self) -> bool:
        """True if every spelling converts."""
        return all(SPELLINGS[name].converts for name in self.spellings)

    def covered(self) -> tuple[Size, Size]:
        """The largest size whose maps every window covers, and a smaller one, odd if it may be."""
        return self._covered(0), self._covered(3)

    def _covered(self, less: int) -> Size:
        strides = (getattr(SPELLINGS[name], "stride", 1) for name in self.spellings)
        scale = (2 if self.halved else 1) * max(strides, default=1)
        window = Sizes(self.sizes.train, self.sizes.window, scale).on_map()
        first, second = (
            max(self._step(), (min(w, k * scale) - less) // self._step() * self._step())
            for w, k in zip(self.sizes.window, window, strict=True)
        )
        if "grid" in self.laws():
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

    def __init__(self, seed: int, only: tuple[str, ...] = ()):
        self.random, self.only = random.Random(seed), list(only)
        self.spellings, self.halved = [], False
        self.channels = self.random.choice((4, 6, 8))

    def site(self) -> Site:
        c, choice = self.channels, self.random.choice
        named = SPELLINGS[self.only.pop(0)] if self.only else None
        gate = not isinstance(named, Block) if named else self.random.random() < 0.5
        inline = named is None and self.random.random() < 0.15
        if gate:
            statistic = self._one(STATISTICS, named)
            contact = self._one(CONTACTS, named)
            module = Gate(statistic, choice(HEADS), contact, c)
            self.spellings += [statistic.name, contact.name]
            return Site(module, Gate.slow, inline)
        group = choice((NORMS, NORMS, BLOCKS, BLOCKS, MIXING, LOCAL))
        block = named or choice(group)
        self.spellings.append(block.name)
        inline = inline and block.slow is not None
        return Site(block.make(c), block.slow, inline, block.slow_map)

    def _one(self, group, named):
        """The named spelling if it is of this group, else its first; any if none is named."""
        if named is None:
            return self.random.choice(group)
        return named if named in group else group[0]

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


def draw_network(seed: int) -> Made:
    """Return the random network of a seed, with 1 to 4 blocks."""
    drawing = _Drawing(seed)
    blocks = drawing.random.choice((1, 1, 2, 2, 3, 4))
    return _made(drawing, blocks, seed)


def network_of(*names: str, seed: int = 0) -> Made:
    """Return a small network with one block of each of these spellings."""
    drawing = _Drawing(seed, names)
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

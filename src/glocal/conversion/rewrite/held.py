"""Arithmetic of maps and statistics that is held back, in case a statistic of it is asked for.

At a pixel, x - m is that pixel less the mean of its window. In a variance, it is every pixel of
the window less the mean of that one window: no map holds these numbers. But the mean of (x - m)²
is var(x) + (mean(x) - m)², which window statistics of x and m tell.
"""

from dataclasses import dataclass, replace
from typing import Self

from torch import fx

from glocal.conversion.rewrite.nodes import operation
from glocal.conversion.rewrite.program import Get

__all__ = ["Chain", "Weights"]


@dataclass(frozen=True)
class Chain:
    """What is done to a map by statistics, one thing after the other.

    Attributes:
        root: the map that the first of the steps reads.
        at: a node with the shape of `value`.
        value: the map, or exp(map - shift) from an exponential on, times what other maps it was
            multiplied by.
        steps: pointwise nodes, each of which reads the one before it.
        square: whether one of them squares.
        shift: see `value`.
    """

    root: fx.Node
    at: fx.Node
    value: Get
    steps: tuple[fx.Node, ...] = ()
    square: bool = False
    shift: Get | None = None

    @classmethod
    def of(cls, node: fx.Node, value: Get) -> Self:
        """A chain without steps."""
        return cls(node, node, value)

    def then(self, node: fx.Node, square: bool = False) -> Self:
        """The chain with one more step."""
        return replace(self, steps=(*self.steps, node), square=self.square or square)

    @property
    def centred(self) -> bool:
        """Whether a step adds or takes off something."""
        return any(operation(step) in ("add", "sub", "rsub") for step in self.steps)

    @property
    def only_scales(self) -> bool:
        """Whether a product with another map may be made before the steps."""
        scales = all(operation(step) in ("mul", "div") for step in self.steps)
        return not self.square and (scales or self.shift is not None)

    @property
    def only_shifts(self) -> bool:
        """Whether the steps, as in map + number, are taken out of an exponential as a factor."""
        before = (self.root, *self.steps)
        return not self.square and all(
            operation(step) in ("add", "sub") and step.args[0] is previous
            for step, previous in zip(self.steps, before, strict=False)
        )


@dataclass(frozen=True)
class Weights:
    """A softmax over the map, perhaps times another map: `values` ÷ the sum of `powers`.

    Attributes:
        values, at: the numerator, and a node of its shape.
        powers, powers_at: the exponentials, and a node of their shape.
    """

    values: Get
    at: fx.Node
    powers: Get
    powers_at: fx.Node

"""The parts of polynomials: plain maps, and coefficients of a value per window.

Everything here is symbolic, see `polynomials`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import fx

__all__ = [
    "Applied",
    "Coefficient",
    "Computed",
    "Exponential",
    "Given",
    "Moment",
    "OverWindow",
    "Pixels",
    "Plain",
    "Product",
    "Rearranged",
    "Shift",
    "Source",
    "Total",
    "Viewed",
    "compute",
    "nodes_of",
    "parts_of",
    "statistics_in",
]

# ---- maps that contain no statistic


@dataclass(frozen=True)
class Plain:
    """The map of a node."""

    node: fx.Node


@dataclass(frozen=True)
class Product:
    """The product of two maps."""

    first: "Source"
    second: "Source"


@dataclass(frozen=True)
class Total:
    """The sum of maps."""

    parts: tuple["Source", ...]


@dataclass(frozen=True)
class Exponential:
    """exp(map - shift); the shift is the same for all windows."""

    of: "Source"


@dataclass(frozen=True)
class Applied:
    """The pointwise operation of a node on another map, or on the negative of it."""

    node: fx.Node
    of: "Source"
    negative: bool = False


@dataclass(frozen=True)
class Rearranged:
    """The views of nodes, one after the other, of another map."""

    steps: tuple[fx.Node, ...]
    of: "Source"


Source = Plain | Product | Total | Exponential | Applied | Rearranged

# ---- coefficients: one value per window


@dataclass(frozen=True)
class Given:
    """An operand that is not a map: a statistic, a parameter, a size or a number."""

    value: fx.Node | float


@dataclass(frozen=True, eq=False)
class Computed:
    """A function of coefficients and numbers."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Moment:
    """The mean of a map over the window, or of a product of deviations from means."""

    maps: tuple[Source, ...]


@dataclass(frozen=True)
class OverWindow:
    """Another statistic of a map over the window, of a kind of `window_statistic`."""

    kind: Literal["amax", "amin", "norm", "logsumexp"]
    map: Source


@dataclass(frozen=True)
class Pixels:
    """The number of values over which a `Moment` of the map averages."""

    map: Source


@dataclass(frozen=True)
class Shift:
    """The shift of an `Exponential`."""

    map: Exponential


@dataclass(frozen=True, eq=False)
class Viewed:
    """The views of nodes of a coefficient: what they do to a map of one pixel.

    Attributes:
        steps: the nodes.
        of: the coefficient.
        item_shape: shape to expand it to first, without the batch and with one pixel.
    """

    steps: tuple[fx.Node, ...]
    of: "Coefficient"
    item_shape: tuple[int, ...]


Coefficient = Given | Computed | Moment | OverWindow | Pixels | Shift | Viewed


def compute(function: Callable[..., Any], *arguments: Any) -> Computed:
    """Return a function of coefficients and numbers."""
    return Computed(function, arguments)


def nodes_of(source: Source) -> list[fx.Node]:
    """Return the nodes from whose maps a map is made."""
    match source:
        case Plain():
            return [source.node]
        case Product():
            return [*nodes_of(source.first), *nodes_of(source.second)]
        case Total():
            return [node for part in source.parts for node in nodes_of(part)]
        case _:
            return nodes_of(source.of)


def statistics_in(c: Any) -> list[Moment | OverWindow]:
    """Return the window statistics that a coefficient is computed from, in order."""
    return [part for part in parts_of(c) if isinstance(part, Moment | OverWindow)]


def parts_of(c: Any) -> Iterator[Any]:
    """Yield a coefficient and all that it is computed from."""
    yield c
    match c:
        case Computed():
            for each in c.arguments:
                yield from parts_of(each)
        case Viewed():
            yield from parts_of(c.of)

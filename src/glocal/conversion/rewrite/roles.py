"""The roles that nodes of a captured block can have in its local form.

`classify` gives every node one of these; `rewriter` emits each role with one function.
"""

from dataclasses import dataclass

from torch import fx

from glocal.conversion.rewrite.deferred import DeferredSoftmax
from glocal.conversion.rewrite.meeting import Filter, Product
from glocal.conversion.rewrite.mixtures import Mixture
from glocal.conversion.rewrite.polynomials import Polynomial
from glocal.conversion.rewrite.reductions import Reduction
from glocal.conversion.rewrite.regions import Region
from glocal.conversion.rewrite.statistic_forms import StatisticForm
from glocal.conversion.rewrite.terms import Coefficient, Source

__all__ = [
    "Alias",
    "AtPixels",
    "Combined",
    "FilterAtPixels",
    "HalfReduction",
    "InWindows",
    "Joined",
    "MapReduction",
    "MixtureAtPixels",
    "Norm",
    "NormOfCombined",
    "OnJoined",
    "OnStatistics",
    "Ordinary",
    "PixelSoftmax",
    "ProductAtPixels",
    "Rearranged",
    "Role",
    "ScaledSoftmax",
    "StripPart",
    "ViewedSoftmax",
]


@dataclass(frozen=True)
class Ordinary:
    """Runs as in the original."""


@dataclass(frozen=True)
class InWindows:
    """Runs on overlapping windows, as a part of a region."""

    region: Region


@dataclass(frozen=True)
class Norm:
    """A normalisation over the pixels, with this number of groups of channels."""

    groups: int


@dataclass(frozen=True)
class HalfReduction:
    """The first of two reductions that each reduce one axis of the map `source`."""

    source: fx.Node
    reduction: Reduction


@dataclass(frozen=True)
class MapReduction:
    """A reduction over the pixels of `source`, a map or deferred operations on one.

    Attributes:
        source: the operand.
        reduction: what it reduces.
        deferred: the softmax that the operand is, or the statistic of what was deferred.
        form: of the result.
    """

    source: fx.Node
    reduction: Reduction
    deferred: Coefficient | DeferredSoftmax | None
    form: StatisticForm


@dataclass(frozen=True)
class OnStatistics:
    """Runs on the statistics of all windows at once; `lead` is the first of them."""

    lead: fx.Node
    form: StatisticForm


@dataclass(frozen=True)
class Alias:
    """Has the same local form as the statistic `of`, such as its expansion."""

    of: fx.Node
    form: StatisticForm


@dataclass(frozen=True)
class Combined:
    """Pointwise, on pixels and statistics: deferred, because a reduction may follow."""

    polynomial: Polynomial


@dataclass(frozen=True)
class Rearranged:
    """A view of a map that is `Combined`."""

    polynomial: Polynomial


@dataclass(frozen=True)
class NormOfCombined:
    """A normalisation over the pixels of a map that is `Combined`."""

    mean: Coefficient
    variance: Coefficient
    groups: int


@dataclass(frozen=True)
class AtPixels:
    """Pointwise: runs for each pixel, with statistics and sizes of its window."""


@dataclass(frozen=True)
class ProductAtPixels:
    """A product of each pixel and the statistics of its window."""

    product: Product


@dataclass(frozen=True)
class FilterAtPixels:
    """A convolution with the predicted filter of each pixel's window."""

    filter: Filter


@dataclass(frozen=True)
class MixtureAtPixels:
    """Reads a weighted sum of tensors; each pixel has the weights of its window."""

    mixture: Mixture


@dataclass(frozen=True)
class PixelSoftmax:
    """A softmax over the pixels of the map `of`, possibly plus a statistic."""

    softmax: DeferredSoftmax
    of: Source


@dataclass(frozen=True)
class ViewedSoftmax:
    """A view of the softmax `source`."""

    softmax: DeferredSoftmax
    source: fx.Node


@dataclass(frozen=True)
class ScaledSoftmax:
    """The softmax `source` times the map `factor`."""

    softmax: DeferredSoftmax
    source: fx.Node
    factor: fx.Node


@dataclass(frozen=True)
class Joined:
    """Strips that are joined along one dim.

    Attributes:
        parts: their forms, in order.
        dim: along which they are joined.
    """

    parts: tuple[StatisticForm, ...]
    dim: int


@dataclass(frozen=True)
class OnJoined:
    """Role: runs on each part of joined strips; the first such node joins statistics."""

    joined: Joined


@dataclass(frozen=True)
class StripPart:
    """Role: a part of the joined strips `of`."""

    of: fx.Node
    part: int
    form: StatisticForm


Role = (
    Ordinary
    | InWindows
    | Norm
    | HalfReduction
    | MapReduction
    | OnStatistics
    | Alias
    | Combined
    | NormOfCombined
    | Rearranged
    | AtPixels
    | ProductAtPixels
    | FilterAtPixels
    | MixtureAtPixels
    | PixelSoftmax
    | ViewedSoftmax
    | ScaledSoftmax
    | OnJoined
    | StripPart
)

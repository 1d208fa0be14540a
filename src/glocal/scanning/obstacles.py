"""Decide whether a map of local values can replace a statistic, and if not, why.

A statistic has one value per channel. Its local form is a map with one value per pixel. The code
that uses the statistic must accept the map: work element by element or per pixel, and combine it
with maps of the same size only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from glocal.scanning.dims import Dim, MapSize, product, roles
from glocal.scanning.modules import ancestors
from glocal.scanning.recorder import Call

__all__ = ["Use", "obstacle", "owner"]

# Operations that treat every pixel of a map as they treat the single value of a statistic.
_PER_PIXEL = frozenset("clone alias as_strided detach _to_copy prelu _prelu_kernel expand".split())
# Operations that do so along the channels, dim 1.
_PER_CHANNEL = frozenset("cat split split_with_sizes slice mean sum amax".split())


@dataclass(frozen=True)
class Use:
    """A call that reads a statistic.

    Attributes:
        call: as recorded.
        dims: of each of its outputs.
        maps: sizes of the maps whose statistics it reads; None for one that is not known.
    """

    call: Call
    dims: tuple[tuple[Dim, ...], ...]
    maps: frozenset[MapSize | None]

    @property
    def meets_map(self) -> bool:
        """Whether its outputs have height or width: it combines the statistic with a map."""
        return any(roles(dims) for dims in self.dims)


def owner(paths: Sequence[str]) -> str:
    """The path of the smallest module that contains all modules at `paths`.

    >>> owner(["encoder.0.pool", "encoder.0.gate.1", "encoder.0"])
    'encoder.0'
    >>> owner(["encoder.0.pool", "decoder"])
    ''
    """
    above = [set(ancestors(path)) for path in paths]
    return next(path for path in ancestors(paths[0]) if all(path in each for each in above))


def obstacle(made: Call, size: MapSize, uses: Iterable[Use], *, returned: bool) -> str | None:
    """Why a map cannot replace a statistic; None if it can.

    Args:
        made: the call that computes the statistic.
        size: of the map that it reduces.
        uses: the calls that read the statistic, directly or through each other.
        returned: whether the network returns values that contain it.
    """
    if not _one_pixel(made.outputs):
        return f"the statistic has the shape {_shape(made)} instead of (b, c, 1, 1)"
    meets_map = False
    for use in uses:
        meets_map |= use.meets_map
        problem = _not_with_map(use, size) if use.meets_map else _not_per_pixel(use, size)
        if problem:
            return f"{_place(use.call)} {problem}"
    if not meets_map:
        return "no later operation combines the statistic with a map"
    return "the network returns the statistic" if returned else None


def _not_with_map(use: Use, size: MapSize) -> str | None:
    if not (use.call.pointwise or use.call.name == "expand"):
        return "combines the statistic with a map, but not element by element"
    if any(len(dims) < 2 or (product(dims[-2]), product(dims[-1])) != size for dims in use.dims):
        return "combines the statistic with a map of another size"
    return None


def _not_per_pixel(use: Use, size: MapSize) -> str | None:
    call, arguments = use.call, use.call.arguments
    if not _one_pixel(call.outputs[:1]):
        return f"reshapes the statistic to {_shape(call)}"
    if not _one_pixel(call.outputs):  # batch norm: the mean and deviation that it stores
        return f"also returns values of the shape {_shape(call)}"
    if call.name == "convolution":
        weight = arguments["weight"]
        if weight.sources or not arguments["input"].sources:
            return "convolves with weights that are computed, not learned"
        if weight.shape[2:] != (1, 1):
            return "convolves the statistic with a kernel that is not 1x1"
        if any(arguments["padding"]) or any(step != 1 for step in arguments["stride"]):
            return "convolves the statistic with padding or stride"
        return None
    if call.pointwise or call.name in _PER_PIXEL:
        return None
    if call.name in _PER_CHANNEL and arguments.get("dim", 0) in (1, [1], -3, [-3]):
        if use.maps == {size}:
            return None
        return "combines the statistic with that of a map of another size"
    return "is not known to accept a map in place of the statistic"


def _one_pixel(shapes: Iterable[tuple[int, ...]]) -> bool:
    return all(len(shape) == 4 and shape[-2:] == (1, 1) for shape in shapes)


def _shape(call: Call) -> str:
    """The first shape of the outputs that is not (b, c, 1, 1)."""
    return str(next(shape for shape in call.outputs if not _one_pixel([shape])))


def _place(call: Call) -> str:
    """Return the function and line of the network's source, or the module."""
    where = call.line or (f"in module '{call.path}'" if call.path else "")
    return f"{call.function} ({where})" if where else call.function

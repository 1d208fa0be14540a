"""The decision table: which kind of global operation a call is, if any."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["BOTH", "REASONS", "TABLE", "Case", "Facts", "Kind", "Verdict", "classify"]

Kind = Literal["statistic", "mixing", "grid", "axis", "selection", "fourier", "unknown"]
"""What a global operation does:

- statistic: reduces height and width to one value (a mean over the map)
- mixing: mixes values along height and width and returns a map (normalisation, attention)
- grid: mixes the cells of a grid whose cells grow with the image (the grid branch of MAXIM)
- axis: mixes or reduces only the height or only the width
- selection: selects values of the map by position or rank
- fourier: Fourier transform of the map
- unknown: an operation that `aten` does not list
"""

Verdict = Kind | Literal["second half"] | None
"""A kind; "second half" of a statistic that an earlier call began; None for a local call."""

BOTH = frozenset("HW")
"""The axes of a map."""

REASONS: dict[Kind, str] = {
    "statistic": "no rule matches its module",
    "mixing": "no rule matches its module",
    "grid": "it mixes the cells of a grid that grows with the image",
    "axis": "it mixes the map along one axis only",
    "selection": "it selects values of the map by position or rank",
    "fourier": "it is a Fourier transform of the map",
    "unknown": "it is an operation that glocal does not know",
}
"""Why an operation stays global where neither a rule nor a rewrite makes it local."""


@dataclass(frozen=True)
class Facts:
    """Facts about one call from the shapes of three runs; axes are "H" and "W".

    Attributes:
        reads: axes of the map in its inputs.
        returns: axes of the map in its outputs.
        mixes: axes along which it mixes values.
        mixes_grid: it mixes cells of a grid that grows with the image.
        reduced: axes over which earlier calls have reduced the values that it reads, one axis
            each: "W" for the second call of `x.mean(3).mean(2)`.
        operands: number of tensors that it reads.
        from_input: it reads values that are computed from the network's input.
        selects: it selects values by position or rank.
        fourier: it is a Fourier transform.
        known: `aten` lists it, so that `mixes` is complete.
    """

    reads: frozenset[str] = frozenset()
    returns: frozenset[str] = frozenset()
    mixes: frozenset[str] = frozenset()
    mixes_grid: bool = False
    reduced: frozenset[str] = frozenset()
    operands: int = 1
    from_input: bool = True
    selects: bool = False
    fourier: bool = False
    known: bool = True

    @property
    def loses_map(self) -> bool:
        """Both axes go in and neither comes out."""
        return self.reads == BOTH and not self.returns

    @property
    def loses_axis(self) -> bool:
        """Both axes of its only operand go in and one comes out."""
        return self.reads == BOTH and len(self.returns) == 1 and self.operands == 1

    @property
    def is_global(self) -> bool:
        """It mixes the map, or a part of the map does not come out."""
        return bool(self.mixes) or self.mixes_grid or self.loses_map or self.loses_axis

    @property
    def completes(self) -> bool:
        """It reduces the axis that an earlier reduction has left."""
        one_axis = len(self.mixes) == 1 and not self.mixes_grid
        return one_axis and not self.returns and bool(self.reduced - self.mixes)


class Case(NamedTuple):
    """One row of the decision table.

    Attributes:
        when: the condition in words.
        holds: the condition.
        verdict: of the calls for which it is the first row that holds.
    """

    when: str
    holds: Callable[[Facts], bool]
    verdict: Verdict


TABLE = (
    Case("computed from sizes alone: a mask, a position", lambda f: not f.from_input, None),
    Case("reduces the axis that a reduction left", lambda f: f.completes, "second half"),
    Case("global, and selects values", lambda f: f.is_global and f.selects, "selection"),
    Case(
        "Fourier transform that returns a map",
        lambda f: f.fourier and f.mixes == BOTH == f.returns,
        "fourier",
    ),
    Case("mixes both axes, returns a map", lambda f: f.mixes == BOTH == f.returns, "mixing"),
    Case("mixes both axes, returns no map", lambda f: f.mixes == BOTH, "statistic"),
    Case("mixes the cells of a growing grid", lambda f: f.mixes_grid, "grid"),
    Case("mixes one axis", lambda f: bool(f.mixes), "axis"),
    Case("loses the map", lambda f: f.loses_map, "statistic"),
    Case("loses one axis", lambda f: f.loses_axis, "axis"),
    Case("unknown, and reads a map", lambda f: bool(f.reads) and not f.known, "unknown"),
    Case("anything else", lambda f: True, None),
)
"""In order: the first row whose condition holds decides."""


def classify(facts: Facts) -> Verdict:
    """The verdict of the first row of `TABLE` that holds.

    >>> classify(Facts(reads=BOTH, mixes=BOTH))  # x.mean((2, 3))
    'statistic'
    >>> classify(Facts(reads=BOTH, returns=BOTH, mixes=BOTH))  # F.instance_norm(x)
    'mixing'
    >>> classify(Facts(reads=BOTH, returns=BOTH))  # F.conv2d(x, weight)
    """
    return next(case.verdict for case in TABLE if case.holds(facts))

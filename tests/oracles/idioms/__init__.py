"""Blocks of published networks that use global operations, with slow references.

Each block is written as networks write it. What its local form has to compute follows from the
two laws in `idiom.py`, independently of any converter. One file per family of blocks.
"""

from oracles.idioms.axes import AXES
from oracles.idioms.blocks import BLOCKS
from oracles.idioms.cbam import CBAM
from oracles.idioms.einops_spelled import EINOPS
from oracles.idioms.grids import GRIDS
from oracles.idioms.idiom import Idiom, by_tiles, by_windows, statistic
from oracles.idioms.linear import LINEAR
from oracles.idioms.moments import MOMENTS
from oracles.idioms.peaks import PEAKS
from oracles.idioms.pixels import PIXELS
from oracles.idioms.pools import POOLS
from oracles.idioms.refused import REFUSED
from oracles.idioms.transposed import TRANSPOSED
from oracles.idioms.traps import TRAPS

IDIOMS: tuple[Idiom, ...] = (
    *POOLS,
    *PEAKS,
    *MOMENTS,
    *BLOCKS,
    *CBAM,
    *TRANSPOSED,
    *PIXELS,
    *LINEAR,
    *GRIDS,
    *EINOPS,
    *AXES,
    *REFUSED,
)

__all__ = ["IDIOMS", "TRAPS", "Idiom", "by_tiles", "by_windows", "statistic"]

"""How a TIFF file stores its samples, and where its tags contradict each other.

Decoders pass over tags that cannot all be true: they read other bytes as samples, or samples as
other colours.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = ["DEFLATE", "PACKBITS", "Layout", "contradiction"]

_NONE, PACKBITS, _OLD_JPEG = 1, 32773, 6
DEFLATE = (8, 32946)
_YCBCR = 6

_COLOURS = {0: 1, 2: 3, 3: 1, _YCBCR: 3}
"""Samples of a pixel that are colours, by the number of the photometric interpretation."""

_SLACK = 16
"""Bytes by which a strip may be longer than its samples: writers may align strips."""


class Layout(NamedTuple):
    """Where the samples of a TIFF file lie, and what they are.

    Attributes:
        places: position and number of bytes of each strip or tile.
        compression: its number.
        photometric: how samples are to be read: 2 is RGB, 8 is CIELAB, ...
        height, width: in pixels.
        rows: of a strip; of a tile if the file has tiles.
        across: width of a tile; 0 for strips.
        bits: of each sample of a pixel.
        samples: number of samples of a pixel.
        extras: how many of them are no colours; None if the file does not say.
        in_planes: whether each sample has strips or tiles of its own.
    """

    places: tuple[tuple[int, int], ...]
    compression: int
    photometric: int
    height: int
    width: int
    rows: int
    across: int
    bits: Sequence[int]
    samples: int
    extras: int | None
    in_planes: bool

    @property
    def number(self) -> int:
        """The strips or tiles that the sizes demand."""
        if not self.width or not self.rows:
            return 0
        columns = math.ceil(self.width / self.across) if self.across else 1
        planes = self.samples if self.in_planes else 1
        return math.ceil(self.height / self.rows) * columns * planes

    @property
    def nbytes(self) -> int:
        """Bytes of all samples, uncompressed."""
        return self._nbytes(self.width, self.height, self.samples)

    @property
    def most(self) -> int:
        """Bytes of samples in a whole strip or tile, uncompressed."""
        return self._nbytes(self.across or self.width, self.rows, self.samples)

    def sizes(self) -> Iterator[int] | None:
        """Bytes of samples in each strip or tile, uncompressed; None if they depend on more."""
        if len(set(self.bits)) > 1 or self.photometric == _YCBCR:  # colours may be subsampled
            return None
        samples = 1 if self.in_planes else self.samples
        if self.across:
            return iter([self._nbytes(self.across, self.rows, samples)] * self.number)
        tops = range(0, self.height, self.rows)
        planes = self.samples // samples
        return (
            self._nbytes(self.width, min(self.rows, self.height - top), samples)
            for _ in range(planes)
            for top in tops
        )

    def _nbytes(self, width: int, height: int, samples: int) -> int:
        return (width * samples * self.bits[0] + 7) // 8 * height


def contradiction(layout: Layout) -> str:
    """Say which tags contradict each other; empty if none do."""
    if layout.compression == _OLD_JPEG:  # the samples lie elsewhere
        return ""
    if len(layout.places) != layout.number:
        return f"it lists {len(layout.places)} strips or tiles, its size demands {layout.number}"
    colours, given = _COLOURS.get(layout.photometric, 1), layout.samples - (layout.extras or 0)
    # white is zero: always one colour
    if given < colours or (given > colours and layout.photometric == 0):
        return (
            f"it has {given} colours a pixel, which the photometric interpretation "
            f"{layout.photometric} does not fit"
        )
    sizes = layout.sizes()
    if layout.compression == _NONE and sizes is not None:
        row = layout.most // max(layout.rows, 1)
        for (_, nbytes), size in zip(layout.places, sizes, strict=True):
            if not size <= nbytes <= size + max(row - 1, _SLACK):
                return f"a strip of {nbytes} bytes cannot hold {size} bytes of samples alone"
    return ""

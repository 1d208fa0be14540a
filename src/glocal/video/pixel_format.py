"""Pixel formats of video: bit depth, and how coarse the chroma is."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, Self

from glocal.video.pyav import library

__all__ = ["PixelFormat"]

_CHROMA = {(0, 0): "444", (0, 1): "422", (1, 1): "420"}
"""Names by the halvings of the chroma along rows and columns."""

_BITS = (8, 9, 10, 12, 14, 16)


@dataclass(frozen=True)
class PixelFormat:
    """A planar format: luma and two chroma planes, one grey plane, or green, blue and red.

    Attributes:
        kind: of the planes.
        bits: of a sample.
        halvings: how many times the height and the width of the chroma are halved.
    """

    kind: Literal["yuv", "grey", "rgb"]
    bits: int
    halvings: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, name: str) -> Self:
        """The planar format that holds what a format of the library holds, but no alpha."""
        known = library().VideoFormat(name)
        depth = max((each.bits for each in known.components), default=8)
        bits = next(each for each in _BITS if each >= min(depth, 16))
        if name.startswith(("gray", "grey", "ya", "mono")):
            return cls("grey", bits)
        if known.is_rgb or known.has_palette:
            return cls("rgb", bits)
        down, along = 64 // known.chroma_height(64), 64 // known.chroma_width(64)
        return cls("yuv", bits, (down.bit_length() - 1, along.bit_length() - 1))

    @property
    def name(self) -> str:
        """As the library has it."""
        stem = {"grey": "gray", "rgb": "gbrp"}.get(self.kind)
        if stem is None:
            stem = f"yuv{_CHROMA.get(self.halvings, '')}p"
        return stem if self.bits == 8 else f"{stem}{self.bits}le"

    def within(self, names: Collection[str]) -> "PixelFormat | None":
        """The smallest format of these names that loses nothing of this one, or None."""
        candidates = [
            PixelFormat(self.kind, bits, halvings)
            for bits in _BITS
            if bits >= self.bits
            for halvings in reversed(_CHROMA if self.kind == "yuv" else {(0, 0): ""})
            if all(a <= b for a, b in zip(halvings, self.halvings, strict=True))
        ]
        return next((each for each in candidates if each.name in names), None)

    def __str__(self) -> str:
        """In words."""
        names = {(0, 0): "4:4:4", (0, 1): "4:2:2", (1, 1): "4:2:0"}
        what = {"grey": "grey", "rgb": "RGB"}.get(self.kind) or names.get(self.halvings, "YUV")
        return f"{self.bits} bit {what}"

    def matches(self, frame: Any) -> bool:
        """True if a frame of the library has its samples in this order."""
        return bool(frame.format.name.replace("yuvj", "yuv") == self.name)

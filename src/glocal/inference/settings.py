"""Settings of a restoration, which `tune` writes and `restore` reads.

A file of settings is a JSON object whose keys are the attributes of `Settings`, and "format"::

    {
      "format": 1,
      "model": "nafnet.pth",
      "train_size": [256, 256],
      "way": "crops",
      "stride": 2.0
    }

Missing keys have their default. Sizes are a side or [height, width], in pixels.
"""

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, Self

from torch import nn

from glocal.conversion.localize import localize
from glocal.errors import ArgumentError
from glocal.images.files import write_whole
from glocal.inference.geometry import Blend
from glocal.inference.options import Tiles
from glocal.inference.ways import DEFAULT_WAY, WAYS, Way, check_way, is_given, takes
from glocal.json_files import JsonError, read_json
from glocal.ops.windows import Size, as_size

__all__ = ["FORMAT", "Settings"]

FORMAT = 1
"""Format of the files; a reader refuses others."""


@dataclass(frozen=True)
class Settings:
    """How a network restores images: a way, and its options.

    >>> Settings(way="stitch", train_size=64, overlap=0.5).tiles()
    Tiles(size=(64, 64), halo=None, overlap=0.5, blend='linear')

    Attributes:
        way: see `Way`.
        train_size: of the training crops, a side or (height, width); by default as the network
            carries it (`glocal_train_size`), see `localize`.
        model: name of the network as on the command line: a file, an embedded model, or
            package.module:factory. None if the settings do not say.
        output: name or index of the output to take, for networks that return several.
        window: of operations on windows, a side or (height, width) in input pixels; by default
            that of `localize`. For "windows" and "auto".
        stride: largest distance between crops, as a multiple of their size; by default that of
            `localize`. For "crops" and "auto".
        keep_global: module paths, or patterns such as "encoder.*", to leave global.
        allow_global: leave operations global that cannot be converted. This and `keep_global`
            are for the ways that convert.
        tile: size of tiles, a side or (height, width); by default the training size.
        overlap: least overlap of tiles, in pixels or, below 1, as a fraction of the tile; an
            eighth by default.
        blend: how tiles are blended, see `Tiles`; "linear" by default. `tile`, `overlap` and
            `blend` are for "stitch".

    Raises:
        ArgumentError: a value is wrong, or has no effect in this way.
    """

    way: Way = DEFAULT_WAY
    train_size: int | Size | None = None
    model: str | None = None
    output: int | str | None = None
    window: int | Size | None = None
    stride: float | None = None
    keep_global: tuple[str, ...] = ()
    allow_global: bool = False
    tile: int | Size | None = None
    overlap: int | float | None = None
    blend: Blend | None = None

    def __post_init__(self) -> None:
        """Check the values; sizes become (height, width)."""
        object.__setattr__(self, "keep_global", _patterns(self.keep_global))
        if self.way not in WAYS:
            raise ArgumentError(f"way must be one of {', '.join(WAYS)}, got {self.way!r}")
        check_way(self.way, vars(self))
        for name in ("train_size", "window", "tile"):
            size = getattr(self, name)
            if size is not None:
                object.__setattr__(self, name, _size(name, size))
        for name, kind in (("model", str), ("output", int | str), ("allow_global", bool)):
            _check_type(name, getattr(self, name), kind)
        stride = self.stride
        if stride is not None and not (_is_number(stride) and 0 < stride < math.inf):
            raise ArgumentError(f"stride must be a number above 0, got {stride!r}")
        Tiles(overlap=self.overlap, blend=self.blend)

    @property
    def given_train_size(self) -> Size | None:
        """(height, width) of `train_size`, None if the settings state none."""
        return None if self.train_size is None else as_size(self.train_size, "train_size")

    def changed(self, **given: Any) -> Self:
        """These settings with other values; a value of None changes nothing.

        Options of these settings that have no effect in a new way are left out.

        >>> Settings("windows", 256, window=384).changed(way="full")
        Settings(way='full', train_size=(256, 256), model=None, ...)

        Raises:
            ArgumentError: a value is wrong, or has no effect.
        """
        given = {name: value for name, value in given.items() if value is not None}
        way = given.get("way", self.way)
        kept = {name: value for name, value in vars(self).items() if takes(way, name)}
        return type(self)(**kept | given)

    def network(self, model: nn.Module, **options: Any) -> nn.Module:
        """The network that runs: `model` itself, or its converted copy.

        For "degraded" it is a network that returns its input.

        Args:
            model: the original network.
            options: others of `localize`, such as `verify` and `precision`.

        Raises:
            GlocalError: as `localize`.
        """
        if self.way == "degraded":
            return nn.Identity()
        if self.way == "full" or self.way == "stitch":
            return model
        chosen: dict[str, Any] = {"window": self.window, "stride": self.stride}
        return localize(
            model,
            self.train_size,
            statistics=self.way,
            keep_global=self.keep_global,
            allow_global=self.allow_global,
            **{name: value for name, value in chosen.items() if value is not None},
            **options,
        )

    def tiles(self, train_size: int | Size | None = None) -> Tiles:
        """How `glocal.restore` divides an image in this way.

        Args:
            train_size: of the network, if the settings state none.

        Raises:
            ArgumentError: crop-and-stitch needs a size, and none is known.
        """
        if self.way != "stitch":
            return Tiles()
        size = self.tile or self.train_size or train_size
        if size is None:
            raise ArgumentError("crop-and-stitch needs the training size or the size of tiles")
        return Tiles(size, overlap=self.overlap, blend=self.blend or "linear")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read settings from a file.

        Raises:
            ArgumentError: the file cannot be read, has unknown keys or wrong values.
        """
        try:
            found: Any = read_json(path, object)
        except OSError as problem:
            raise ArgumentError(f"{path}: cannot be read ({problem.strerror})") from None
        except JsonError as problem:
            raise ArgumentError(f"{path}: is not a JSON file of settings ({problem})") from None
        if not isinstance(found, dict) or found.pop("format", None) != FORMAT:
            raise ArgumentError(
                f'{path}: is not a file of settings (a JSON object with "format": {FORMAT}); '
                "glocal tune writes one"
            )
        names = [each.name for each in fields(cls)]
        unknown = [key for key in found if key not in names]
        if unknown:
            raise ArgumentError(f"{path}: unknown key {unknown[0]!r}; known are {', '.join(names)}")
        try:
            return cls(**found)
        except ArgumentError as problem:
            raise ArgumentError(f"{path}: {problem}") from None

    def write(self, path: Path) -> None:
        """Write the settings to a file, which is replaced if it exists.

        Raises:
            ArgumentError: the file cannot be written.
        """
        write_whole(path, self.to_json() + "\n", ArgumentError)

    def to_json(self) -> str:
        """The settings as text of a file, without values that are not given."""
        given = {name: value for name, value in vars(self).items() if is_given(value)}
        return json.dumps({"format": FORMAT} | given, indent=2, ensure_ascii=False)


def _size(name: str, size: Any) -> Size:
    if not isinstance(size, int | list | tuple) or isinstance(size, bool):
        raise ArgumentError(f"{name} must be a side or [height, width] in pixels, got {size!r}")
    return as_size(tuple(size) if isinstance(size, list) else size, name)


def _check_type(name: str, value: object, kind: type | UnionType) -> None:
    right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if value is not None and not right:
        words = (
            "text"
            if kind is str
            else "true or false"
            if kind is bool
            else "a whole number or a name"
        )
        raise ArgumentError(f"{name} must be {words}, got {value!r}")


def _patterns(patterns: Any) -> tuple[str, ...]:
    patterns = (patterns,) if isinstance(patterns, str) else patterns
    if not isinstance(patterns, list | tuple) or not all(isinstance(p, str) for p in patterns):
        raise ArgumentError(f"keep_global must be a list of patterns, got {patterns!r}")
    return tuple(patterns)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

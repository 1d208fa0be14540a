"""The plan of a conversion: global operations of a network and their conversion."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

from glocal.errors import ArgumentError
from glocal.json_files import JsonError, parsed
from glocal.ops.windows import Precision, Size
from glocal.texts import size_text, text_table

__all__ = ["Plan", "Row", "Status"]

Status = Literal["local", "kept", "global"]
"""What happens to an operation: it becomes local, `keep_global` names it, or it stays global."""

MIN_SHARE = 1 / 12
"""Least pixels of a window without a warning, as a share of those of a training crop.

Just below the smallest published window: 75 of 256 pixels along each axis, a share of 0.086.
"""

FEW_PIXELS = 64
"""A map's window with fewer pixels has noisy statistics.

The variance of 64 independent values has a standard error of √(2/64) = 18 %.
"""

FEWER_THAN_TRAINED = 4
"""Noise matters where a window has this many times fewer pixels than the map had in training.

That doubles the standard error. A network whose maps were as small in training has learnt to
tolerate the noise.
"""


@dataclass(frozen=True)
class Row:
    """One global operation, or several of one module that one rule converts together.

    Attributes:
        path: path of the module that runs the operation; if a rule makes it local, of the module
            that the rule replaces. Empty for the network itself.
        operation: torch's name for the function ("adaptive_avg_pool2d"); several are joined by
            commas.
        line: the line of the network's source that calls it ("file.py:12"); empty if only modules
            of torch call it.
        feature: (height, width) of its map when the input has the training size; None if it is
            not known.
        window: (height, width) of its window in pixels of that map; None if it is not local.
        status: "local"; "kept" global because `keep_global` names it; or left "global".
        how: the rule or rewrite that makes it local, or why it stays global.
        source: "windows" of its map, or "crops" of the input, from which its statistics come.
    """

    path: str
    operation: str
    line: str
    feature: Size | None
    window: Size | None
    status: Status
    how: str
    source: Literal["windows", "crops"] = "windows"


@dataclass(frozen=True)
class Plan:
    """All global operations of a network; `print(plan)` shows them as a table.

    >>> row = Row("norm", "instance_norm", "net.py:3", (32, 32), (48, 48), "local", "instance norm")
    >>> print(Plan((64, 64), (96, 96), (row,)))
    training size 64x64, window 96x96 (input pixels)
    module  operation      line      map    window  how
    ------  -------------  --------  -----  ------  --------------------
    norm    instance_norm  net.py:3  32x32  48x48   local: instance norm
    1 local, 0 left global

    Attributes:
        train_size: (height, width) of the training crops in input pixels.
        window: (height, width) of the window in input pixels.
        rows: the operations, in the order in which they run.
        precision: "exact" or "fast" window statistics, as in `localize`.
        unproven: why `localize` did not prove the conversion; empty if it did.
        stride: largest distance between crops, as a multiple of their size.
        period: pixels after which the network divides an image in the same way; 0 if unknown.
    """

    train_size: Size
    window: Size
    rows: tuple[Row, ...]
    precision: Precision = "exact"
    unproven: str = ""
    stride: float = 1.0
    period: int = 0

    @property
    def takes_crops(self) -> bool:
        """True if statistics of the network come from crops."""
        return any(row.source == "crops" for row in self.rows)

    def with_status(self, status: Status) -> tuple[Row, ...]:
        """The rows with this status, in order."""
        return tuple(row for row in self.rows if row.status == status)

    def to_json(self) -> str:
        """The plan as JSON text; `from_json` reads it back."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """The plan in a text that `to_json` wrote.

        Raises:
            ArgumentError: the text is not a plan in JSON.
        """
        try:
            return parsed(text, cls, ignore_others=True)
        except JsonError as error:
            raise ArgumentError(
                f"not a plan in JSON: {error}; pass the text that Plan.to_json wrote"
            ) from None

    def __str__(self) -> str:
        table = [text_table([self.columns, *self.table_rows()])] if self.rows else []
        return "\n".join([self.heading(), *table, *self.closing()])

    columns: ClassVar[tuple[str, ...]] = ("module", "operation", "line", "map", "window", "how")
    """Headings of `table_rows`."""

    def heading(self) -> str:
        """The line above the table: the options."""
        return (
            f"training size {_text(self.train_size)}, window {_text(self.window)} (input pixels)"
            + (", fast statistics" if self.precision == "fast" else "")
            + (f", crops at most {self._stride_text()} apart" if self.takes_crops else "")
        )

    def table_rows(self) -> list[tuple[str, ...]]:
        """The operations as text."""
        how = {"local": "local: ", "kept": "kept global: ", "global": "GLOBAL: "}
        return [
            (
                row.path or "(the network)",
                row.operation,
                row.line,
                _text(row.feature),
                "crops" if row.source == "crops" else _text(row.window),
                how[row.status] + row.how,
            )
            for row in self.rows
        ]

    def closing(self) -> list[str]:
        """The lines below the table: numbers, what is not proven, warnings."""
        if not self.rows:
            return ["no global operations: nothing to convert"]
        doubt = [f"not proven: {self.unproven}"] if self.unproven else []
        return [self.summary(), *doubt, *(f"warning: {text}" for text in self.warnings())]

    def _stride_text(self) -> str:
        rows, columns = (max(1, round(n * self.stride)) for n in self.train_size)
        return size_text((rows, columns))

    def summary(self) -> str:
        """Return the numbers of local, left global and kept global operations."""
        count = Counter(row.status for row in self.rows)
        text = f"{count['local']} local, {count['global']} left global"
        return text + (f", {count['kept']} kept global" if count["kept"] else "")

    def sources(self) -> str:
        """Where the statistics of the local operations come from, in words.

        >>> row = Row("norm", "instance_norm", "net.py:3", (32, 32), (48, 48), "local", "", "crops")
        >>> Plan((64, 64), (96, 96), (row,)).sources()
        'statistics from crops of 64x64, at most 64x64 apart'
        """
        crops = f"crops of {_text(self.train_size)}, at most {self._stride_text()} apart"
        windows = f"windows of {_text(self.window)}"
        count = Counter(row.source for row in self.with_status("local"))
        if len(count) < 2:
            return f"statistics from {crops if count['crops'] else windows}"
        return (
            f"statistics of {count['crops']} from {crops}, of {count['windows']} from windows of "
            f"up to {_text(self.window)}"
        )

    def warnings(self) -> tuple[str, ...]:
        """Warnings that the window is too small for the statistics, each with a remedy.

        The smallest published windows (SFNet, FSNet) have 0.3 of the training size along each
        axis. Below that, or if the window of one map has too few pixels for a stable mean or
        variance, the statistics of a window follow image detail.

        >>> row = Row("norm", "instance_norm", "net.py:3", (32, 32), (6, 6), "local", "")
        >>> for text in Plan((64, 64), (12, 12), (row,)).warnings():
        ...     print(text)
        the window 12x12 has 3.5 % of the pixels of a training crop (64x64); ...
        instance_norm in 'norm' has windows of 6x6 = 36 pixels, but 1024 pixels in training; ...
        """
        local = [row for row in self.with_status("local") if row.source == "windows"]
        if not local:
            return ()
        remedy = "choose a larger window, or let `glocal tune` choose one"
        warned = []
        share = _area(self.window) / _area(self.train_size)
        if share < MIN_SHARE:
            warned.append(
                f"the window {_text(self.window)} has {share * 100:.1f} % of the pixels of a "
                f"training crop ({_text(self.train_size)}); the smallest published one "
                f"has 9 %: {remedy}"
            )
        small = [
            (_area(row.window), _trained(row.window, row.feature), row)
            for row in local
            if row.window
            and row.feature
            and _area(row.window) < FEW_PIXELS
            and _area(row.window) * FEWER_THAN_TRAINED <= _trained(row.window, row.feature)
        ]
        if small:
            pixels, trained, row = min(small, key=lambda each: each[:2])
            others = f" ({len(small) - 1} more have too few)" if len(small) > 1 else ""
            warned.append(
                f"{row.operation} in '{row.path or 'the network'}' has windows of "
                f"{_text(row.window)} = {pixels} pixels, but {trained} pixels in training{others}; "
                f"statistics of fewer than {FEW_PIXELS} pixels are noisy: {remedy}"
            )
        return tuple(warned)


def _area(size: Size) -> int:
    return size[0] * size[1]


def _trained(window: Size, feature: Size) -> int:
    """Return the number of pixels in training that a window of the map replaces."""
    return (1 if window[0] == 1 else feature[0]) * (1 if window[1] == 1 else feature[1])


def _text(size: Size | None) -> str:
    return "-" if size is None else size_text(size)

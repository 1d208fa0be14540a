"""The plan of a conversion: every global operation of a network and what became of it."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Literal

from glocal.errors import ArgumentError
from glocal.ops.windows import Precision, Size
from glocal.texts import size_text, text_table

__all__ = ["Plan", "Row", "Status"]

Status = Literal["local", "kept", "global"]

LEAST_SHARE = 1 / 12
"""Of a training crop's pixels in a window: just below the smallest published one, 75 of 256."""

FEW_PIXELS = 64
"""In a window. The variance of so many independent values is off by √(2/64) = 18 %, typically."""

FEWER = 4
"""Times fewer than in training, where that error was half as large or less. A network whose maps
were as small in training has learnt to live with it."""


@dataclass(frozen=True)
class Row:
    """One global operation, or several of one module that were converted together.

    Attributes:
        path: module path of the operation; of the replaced module where it is local.
        operation: what it is, in torch's names ("adaptive_avg_pool2d").
        line: "file.py:12", the line of the network's source that calls it.
        feature: (height, width) of the map it runs over when the input has the training size.
        window: (height, width) of the local window in pixels of that map, None if not local.
        status: "local"; "kept" global because the user wants it so; or left "global".
        how: the rule that converts it, or why it stays global.
    """

    path: str
    operation: str
    line: str
    feature: Size | None
    window: Size | None
    status: Status
    how: str


@dataclass(frozen=True)
class Plan:
    """All global operations of a network; print it for a table.

    Attributes:
        train_size: (height, width) of the training crops, input pixels.
        window: (height, width) of the window, input pixels.
        rows: one for each operation, in the order in which they run.
        precision: of window statistics.
    """

    train_size: Size
    window: Size
    rows: tuple[Row, ...]
    precision: Precision = "exact"

    def with_status(self, status: Status) -> tuple[Row, ...]:
        """The rows of one status."""
        return tuple(row for row in self.rows if row.status == status)

    def to_json(self) -> str:
        """The plan as JSON text; `from_json` reads it back."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """The plan that `to_json` wrote.

        Raises:
            ArgumentError: the text is not such a plan.
        """
        try:
            data = json.loads(text)
            rows = tuple(
                Row(**{**row, "feature": _pair(row["feature"]), "window": _pair(row["window"])})
                for row in data["rows"]
            )
            precision = data.get("precision", "exact")
            return cls(_size(data["train_size"]), _size(data["window"]), rows, precision)
        except (ValueError, KeyError, TypeError) as error:
            raise ArgumentError(f"not a plan in JSON: {error!r}") from None

    def __str__(self) -> str:
        head = (
            f"training size {_text(self.train_size)}, window {_text(self.window)} (input pixels)"
            + (", fast statistics\n" if self.precision == "fast" else "\n")
        )
        if not self.rows:
            return head + "no global operations: nothing to convert"
        table = [("module", "operation", "line", "map", "window", "how")]
        for row in self.rows:
            how = {"local": "local: ", "kept": "kept global: ", "global": "GLOBAL: "}[row.status]
            table.append(
                (
                    row.path or "(the network)",
                    row.operation,
                    row.line,
                    _text(row.feature),
                    _text(row.window),
                    how + row.how,
                )
            )
        warned = (f"warning: {text}" for text in self.warnings())
        return head + "\n".join([text_table(table), self.summary(), *warned])

    def summary(self) -> str:
        """One line: how many operations are local, kept and left global."""
        count = Counter(row.status for row in self.rows)
        text = f"{count['local']} local, {count['global']} left global"
        return text + (f", {count['kept']} kept global" if count["kept"] else "")

    def warnings(self) -> tuple[str, ...]:
        """Where the window is far below what the statistics were in training, and what to do.

        The smallest windows that were published for trained networks (SFNet, FSNet) are 0.3 of
        an axis. Below that, or where a map's own window has too few pixels for a steady mean or
        variance, a local operation follows the image's detail instead of its statistics.

        >>> row = Row("norm", "instance_norm", "net.py:3", (32, 32), (6, 6), "local", "")
        >>> for text in Plan((64, 64), (12, 12), (row,)).warnings():
        ...     print(text)
        the window 12x12 has 3.5 % of the pixels of a training crop (64x64); ...
        instance_norm in 'norm' runs over windows of 6x6 = 36 pixels, in training over ...
        """
        local = self.with_status("local")
        if not local:
            return ()
        remedy = "take a larger window, or let `glocal tune` choose one"
        warned = []
        share = _area(self.window) / _area(self.train_size)
        if share < LEAST_SHARE:
            warned.append(
                f"the window {_text(self.window)} has {share * 100:.1f} % of the pixels of a "
                f"training crop ({_text(self.train_size)}); published ones go down to 9 %: {remedy}"
            )
        starved = [
            (_area(row.window), _area(row.feature), row)
            for row in local
            if row.window
            and row.feature
            and _area(row.window) < FEW_PIXELS
            and _area(row.window) * FEWER <= _area(row.feature)
        ]
        if starved:
            pixels, trained, row = min(starved, key=lambda each: each[:2])
            others = f" (so do {len(starved) - 1} more)" if len(starved) > 1 else ""
            warned.append(
                f"{row.operation} in '{row.path or 'the network'}' runs over windows of "
                f"{_text(row.window)} = {pixels} pixels, in training over {trained}{others}; "
                f"statistics of so few are mostly noise: {remedy}"
            )
        return tuple(warned)


def _area(size: Size) -> int:
    return size[0] * size[1]


def _text(size: Size | None) -> str:
    return "-" if size is None else size_text(size)


def _size(value: Any) -> Size:
    height, width = value
    return (int(height), int(width))


def _pair(value: Any) -> Size | None:
    return None if value is None else _size(value)

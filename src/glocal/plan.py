"""The plan of a conversion: every global operation of a network and what became of it."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Literal

from glocal.errors import ArgumentError
from glocal.windows import Size

__all__ = ["Plan", "Row", "Status"]

Status = Literal["local", "kept", "global"]


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
    """

    train_size: Size
    window: Size
    rows: tuple[Row, ...]

    def having(self, status: Status) -> tuple[Row, ...]:
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
            return cls(_size(data["train_size"]), _size(data["window"]), rows)
        except (ValueError, KeyError, TypeError) as error:
            raise ArgumentError(f"not a plan in JSON: {error!r}") from None

    def __str__(self) -> str:
        head = (
            f"training size {_text(self.train_size)}, window {_text(self.window)} (input pixels)\n"
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
        widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in table
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return head + "\n".join(lines) + "\n" + self.summary()

    def summary(self) -> str:
        """One line: how many operations are local, kept and left global."""
        count = Counter(row.status for row in self.rows)
        text = f"{count['local']} local, {count['global']} left global"
        return text + (f", {count['kept']} kept global" if count["kept"] else "")


def _text(size: Size | None) -> str:
    return "-" if size is None else f"{size[0]}x{size[1]}"


def _size(value: Any) -> Size:
    height, width = value
    return (int(height), int(width))


def _pair(value: Any) -> Size | None:
    return None if value is None else _size(value)

"""Tables for a terminal of any width: no cell breaks inside a word."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glocal.texts import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

__all__ = ["FittedTable", "fitted_widths"]

_EDGE, _BETWEEN = 1, 3
"""Characters at the left edge, and those that each column takes beside its text."""


def fitted_widths(rows: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """Return the widths of columns whose sum is at most `width`; None if words do not fit.

    >>> fitted_widths([("method", "psnr"), ("crop-and-stitch 64/8", "30.25")], 30)
    [20, 5]
    >>> fitted_widths([("method", "psnr"), ("crop-and-stitch 64/8", "30.25")], 22)
    [17, 5]
    >>> fitted_widths([("method", "psnr"), ("crop-and-stitch 64/8", "30.25")], 19) is None
    True
    """
    columns = list(zip(*rows, strict=True))
    widths = [max(len(line) for cell in cells for line in cell.split("\n")) for cells in columns]
    least = [max((len(w) for cell in cells for w in cell.split()), default=0) for cells in columns]
    while sum(widths) > width:
        wider = [index for index, each in enumerate(widths) if each > least[index]]
        if not wider:
            return None
        widths[max(wider, key=widths.__getitem__)] -= 1
    return widths


@dataclass(frozen=True)
class FittedTable:
    """A table as wide as the terminal allows, or a block of lines for each row.

    Attributes:
        columns: headings.
        rows: one cell for each column.
        texts: number of columns, from the left, that contain names; the others contain numbers.
        bold: (row, column) of cells, counted from 0.
        title: of the table.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1
    bold: Collection[tuple[int, int]] = frozenset()
    title: str = ""

    def __rich_console__(
        self, console: "Console", options: "ConsoleOptions"
    ) -> "Iterator[RenderableType]":
        """Yield what fits."""
        yield self._fitted(options.max_width)

    def _fitted(self, width: int) -> "RenderableType":
        from rich import box
        from rich.table import Table
        from rich.text import Text

        room = width - _EDGE - _BETWEEN * len(self.columns)
        widths = fitted_widths([self.columns, *self.rows], room)
        if widths is None:
            return _blocks(self)
        made = Table(
            title=Text(self.title, style="self.bold") if self.title else None,
            title_justify="left",
            box=box.SIMPLE_HEAD,
        )
        for index, (column, each) in enumerate(zip(self.columns, widths, strict=True)):
            made.add_column(
                Text(column), justify="left" if index < self.texts else "right", width=each
            )
        for number, row in enumerate(self.rows):
            made.add_row(
                *(
                    Text(printable(cell), style="self.bold" if (number, index) in self.bold else "")
                    for index, cell in enumerate(row)
                )
            )
        return made


def _blocks(table: FittedTable) -> "RenderableType":
    """A line for each cell, under the first cell of its row."""
    from rich.text import Text

    text = Text()
    if table.title:
        text.append(f"{table.title}\n", style="bold")
    heads = [" ".join(column.split()) for column in table.columns]
    width = max(map(len, heads[1:]), default=0)
    for number, row in enumerate(table.rows):
        styles = ["bold" if (number, index) in table.bold else "" for index in range(len(row))]
        name = printable(row[0]).replace("\n", "\n ")
        text.append(f"\n {name}\n", style=styles[0])
        for head, cell, style in zip(heads[1:], row[1:], styles[1:], strict=True):
            text.append(f"   {head:<{width}}  ")
            text.append(f"{printable(cell)}\n", style=style)
    return text

"""The tables of an evaluation as text, for the command line and both reports."""

import math
from dataclasses import dataclass

from glocal.study.evaluation.methods import FULL_IMAGE
from glocal.study.evaluation.records import DEGRADED, Evaluation, Record
from glocal.study.intervals import Interval

__all__ = ["Table", "comparison_table", "image_table", "number", "summary_table"]

NOTHING = "–"
"""Text of a cell without a value."""


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: of the table.
        columns: headings.
        rows: one cell for each column.
        texts: number of columns, from the left, that contain names; the others contain numbers.
        best: (row, column) of the cells that hold the best value, counted from 0.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1
    best: frozenset[tuple[int, int]] = frozenset()


def summary_table(evaluation: Evaluation) -> Table:
    """Return a row per method: metrics, difference to the full image, time, memory."""
    compared = FULL_IMAGE in evaluation.methods
    heads = [
        head
        for metric in evaluation.metrics
        for head in ((metric, f"Δ {FULL_IMAGE}") if compared else (metric,))
    ]
    rows = []
    for method in evaluation.methods:
        cells = []
        for metric in evaluation.metrics:
            mean, gain = evaluation.mean(method, metric), evaluation.paired(method, metric)
            cells.append(number(metric, None if mean is None else mean.mean))
            if compared:
                cells.append(NOTHING if method == FULL_IMAGE else difference(metric, gain))
        seconds, memory = evaluation.seconds(method), evaluation.peak_memory_mib(method)
        rows.append((method, *cells, seconds_text(seconds), memory_text(memory)))
    count, total = len(evaluation.compared), len(evaluation.images)
    images = f"{count} of {total} images" if count < total else f"{count} images"
    title = "1 image" if count == total == 1 else f"Mean of {images}"
    step = 2 if compared else 1
    best = frozenset(
        (evaluation.methods.index(method), 1 + step * index)
        for index, metric in enumerate(evaluation.metrics)
        for method in evaluation.best(metric)
    )
    return Table(title, ("method", *heads, "seconds", "memory, MiB"), tuple(rows), best=best)


def comparison_table(evaluation: Evaluation) -> Table | None:
    """Compare each local method with the others; None if nothing can be compared.

    A local method is compared with those of the original network and with local ones before it.
    """
    converted = [method for method in evaluation.methods if method in evaluation.protocol.plans]
    others = [method for method in evaluation.methods if method not in (DEGRADED, *converted)]
    pairs = [
        (method, other)
        for index, method in enumerate(converted)
        for other in (*others, *converted[:index])
    ]
    if not pairs or not evaluation.metrics:
        return None
    heads = [head for metric in evaluation.metrics for head in (f"Δ {metric}", "better on")]
    rows = []
    for method, other in pairs:
        cells = []
        for metric in evaluation.metrics:
            wins = evaluation.wins(method, metric, other)
            cells.append(difference(metric, evaluation.paired(method, metric, other)))
            equal = f", {wins.equal} equal" if wins.equal else ""
            cells.append(f"{wins.better} of {sum(wins)}{equal}")
        ours, theirs = evaluation.seconds(method), evaluation.seconds(other)
        ratio = f"{ours / theirs:.2f}" if ours and theirs else NOTHING
        rows.append((f"{method} − {other}", *cells, ratio))
    title = "Local methods against the others"
    return Table(title, ("methods", *heads, "time ÷"), tuple(rows))


def image_table(evaluation: Evaluation) -> Table:
    """Return a row for each image and method."""
    rows = []
    for record in evaluation.records:
        values = [number(metric, record.metrics.get(metric)) for metric in evaluation.metrics]
        cells = (seconds_text(record.seconds), memory_text(record.peak_memory_mib))
        rows.append((record.image, size_text(record), record.method, *values, *cells))
    heads = ("image", "height × width", "method", *evaluation.metrics, "seconds", "memory, MiB")
    return Table("Every image", heads, tuple(rows), texts=3)


def number(metric: str, value: float | None) -> str:
    """Format a value of a metric: decibels to two places, others to four.

    >>> number("psnr", 31.4159), number("ssim", 0.9), number("psnr", None)
    ('31.42', '0.9000', '–')
    """
    return NOTHING if value is None else f"{value:.{2 if _is_decibel(metric) else 4}f}"


def difference(metric: str, interval: Interval | None) -> str:
    """Format a paired difference with its interval."""
    if interval is None or math.isnan(interval.mean):
        return NOTHING
    return interval.text(3 if _is_decibel(metric) else 4)


def seconds_text(value: float | None) -> str:
    """Format seconds to three figures.

    >>> seconds_text(0.01234), seconds_text(12.345), seconds_text(321.0)
    ('0.0123', '12.3', '321')
    """
    if value is None or value <= 0:
        return NOTHING
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def memory_text(value: float | None) -> str:
    """Format MiB without a fraction."""
    return NOTHING if value is None else f"{value:.0f}"


def size_text(record: Record) -> str:
    """Format height and width of an image."""
    return f"{record.size[0]} × {record.size[1]}"


def _is_decibel(metric: str) -> bool:
    return metric.startswith("psnr")
